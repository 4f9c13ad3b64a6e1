/*
 * POSIX message queues that nobody has open at the moment, as of programs that open one for each
 * message. In a namespace of the tree's own they are the tree's. In the host's only the owner's user id
 * ties such a queue to a tree: named in a warning, not saved.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/files_dump.h"
#include "kind/mqueue.h"
#include "ns/ns.h"
#include "task/parts.h"

static bool is_users(const struct dump_ctx *ctx, uid_t uid)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		const struct dump_process *p = ctx->procs[i];
		const struct proc_status *st = p->n_threads ? p->threads[0].status : NULL;

		if (st && (st->uid[0] == uid || st->uid[1] == uid))
			return true;
	}
	return false;
}

/* -ENOENT: it has just been removed. */
static int queue_open(int dir, const char *name, int flags, struct stat *ret_st)
{
	int fd = openat(dir, name, flags | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0 && fstat(fd, ret_st) < 0) {
		close(fd);
		fd = -1;
	}
	return fd < 0 ? neg_errno() : fd;
}

static void warn(struct dump_ctx *ctx, int dir, const char *name, struct mqueue_users *users)
{
	struct stat st;
	_cleanup_close_ int fd = queue_open(dir, name, O_RDONLY, &st);
	pid_t pid;

	if (fd >= 0 && st.st_uid && is_users(ctx, st.st_uid) &&
	    mqueue_user(&ctx->arena, users, fd, NULL, NULL, &pid) >= 0 && !pid)
		log_warn("POSIX message queue /%s of user %u is open in no process: it is not saved",
			 name, st.st_uid);
}

/* A file of it that nobody has. */
static int save(struct dump_ctx *ctx, int dir, const char *name)
{
	struct dump_file f = { .link = (char *)arena_printf(&ctx->arena, "/%s", name), .flags = O_RDWR };
	_cleanup_close_ int fd = queue_open(dir, name, O_RDWR, &f.st);
	FileEntry *fe = ARENA_MSG(&ctx->arena, FileEntry, file_entry);
	ExtFileEntry *ext = ARENA_MSG(&ctx->arena, ExtFileEntry, ext_file_entry);
	MqueueEntry *e = ARENA_MSG(&ctx->arena, MqueueEntry, mqueue_entry);
	int r;

	if (!f.link || !fe || !ext || !e)
		return log_err(-ENOMEM, "message queue /%s", name);
	if (fd < 0)
		return fd == -ENOENT ? 0 : log_err(fd, "cannot open message queue /%s", name);
	ext->fown = ARENA_MSG(&ctx->arena, FownEntry, fown_entry);
	if (!ext->fown)
		return log_err(-ENOMEM, "message queue /%s", name);
	f.fd = fd;
	fe->type = FD_TYPES__EXT;
	fe->id = ext->id = dump_file_new_id(ctx);
	fe->ext = ext;
	ext->mqueue = e;
	e->queue = f.st.st_ino;
	e->flags = O_RDWR;
	r = mqueue_dump_state(ctx, &f, &e->state);
	return r < 0 ? r : dump_file_put(ctx, fe);
}

int mqueue_dump_loose(struct dump_ctx *ctx, int dir_fd, const struct map *dumped, struct mqueue_users *users)
{
	_cleanup_closedir_ DIR *d = dir_open_at(dir_fd, ".");
	const struct dirent *e;
	int r = 0;

	if (!d)
		return log_err(neg_errno(), "cannot list message queues");
	while (r >= 0 && (e = readdir(d))) {
		struct stat st;

		if (e->d_type == DT_DIR || fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode) || map_get(dumped, st.st_ino))
			continue;
		if (ns_dump_has_ipcns(ctx))
			r = dump_files_obstacle(ctx, save(ctx, dir_fd, e->d_name));
		else
			warn(ctx, dir_fd, e->d_name, users);
	}
	return r;
}
