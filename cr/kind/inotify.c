/*
 * inotify(7): watches of inodes, each with a number (wd) the program remembers.
 *
 *   dump     fdinfo "inotify wd:" lines; watched.c finds the paths
 *   restore  inotify_init1(); when all files are open, INOTIFY_IOC_SETNEXTWD and inotify_add_watch()
 *            per watch, or the program would hear of that
 *
 * Events not read yet are lost, with a warning.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include "core/files_dump.h"
#include "kind/kinds.h"

#ifndef INOTIFY_IOC_SETNEXTWD
#define INOTIFY_IOC_SETNEXTWD _IOW('I', 0, int32_t)
#endif
#define WATCH_BITS (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK)
#define WD_BY_COUNTING_MAX 65536u

static bool inotify_match(const struct dump_file *f)
{
	return link_is_anon(f->link, "inotify");
}

int inotify_line_parse(const char *line, struct inotify_line *ret)
{
	unsigned int wd, sdev, mask, ignored;
	unsigned long long ino;

	*ret = (struct inotify_line){ 0 };
	if (sscanf(line, "inotify wd:%x ino:%llx sdev:%x mask:%x ignored_mask:%x", &wd, &ino, &sdev,
		   &mask, &ignored) != 5 || wd > INT32_MAX)
		return -EBADMSG;
	*ret = (struct inotify_line){ .wd = wd, .mask = mask, .ignored_mask = ignored,
				      .inode = { .sdev = sdev, .ino = ino } };
	return watched_parse_handle(line, &ret->inode);
}

static int watch_dump(struct dump_ctx *ctx, struct dump_file *f, InotifyFileEntry *e,
		      const char *line)
{
	InotifyWdEntry *w = ARENA_MSG(&ctx->arena, InotifyWdEntry, inotify_wd_entry), **slot;
	struct inotify_line l;
	char what[32];
	int r;

	slot = ARENA_PUSH(&ctx->arena, e->wd, e->n_wd);
	r = inotify_line_parse(line, &l);
	if (r < 0)
		return log_err(r, "inotify: fdinfo line \"%.80s\" cannot be understood", line);
	if (!w || !slot)
		return log_err(-ENOMEM, "inotify");
	*slot = w;
	w->i_ino = l.inode.ino;
	w->mask = l.mask;
	w->ignored_mask = l.ignored_mask;
	w->s_dev = l.inode.sdev;
	w->wd = l.wd;
	snprintf(what, sizeof(what), "inotify watch %u", l.wd);
	return watched_dump(ctx, f, what, &l.inode, &w->f_handle);
}

static int inotify_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	InotifyFileEntry *e = ARENA_MSG(&ctx->arena, InotifyFileEntry, inotify_file_entry);
	const char *line = f->fdinfo;
	int r, bytes = 0;

	if (!e)
		return log_err(-ENOMEM, "inotify");
	e->id = f->id;
	e->flags = f->flags;
	f->fe->ify = e;
	if (!ioctl(f->fd, FIONREAD, &bytes) && bytes)
		log_warn("inotify: %d bytes of unread events are not saved", bytes);
	while ((line = strstr(line, "\ninotify wd:"))) {
		_cleanup_free_ char *one = NULL;

		line++;
		one = strndup(line, strcspn(line, "\n"));
		if (!one)
			return log_err(-ENOMEM, "inotify");
		r = dump_files_obstacle(ctx, watch_dump(ctx, f, e, one));
		if (r < 0)
			return r;
	}
	return dump_fown(ctx, f, &e->fown);
}

/* The next watch gets this number. */
static int next_wd(int fd, uint32_t wd)
{
	int32_t next = (int32_t)wd;

	if (!ioctl(fd, INOTIFY_IOC_SETNEXTWD, next))
		return 0;
	/* Without CONFIG_CHECKPOINT_RESTORE numbers are counted up from 1. */
	return errno == ENOTTY && wd <= WD_BY_COUNTING_MAX ? -ENOTTY : neg_errno();
}

/* IN_IGNORED of watches removed while counting. */
static int events_discard(int fd)
{
	char buf[4096];
	int bytes;

	while (!ioctl(fd, FIONREAD, &bytes) && bytes > 0)
		if (read(fd, buf, sizeof(buf)) < 0)
			return neg_errno();
	return 0;
}

static int watch_add(int fd, const char *path, const InotifyWdEntry *w)
{
	bool count = false;
	int r, wd;

	r = next_wd(fd, w->wd);
	if (r == -ENOTTY)
		count = true;
	else if (r < 0)
		return r;
	do {
		wd = inotify_add_watch(fd, path, w->mask & WATCH_BITS);
		if (wd < 0)
			return neg_errno();
		if ((uint32_t)wd == w->wd)
			return count ? events_discard(fd) : 0;
		if (inotify_rm_watch(fd, wd) < 0)
			return neg_errno();
	} while (count && (uint32_t)wd < w->wd);
	return -EEXIST;
}

static int watch_restore(struct restore_ctx *ctx, int fd, const InotifyWdEntry *w)
{
	_cleanup_close_ int target = -EBADF;
	char path[48];
	int r;

	if (!w->f_handle || !w->wd || w->wd > INT32_MAX || !(w->mask & IN_ALL_EVENTS))
		return log_fail(-EBADMSG, "watch %u is out of range", w->wd);
	r = watched_open(ctx, w->f_handle, w->s_dev, w->i_ino, &target);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", target);
	r = watch_add(fd, path, w);
	return r < 0 ? log_err(r, "cannot watch %s as number %u", w->f_handle->path ?
			       w->f_handle->path : "the inode", w->wd) : 0;
}

static int by_wd(const void *a, const void *b)
{
	const InotifyWdEntry *x = *(InotifyWdEntry *const *)a, *y = *(InotifyWdEntry *const *)b;

	return (x->wd > y->wd) - (x->wd < y->wd);
}

static int inotify_restore(struct restore_ctx *ctx _unused_, struct restore_file *f, int *ret_fd)
{
	const InotifyFileEntry *e = f->fe->ify;
	_cleanup_close_ int fd = inotify_init1(IN_CLOEXEC);
	int r;

	if (fd < 0)
		return log_err(neg_errno(), "cannot create an inotify");
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int inotify_watch(struct restore_ctx *ctx, struct restore_file *f)
{
	const InotifyFileEntry *e = f->fe->ify;
	int r = 0;

	if (e->n_wd)
		qsort(e->wd, e->n_wd, sizeof(*e->wd), by_wd);
	for (size_t i = 0; i < e->n_wd && r >= 0; i++)
		r = watch_restore(ctx, f->fd, e->wd[i]);
	return r;
}

const struct kind kind_inotify = {
	.name = "inotify",
	.type = FD_TYPES__INOTIFY,
	.match = inotify_match,
	.dump = inotify_dump,
	.restore = inotify_restore,
	.watch = inotify_watch,
};
