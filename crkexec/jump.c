/*
 * Phase "jump": file systems are frozen (they are clean for the next kernel, nobody can write
 * any more), then reboot(2) into the loaded kernel. The frozen trees are never killed: they end
 * with this kernel, so nothing is ever sent on their sockets.
 *
 * The traps: after FIFREEZE a write of ours to a file would wait for ever, so nothing is
 * printed and the log is closed; file systems on other file systems (loop devices) must be
 * frozen first, which the reverse order of mounting gives.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/reboot.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "crkexec/phases.h"
#include "kernel/mountinfo.h"
#include "util/io.h"
#include "util/log.h"

/* It had the time of dump and commit as well; a journal under heavy load must not hold us. */
#define JOURNAL_TIMEOUT_MSEC	1000

/* We may have mounts of our own (a unit's sandbox); those of PID 1 are the machine's. */
#define INIT		"/proc/1"

/*
 * Does its path lead to it? Another may be mounted over it, or over a directory above. What is mounted may be a
 * file; a device node is not to be opened.
 */
static bool is_reachable(const struct mount *mt, const char *path)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct statx sx;

	return fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_MNT_ID, &sx) == 0 &&
	       sx.stx_mnt_id == (uint64_t)mt->id && (S_ISDIR(sx.stx_mode) || S_ISREG(sx.stx_mode));
}

static bool is_on_disk(const struct mount *mt)
{
	return str_starts(mt->source, "/dev/") && !(mt->sb_flags & MS_RDONLY) &&
	       strcmp(mt->fstype, "devtmpfs");
}

/* Of the mounts of its file system, none before: also what it lies on was mounted before it. */
static bool is_first(const struct mount_table *t, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (t->mounts[k].dev == t->mounts[i].dev)
			return false;
	return true;
}

/* By the last of its mounts, from the i-th on, that can be reached. */
static int list_one(const char *proc, const struct mount_table *t, size_t i, struct strv *ret)
{
	for (size_t k = t->n; k-- > i;) {
		const struct mount *mt = &t->mounts[k];
		_cleanup_free_ char *path = NULL;

		if (mt->dev != t->mounts[i].dev || !is_on_disk(mt))
			continue;
		path = str_fmt("%s/root%s", proc, mt->mountpoint);
		if (!path)
			return -ENOMEM;
		if (is_reachable(mt, path))
			return strv_add(ret, path);
	}
	return 0;
}

int jump_list(const char *proc, struct strv *ret)
{
	_cleanup_close_ int fd = open(proc, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mount_table t;
	struct arena a;
	int r;

	arena_init(&a);
	r = fd < 0 ? neg_errno() : mountinfo_read(&a, fd, &t);
	for (size_t i = r < 0 ? 0 : t.n; i-- > 0 && r == 0;)
		if (is_first(&t, i))
			r = list_one(proc, &t, i, ret);
	arena_done(&a);
	return r < 0 ? log_err(r, "cannot list the file systems") : 0;
}

static int freeze_one(struct upgrade *u, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	off_t mark = undo_mark(&u->undo);
	int r = fd < 0 ? neg_errno() : undo_push(&u->undo, "fsthaw", path);

	if (r == 0 && ioctl(fd, FIFREEZE, 0) < 0)
		r = neg_errno();
	/* Those that cannot freeze (vfat of old kernels) have been synced; thawing what
	 * somebody else has frozen is not for us. */
	if (r == -EOPNOTSUPP || r == -EBUSY)
		return undo_forget(&u->undo, mark);
	if (r < 0)
		u->jump_error = str_fmt("cannot freeze the file system at %s: %s",
					path + strlen(INIT "/root"), strerror(-r));
	return r;
}

int upgrade_jump(void *arg)
{
	struct upgrade *u = arg;
	struct strv list = { 0 };
	int r;

	u->marks[MARK_JUMP] = undo_mark(&u->undo);
	r = journal_sync_end(u->journal_fd, JOURNAL_TIMEOUT_MSEC);
	u->journal_fd = -EBADF;
	if (r < 0)
		log_err(r, "the journal could not be synced");
	r = jump_list(INIT, &list);
	if (r == 0)
		r = upgrade_check_stop(u);
	if (r == 0) {
		progress_line(&u->progress, "  jump       into %s", u->target.version);
		sync();
		/* From here on silence: standard error may be a file. */
		u->progress.quiet = true;
		log_init(LOGLEVEL_NONE, u->log_fd);
	}
	for (size_t i = 0; i < list.n && r == 0; i++)
		r = freeze_one(u, list.v[i]);
	if (r == 0)
		r = upgrade_check_stop(u);
	if (r == 0) {
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
			LINUX_REBOOT_CMD_KEXEC, NULL);
		r = neg_errno();
		u->jump_error = str_fmt("the kernel refused to start the loaded one: %s", strerror(-r));
	}
	strv_done(&list);
	return r;
}

int upgrade_unjump(void *arg)
{
	struct upgrade *u = arg;
	int r = undo_rewind(&u->undo, u->marks[MARK_JUMP], undo_kinds);

	/* Writing is possible again. */
	u->progress.quiet = false;
	log_init(u->opt->verbose ? LOGLEVEL_DEBUG : LOGLEVEL_INFO, u->log_fd);
	if (u->jump_error)
		upgrade_problem(u, -EIO, NULL, NULL, "%s", u->jump_error);
	return r;
}
