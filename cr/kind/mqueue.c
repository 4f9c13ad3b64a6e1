/*
 * POSIX message queues (mq_overview(7)) of the IPC namespace that the tree is in.
 *
 *   dump     mq_getattr(3), read(2) for size and notification, messages: mqueue_data.c
 *   restore  mqueue_restore.c
 *
 * A queue has many files, one at least with its state in the image. Of a namespace of the tree's own all are
 * the tree's: one that nobody has open has an entry in files.img as well, to which no descriptor refers.
 *
 * CRIU's format has no such file: it is one of a plugin (ext), which only crit reads.
 */
#include <fcntl.h>
#include <mqueue.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "kind/mqueue.h"
#include "ns/ns.h"

#define REMEDY		"stop the service before the upgrade"

struct mqueue_dump {
	struct map dumped;		/* files by their queue's inode */
	struct mqueue_users users;
	int dir_fd;			/* directory(); 0: not yet */
};

static struct mqueue_dump *state(struct dump_ctx *ctx)
{
	void **slot = &ctx->kind_state[FD_TYPES__EXT];

	if (!*slot)
		*slot = ARENA_NEW(&ctx->arena, struct mqueue_dump);
	return *slot;
}

static bool mqueue_match(const struct dump_file *f)
{
	return S_ISREG(f->st.st_mode) && !major(f->st.st_dev) && !(f->flags & O_PATH) &&
	       fs_magic(f->fd) == MQUEUE_MAGIC;
}

int mqueue_open_again(int fd, int flags)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	return again < 0 ? neg_errno() : again;
}

static bool is_ours(void *arg, pid_t pid)
{
	return dump_process_find(arg, pid);
}

/* The directory of all queues of the tree's namespace; stays open. */
static int directory(struct dump_ctx *ctx)
{
	struct mqueue_dump *d = state(ctx);
	int r = d->dir_fd > 0 ? 0 : ns_dump_open_mqueues(ctx, &d->dir_fd);

	return r < 0 ? r : d->dir_fd;
}

static int check_namespace(struct dump_ctx *ctx, const struct dump_file *f)
{
	struct stat own;
	int fd = directory(ctx);

	if (fd < 0 || fstat(fd, &own) < 0)
		return log_err(fd < 0 ? fd : neg_errno(), "%s: cannot look at the message queues of the tree",
			       f->link);
	if (own.st_dev == f->st.st_dev)
		return 0;
	return log_obstacle(REMEDY, "%s: POSIX message queue of another IPC namespace than the tree is in",
			    f->link);
}

static int check(struct dump_ctx *ctx, const struct dump_file *f, int fd)
{
	struct mqueue_info info;
	pid_t pid;
	int r = mqueue_info_read(fd, &info);

	if (r < 0)
		return log_err(r, "%s: cannot read its state", f->link);
	r = check_namespace(ctx, f);
	if (r < 0)
		return r;
	if (info.notify_pid)
		return log_obstacle(REMEDY, "%s: POSIX message queue that notifies process %d (mq_notify): the value handed over with that cannot be read",
				    f->link, info.notify_pid);
	r = mqueue_user(&ctx->arena, &state(ctx)->users, fd, is_ours, ctx, &pid);
	if (r < 0)
		return log_err(r, "%s: cannot find out who has it open", f->link);
	if (pid)
		return log_obstacle("choose all services that use it together in one tree, or none",
				    "%s: POSIX message queue that process %d, outside the tree, has open, too",
				    f->link, pid);
	return 0;
}

static int describe(struct dump_ctx *ctx, const struct dump_file *f, int fd, MqueueState *s)
{
	const char *name = strrchr(f->link, '/');
	size_t len = name ? strlen(++name) : 0, gone = strlen(" (deleted)");
	struct mq_attr attr;

	if (mq_getattr(fd, &attr) < 0)
		return log_err(neg_errno(), "%s: mq_getattr", f->link);
	s->unlinked = !f->st.st_nlink;
	if (s->unlinked && len > gone)
		len -= gone;
	s->name.data = arena_memdup(&ctx->arena, name, len);
	s->name.len = len;
	s->mode = f->st.st_mode & 07777;
	s->uid = dump_uid(ctx, f->st.st_uid);
	s->gid = dump_gid(ctx, f->st.st_gid);
	s->maxmsg = (uint32_t)attr.mq_maxmsg;
	s->msgsize = (uint32_t)attr.mq_msgsize;
	return s->name.data ? 0 : -ENOMEM;
}

int mqueue_dump_state(struct dump_ctx *ctx, const struct dump_file *f, MqueueState **ret)
{
	MqueueState *s = ARENA_MSG(&ctx->arena, MqueueState, mqueue_state);
	_cleanup_close_ int fd = mqueue_open_again(f->fd, O_RDWR | O_NONBLOCK);
	int r;

	if (fd < 0)
		return log_err(fd, "cannot open %s for reading and writing", f->link);
	r = s ? describe(ctx, f, fd, s) : -ENOMEM;
	if (r >= 0)
		r = check(ctx, f, fd);
	if (r < 0)
		return r;
	*ret = s;
	if (ctx->opts->log_obstacles_only)
		return 0;
	r = mqueue_read(&ctx->arena, fd, &s->messages, &s->n_messages);
	return r < 0 ? log_err(r, "%s: cannot take its messages out and put them back", f->link) : 0;
}

static int mqueue_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	struct mqueue_dump *d = state(ctx);
	ExtFileEntry *ext = ARENA_MSG(&ctx->arena, ExtFileEntry, ext_file_entry);
	MqueueEntry *e = ARENA_MSG(&ctx->arena, MqueueEntry, mqueue_entry);
	int r;

	if (!d || !ext || !e)
		return log_err(-ENOMEM, "%s", f->link);
	ext->id = f->id;
	ext->mqueue = e;
	e->queue = f->st.st_ino;
	e->flags = f->flags;
	f->fe->ext = ext;
	if (!map_get(&d->dumped, e->queue)) {
		r = map_put(&d->dumped, e->queue, f);
		if (r >= 0)
			r = mqueue_dump_state(ctx, f, &e->state);
		if (r < 0)
			return r;
	}
	return dump_fown(ctx, f, &ext->fown);
}

static int mqueue_dump_end(struct dump_ctx *ctx)
{
	struct mqueue_dump *d = state(ctx);
	int fd = d ? directory(ctx) : -ENOMEM;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0 && ns_dump_has_ipcns(ctx))
		return log_err(fd, "cannot list the message queues of the tree's ipc namespace");
	if (fd < 0) {
		log_debug("cannot look for message queues that nobody has open");
		return 0;
	}
	return mqueue_dump_loose(ctx, fd, &d->dumped, &d->users);
}

static void mqueue_dump_done(struct dump_ctx *ctx)
{
	struct mqueue_dump *d = ctx->kind_state[FD_TYPES__EXT];

	if (!d)
		return;
	if (d->dir_fd > 0)
		close(d->dir_fd);
	map_done(&d->dumped);
	mqueue_users_done(&d->users);
}

const struct kind kind_mqueue = {
	.name = "message queue",
	.type = FD_TYPES__EXT,
	.match = mqueue_match,
	.dump = mqueue_dump,
	.dump_end = mqueue_dump_end,
	.dump_done = mqueue_dump_done,
	.prepare = mqueue_prepare,
	.begin = mqueue_begin,
	.restore = mqueue_restore,
	.restore_done = mqueue_restore_done,
};
