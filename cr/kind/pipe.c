/*
 * pipe(2): all files of one pipefs inode are one pipe.
 *
 *   dump     the contents once, through the first readable end (pipe_data.c)
 *   restore  one pipe2() for all; the first file of each direction takes the end itself, further
 *            ones (opened through /proc: they show O_LARGEFILE) are opened the same way
 *
 * The engine's spare end must be closed before the tree runs, or a reader would never see the
 * end of file: settled() does.
 */
#include <fcntl.h>
#include <poll.h>

#include "kind/kinds.h"
#include "ns/ns.h"

struct pipe_seen {		/* dump */
	struct pipe_seen *next;
	const struct dump_file *first;
	bool has_data, reader, writer, outside_reader, outside_writer;
};

struct pipe_made {		/* restore */
	struct pipe_made *next;
	int end[2];		/* the engine's, not handed to any file yet; -EBADF */
	int any;		/* borrowed from a restored file or end[] while that lives */
	const struct cr_external *ext;
};

struct pipe_state {
	struct map by_id;	/* pipe_seen or pipe_made */
	struct map data;
	struct pipe_seen *seen;
	struct pipe_made *made;
};

static bool pipe_match(const struct dump_file *f)
{
	return S_ISFIFO(f->st.st_mode) && str_starts(f->link, "pipe:[");
}

static struct pipe_state *pipe_state(struct arena *a, void **kind_state)
{
	void **slot = &kind_state[FD_TYPES__PIPE];

	if (!*slot)
		*slot = ARENA_NEW(a, struct pipe_state);
	return *slot;
}

static int pipe_note(struct dump_ctx *ctx, struct dump_file *f, struct pipe_seen **ret)
{
	struct pipe_state *s = pipe_state(&ctx->arena, ctx->kind_state);
	struct pipe_seen *n;
	int r;

	if (!s)
		return -ENOMEM;
	n = map_get(&s->by_id, f->st.st_ino);
	if (!n) {
		n = ARENA_NEW(&ctx->arena, struct pipe_seen);
		if (!n)
			return -ENOMEM;
		n->first = f;
		n->next = s->seen;
		s->seen = n;
		r = map_put(&s->by_id, f->st.st_ino, n);
		if (r < 0)
			return r;
	}
	*ret = n;
	return 0;
}

/* Which ends the tree has, and whether the kernel knows of others. */
static void pipe_note_ends(struct pipe_seen *n, const struct dump_file *f)
{
	struct pollfd p = { .fd = f->fd };
	int mode = f->flags & O_ACCMODE;

	n->reader |= mode != O_WRONLY;
	n->writer |= mode != O_RDONLY;
	if (poll(&p, 1, 0) < 0)
		return;
	if (mode == O_RDONLY)
		n->outside_writer = !(p.revents & POLLHUP);
	if (mode == O_WRONLY)
		n->outside_reader = !(p.revents & POLLERR);
}

static int pipe_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	PipeEntry *e = ARENA_MSG(&ctx->arena, PipeEntry, pipe_entry);
	struct pipe_seen *n;
	struct image_writer *w = NULL;
	int r;

	if (!e)
		return log_err(-ENOMEM, "%s", f->link);
	f->fe->pipe = e;
	e->id = f->id;
	e->pipe_id = (uint32_t)f->st.st_ino;
	e->flags = f->flags;
	r = pipe_note(ctx, f, &n);
	if (r < 0)
		return log_err(r, "%s", f->link);
	pipe_note_ends(n, f);
	if (!n->has_data && (f->flags & O_ACCMODE) != O_WRONLY) {
		n->has_data = true;
		r = dump_writer(ctx, &ctx->w_pipes_data, &image_pipes_data, &w);
		if (r >= 0)
			r = pipe_data_dump(ctx, f, w);
		if (r < 0)
			return r;
	}
	return dump_fown(ctx, f, &e->fown);
}

static int pipe_dump_end(struct dump_ctx *ctx)
{
	struct pipe_state *s = pipe_state(&ctx->arena, ctx->kind_state);

	for (struct pipe_seen *n = s ? s->seen : NULL; n; n = n->next) {
		if (n->reader && !n->writer && n->outside_writer)
			log_warn("process %d fd %d: the writer of %s is not in the tree: after the"
				 " restore it reads as ended, unless --inherit-fd gives another",
				 n->first->owner->pid, n->first->t_fd, n->first->link);
		if (n->writer && !n->reader && n->outside_reader)
			log_warn("process %d fd %d: the reader of %s is not in the tree: after the"
				 " restore writing gives EPIPE, unless --inherit-fd gives another",
				 n->first->owner->pid, n->first->t_fd, n->first->link);
	}
	return 0;
}

