/*
 * POSIX message queues that nobody has open at the moment, as of programs that open one for each
 * message. Only the owner's user id ties such a queue to a tree: named in a warning, not saved.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "kind/mqueue.h"
#include "ns/mountapi.h"
#include "task/parts.h"

/* The queues of our own IPC namespace as a directory, whether or not it is mounted anywhere. */
static DIR *open_directory(void)
{
	_cleanup_close_ int fs = (int)syscall(SYS_fsopen, "mqueue", FSOPEN_CLOEXEC), fd = -EBADF;
	_cleanup_close_ int mnt = -EBADF;
	DIR *d;

	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return NULL;
	mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	if (mnt >= 0)
		fd = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (d)
		take_fd(&fd);
	return d;
}

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

void mqueue_warn_loose(struct dump_ctx *ctx, const struct map *dumped, struct mqueue_users *users)
{
	_cleanup_closedir_ DIR *d = open_directory();
	const struct dirent *e;

	if (!d)
		log_debug("cannot look for message queues that nobody has open");
	while (d && (e = readdir(d))) {
		_cleanup_close_ int fd = -EBADF;
		struct stat st;
		pid_t pid;

		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !st.st_uid || map_get(dumped, st.st_ino) || !is_users(ctx, st.st_uid))
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0 && mqueue_user(&ctx->arena, users, fd, NULL, NULL, &pid) >= 0 && !pid)
			log_warn("POSIX message queue /%s of user %u is open in no process: it is not saved",
				 e->d_name, st.st_uid);
	}
}
