/*
 * A named fifo, opened by its path.
 *
 *   dump     a hidden REG entry for path and flags, the contents once (pipe_data.c)
 *   restore  opened read-write without blocking, filled once, then opened by each entry's flags
 *
 * Opening one end of a fifo waits for the other: the engine's read-write descriptor of the
 * first user stays until the tree runs. With it no open blocks.
 */
#include <fcntl.h>

#include "kind/kinds.h"

struct fifo_made {
	struct fifo_made *next;
	int fd;			/* read-write, the engine's */
};

struct fifo_state {
	struct map by_id, data;
	struct fifo_made *made;
};

static bool fifo_match(const struct dump_file *f)
{
	return S_ISFIFO(f->st.st_mode) && f->link[0] == '/' && !(f->flags & O_PATH);
}

static struct fifo_state *fifo_state(struct arena *a, void **kind_state)
{
	void **slot = &kind_state[FD_TYPES__FIFO];

	if (!*slot)
		*slot = ARENA_NEW(a, struct fifo_state);
	return *slot;
}

static int fifo_data_once(struct dump_ctx *ctx, struct dump_file *f)
{
	struct fifo_state *s = fifo_state(&ctx->arena, ctx->kind_state);
	struct image_writer *w = NULL;
	int r;

	if (!s)
		return log_err(-ENOMEM, "%s", f->link);
	if ((f->flags & O_ACCMODE) == O_WRONLY || map_get(&s->by_id, f->st.st_ino))
		return 0;
	r = map_put(&s->by_id, f->st.st_ino, f);
	if (r < 0)
		return log_err(r, "%s", f->link);
	r = dump_writer(ctx, &ctx->w_fifo_data, &image_fifo_data, &w);
	return r < 0 ? r : pipe_data_dump(ctx, f, w);
}

static int fifo_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	FifoEntry *e = ARENA_MSG(&ctx->arena, FifoEntry, fifo_entry);
	FileEntry *path = ARENA_MSG(&ctx->arena, FileEntry, file_entry);
	int r;

	if (!e || !path)
		return log_err(-ENOMEM, "%s", f->link);
	e->id = f->id;
	e->pipe_id = (uint32_t)f->st.st_ino;
	e->has_regf_id = true;
	e->regf_id = dump_file_new_id(ctx);
	f->fe->fifo = e;
	path->type = FD_TYPES__REG;
	path->id = e->regf_id;
	r = reg_entry(ctx, f, e->regf_id, &path->reg);
	if (r < 0)
		return r;
	r = dump_file_put(ctx, path);
	return r < 0 ? r : fifo_data_once(ctx, f);
}

static void fifo_dump_done(struct dump_ctx *ctx)
{
	struct fifo_state *s = ctx->kind_state[FD_TYPES__FIFO];

	if (s)
		map_done(&s->by_id);
}

static int fifo_prepare(struct restore_ctx *ctx)
{
	struct fifo_state *s = fifo_state(&ctx->arena, ctx->kind_state);

	if (!s)
		return log_err(-ENOMEM, "fifos");
	return pipe_data_load(ctx, &image_fifo_data, &s->data);
}

/* The engine's own read-write descriptor; the contents go in with the first one. */
static int fifo_make(struct restore_ctx *ctx, struct fifo_state *s, const FifoEntry *e,
		     const RegFileEntry *reg)
{
	struct fifo_made *m;
	int r;

	if (map_get(&s->by_id, e->pipe_id))
		return 0;
	m = ARENA_NEW(&ctx->arena, struct fifo_made);
	if (!m)
		return log_err(-ENOMEM, "fifo");
	r = reg_open(ctx, reg, O_RDWR | O_NONBLOCK, &m->fd);
	if (r < 0)
		return r;
	m->next = s->made;
	s->made = m;
	r = map_put(&s->by_id, e->pipe_id, m);
	if (r < 0)
		return log_err(r, "fifo");
	return pipe_data_fill(m->fd, map_get(&s->data, e->pipe_id));
}

static int fifo_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	struct fifo_state *s = fifo_state(&ctx->arena, ctx->kind_state);
	const FifoEntry *e = f->fe->fifo;
	struct restore_file *path = e->has_regf_id ? restore_file_find(ctx, e->regf_id) : NULL;
	_cleanup_close_ int fd = -EBADF;
	const RegFileEntry *reg;
	int r;

	if (!path || path->fe->type != FD_TYPES__REG)
		return log_fail(-EBADMSG, "fifo %u has no path in files.img", e->pipe_id);
	reg = path->fe->reg;
	r = fifo_make(ctx, s, e, reg);
	if (r < 0)
		return r;
	r = reg_open(ctx, reg, (reg->flags & O_ACCMODE) | O_NONBLOCK, &fd);
	if (r < 0)
		return r;
	r = restore_flags_fown(fd, reg->flags, reg->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner of %s", reg->flags, reg->name);
	*ret_fd = take_fd(&fd);
	return 0;
}

static void fifo_close_made(struct restore_ctx *ctx)
{
	struct fifo_state *s = ctx->kind_state[FD_TYPES__FIFO];

	for (struct fifo_made *m = s ? s->made : NULL; m; m = m->next)
		close(m->fd);
	if (s)
		s->made = NULL;
}

static void fifo_restore_done(struct restore_ctx *ctx)
{
	struct fifo_state *s = ctx->kind_state[FD_TYPES__FIFO];

	fifo_close_made(ctx);
	if (!s)
		return;
	map_done(&s->by_id);
	map_done(&s->data);
}

const struct kind kind_fifo = {
	.name = "fifo",
	.type = FD_TYPES__FIFO,
	.match = fifo_match,
	.dump = fifo_dump,
	.dump_done = fifo_dump_done,
	.prepare = fifo_prepare,
	.restore = fifo_restore,
	.settled = fifo_close_made,
	.restore_done = fifo_restore_done,
};