static void pipe_dump_done(struct dump_ctx *ctx)
{
	struct pipe_state *s = ctx->kind_state[FD_TYPES__PIPE];

	if (s)
		map_done(&s->by_id);
}

static int pipe_prepare(struct restore_ctx *ctx)
{
	struct pipe_state *s = pipe_state(&ctx->arena, ctx->kind_state);

	if (!s)
		return log_err(-ENOMEM, "pipes");
	return pipe_data_load(ctx, &image_pipes_data, &s->data);
}

/* The inode belongs to whoever made the pipe: opening /dev/stdin anew needs it. */
static void pipe_chown(struct restore_ctx *ctx, const struct restore_file *f, int fd)
{
	const CoreEntry *core = f->owner ? f->owner->core : NULL;
	const CredsEntry *c = core && core->thread_core ? core->thread_core->creds : NULL;
	uint32_t uid = c ? ns_restore_uid(ctx, c->fsuid) : 0;
	uint32_t gid = c ? ns_restore_gid(ctx, c->fsgid) : 0;

	if ((uid || gid) && fchown(fd, uid, gid) < 0)
		log_warn("cannot give the pipe to %u:%u", uid, gid);
}

static int pipe_make(struct restore_ctx *ctx, struct restore_file *f, struct pipe_state *s,
		     struct pipe_made **ret)
{
	const PipeEntry *e = f->fe->pipe;
	struct pipe_made *m = ARENA_NEW(&ctx->arena, struct pipe_made);
	char key[32];
	int r;

	if (!m)
		return log_err(-ENOMEM, "pipe");
	m->end[0] = m->end[1] = m->any = -EBADF;
	snprintf(key, sizeof(key), "pipe:[%u]", e->pipe_id);
	m->ext = external_find(ctx->opts, key);
	if (m->ext && m->ext->fd < 0)
		m->ext = NULL;
	if (m->ext)
		m->any = m->ext->fd;
	else if (pipe2(m->end, O_CLOEXEC) < 0)
		return log_err(neg_errno(), "cannot create a pipe");
	m->next = s->made;
	s->made = m;
	r = map_put(&s->by_id, e->pipe_id, m);
	if (r < 0)
		return log_err(r, "pipe");
	*ret = m;
	if (m->ext)
		return 0;
	m->any = m->end[1];
	pipe_chown(ctx, f, m->any);
	return pipe_data_fill(m->end[1], map_get(&s->data, e->pipe_id));
}

static int pipe_take(struct pipe_made *m, const PipeEntry *e, int *ret_fd)
{
	int mode = e->flags & O_ACCMODE;
	int side = mode == O_WRONLY;

	if (!m->ext && mode != O_RDWR && m->end[side] >= 0 && !(e->flags & O_LARGEFILE)) {
		*ret_fd = take_fd(&m->end[side]);
		m->any = *ret_fd;
		return 0;
	}
	/* O_NONBLOCK: opening one end would wait for the other. F_SETFL puts the right flags. */
	return reopen_fd(m->any, mode | O_NONBLOCK, ret_fd);
}

static int pipe_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	struct pipe_state *s = pipe_state(&ctx->arena, ctx->kind_state);
	const PipeEntry *e = f->fe->pipe;
	_cleanup_close_ int fd = -EBADF;
	struct pipe_made *m;
	int r = 0;

	if ((e->flags & O_ACCMODE) > O_RDWR)
		return log_fail(-EBADMSG, "pipe %u: flags %o", e->pipe_id, e->flags);
	m = map_get(&s->by_id, e->pipe_id);
	if (!m)
		r = pipe_make(ctx, f, s, &m);
	if (r < 0)
		return r;
	r = pipe_take(m, e, &fd);
	if (r < 0)
		return log_err(r, "cannot open pipe %u again with flags %o", e->pipe_id, e->flags);
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

static void pipe_close_spare(struct restore_ctx *ctx)
{
	struct pipe_state *s = ctx->kind_state[FD_TYPES__PIPE];

	for (struct pipe_made *m = s ? s->made : NULL; m; m = m->next)
		for (int i = 0; i < 2; i++) {
			close_fdp(&m->end[i]);
			m->end[i] = -EBADF;
		}
}

static void pipe_restore_done(struct restore_ctx *ctx)
{
	struct pipe_state *s = ctx->kind_state[FD_TYPES__PIPE];

	if (!s)
		return;
	pipe_close_spare(ctx);
	map_done(&s->by_id);
	map_done(&s->data);
}

const struct kind kind_pipe = {
	.name = "pipe",
	.type = FD_TYPES__PIPE,
	.match = pipe_match,
	.dump = pipe_dump,
	.dump_end = pipe_dump_end,
	.dump_done = pipe_dump_done,
	.prepare = pipe_prepare,
	.restore = pipe_restore,
	.settled = pipe_close_spare,
	.restore_done = pipe_restore_done,
};
