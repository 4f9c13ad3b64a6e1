/*
 * epoll(7): a set of (file, number) keys with an event mask and a datum each.
 *
 *   dump     fdinfo "tfd:" lines; each number is proved to be the watched file's by its socket
 *            inode or by kcmp(KCMP_EPOLL_TFD), else another number of that file is looked for;
 *            EPIOCGPARAMS (Linux 6.9)
 *   restore  epoll_create1(), EPIOCSPARAMS; EPOLL_CTL_ADD by the task itself (attach)
 *
 * The key holds the number under which the *caller* of EPOLL_CTL_ADD knew the file, and a
 * signalfd is bound to the caller's signals: adding from the engine would do neither. The
 * number may since have been closed (the file living on as a duplicate) or given to another
 * file. kcmp walks all entries of an epoll: only what inodes leave open goes there.
 */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "core/files_dump.h"
#include "kernel/mountinfo.h"
#include "kind/kinds.h"

/* include/uapi/linux/eventpoll.h, which is younger than the headers of some that build this. */
struct busy_poll {
	uint32_t usec;
	uint16_t budget;
	uint8_t prefer, pad;
};
#define BUSY_POLL_SET	_IOW(0x8a, 0x01, struct busy_poll)
#define BUSY_POLL_GET	_IOR(0x8a, 0x02, struct busy_poll)

static bool eventpoll_match(const struct dump_file *f)
{
	return link_is_anon(f->link, "eventpoll");
}

int epoll_line_parse(const char *line, struct epoll_line *ret)
{
	unsigned int tfd, events, sdev = 0;
	unsigned long long data, ino = 0;
	long long pos = 0;
	int n;

	n = sscanf(line, "tfd: %u events: %x data: %llx pos:%lli ino:%llx sdev:%x", &tfd, &events,
		   &data, &pos, &ino, &sdev);
	if (n != 6 || tfd > INT32_MAX)
		return -EBADMSG;
	*ret = (struct epoll_line){ .tfd = tfd, .events = events, .data = data, .pos = pos,
				    .ino = ino, .sdev = sdev };
	return 0;
}

/* 1: t_fd of the owner is what slot tfd/nth of the epoll watches. */
static int is_watched(const struct dump_file *f, int t_fd, uint32_t tfd, uint32_t nth)
{
	struct kcmp_epoll_slot slot = { .efd = (uint32_t)f->t_fd, .tfd = tfd, .toff = nth };
	long c = syscall(SYS_kcmp, f->owner->pid, f->owner->pid, KCMP_EPOLL_TFD,
			 (unsigned long)t_fd, &slot);

	if (c < 0 && errno != EBADF && errno != ENOENT)
		return log_err(neg_errno(), "kcmp of an epoll target");
	return c == 0;
}

/* A socket's inode is its own: no second struct file has it. */
static bool is_same_socket(const struct dump_file *f, int t_fd, const struct epoll_line *l)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "fd/%d", t_fd);
	return !fstatat(f->owner->proc_fd, path, &st, 0) && S_ISSOCK(st.st_mode) &&
	       st.st_ino == l->ino && dev_to_kernel(st.st_dev) == l->sdev;
}

/* The number under which the owner holds the watched file now. */
static int target_find(const struct dump_file *f, const struct epoll_line *l, uint32_t nth,
		       uint32_t *ret_tfd)
{
	const struct dump_fd *d = dump_fd_find(f->owner, (int)l->tfd), *all = f->owner->fds;
	int r;

	*ret_tfd = l->tfd;
	if (d && d->ino == l->ino) {
		if (is_same_socket(f, d->t_fd, l))
			return 0;
		r = is_watched(f, d->t_fd, l->tfd, nth);
		if (r)
			return r < 0 ? r : 0;
	}
	for (size_t i = 0; i < f->owner->n_fds; i++) {
		if (all[i].ino != l->ino)
			continue;
		r = is_watched(f, all[i].t_fd, l->tfd, nth);
		if (r < 0)
			return r;
		*ret_tfd = (uint32_t)all[i].t_fd;
		if (r > 0)
			return 0;
	}
	return log_obstacle("have the program remove it from its epoll (EPOLL_CTL_DEL) before it"
			    " closes it", "epoll watches a file (number %u, inode %llu) that the"
			    " process no longer holds", l->tfd, (unsigned long long)l->ino);
}

static int target_dump(struct dump_ctx *ctx, const struct dump_file *f, EventpollFileEntry *e,
		       const struct epoll_line *l, uint32_t nth)
{
	EventpollTfdEntry *t = ARENA_MSG(&ctx->arena, EventpollTfdEntry, eventpoll_tfd_entry);
	EventpollTfdEntry **slot;
	uint32_t tfd;
	int r;

	r = target_find(f, l, nth, &tfd);
	if (r < 0)
		return r;
	slot = ARENA_PUSH(&ctx->arena, e->tfd, e->n_tfd);
	if (!t || !slot)
		return log_err(-ENOMEM, "epoll");
	*slot = t;
	t->tfd = tfd;
	t->events = l->events;
	t->data = l->data;
	t->has_dev = t->has_inode = t->has_pos = true;
	t->dev = l->sdev;
	t->inode = l->ino;
	t->pos = (uint64_t)l->pos;
	return 0;
}

static void busy_poll_dump(const struct dump_file *f, EventpollFileEntry *e)
{
	struct busy_poll b;

	if (ioctl(f->fd, BUSY_POLL_GET, &b) < 0 || (!b.usec && !b.budget && !b.prefer))
		return;
	e->has_busy_poll_usec = e->has_busy_poll_budget = e->has_prefer_busy_poll = true;
	e->busy_poll_usec = b.usec;
	e->busy_poll_budget = b.budget;
	e->prefer_busy_poll = b.prefer;
}

/* It is about latency only. */
static void busy_poll_restore(int fd, const EventpollFileEntry *e)
{
	const struct busy_poll b = { e->busy_poll_usec, (uint16_t)e->busy_poll_budget, e->prefer_busy_poll, 0 };

	if (e->has_busy_poll_usec && ioctl(fd, BUSY_POLL_SET, &b) < 0)
		log_warn("this kernel does not take the epoll's parameters of busy polling: %m");
}

static int eventpoll_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	EventpollFileEntry *e = ARENA_MSG(&ctx->arena, EventpollFileEntry, eventpoll_file_entry);
	_cleanup_(map_done) struct map seen = { 0 };
	const char *line = f->fdinfo;
	struct epoll_line l;
	uintptr_t nth;
	int r;

	if (!e)
		return log_err(-ENOMEM, "epoll");
	e->id = f->id;
	e->flags = f->flags;
	f->fe->epfd = e;
	if (f->t_fd < 0)
		return log_obstacle("have it received before", "an epoll in a socket's queue");
	busy_poll_dump(f, e);
	while ((line = strstr(line, "\ntfd:"))) {
		line++;
		r = epoll_line_parse(line, &l);
		if (r < 0)
			return log_err(r, "epoll: fdinfo line \"%.60s\" is not understood", line);
		/* One number may be there several times, once per file it has stood for. */
		nth = (uintptr_t)map_get(&seen, l.tfd);
		r = map_put(&seen, l.tfd, (void *)(nth + 1));
		if (r < 0)
			return log_err(r, "epoll");
		r = dump_files_obstacle(ctx, target_dump(ctx, f, e, &l, (uint32_t)nth));
		if (r < 0)
			return r;
	}
	return dump_fown(ctx, f, &e->fown);
}

static int eventpoll_restore(struct restore_ctx *ctx _unused_, struct restore_file *f,
			     int *ret_fd)
{
	const EventpollFileEntry *e = f->fe->epfd;
	_cleanup_close_ int fd = epoll_create1(EPOLL_CLOEXEC);
	int r;

	if (fd < 0)
		return log_err(neg_errno(), "cannot create an epoll");
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	busy_poll_restore(fd, e);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int eventpoll_attach(struct restore_ctx *ctx _unused_, struct restore_file *f,
			    struct restore_process *p _unused_, struct batch *b)
{
	const EventpollFileEntry *e = f->fe->epfd;
	int r;

	for (size_t i = 0; i < e->n_tfd; i++) {
		const EventpollTfdEntry *t = e->tfd[i];
		struct epoll_event ev = { .events = t->events, .data.u64 = t->data };

		r = batch_make_room(b, 1, sizeof(ev) + 16);
		if (r < 0)
			return log_err(r, "cannot add to the epoll what it watched");
		batch_call(b, SYS_epoll_ctl, f->t_fd, EPOLL_CTL_ADD, t->tfd,
			   batch_put(b, &ev, sizeof(ev)));
	}
	return 0;
}

const struct kind kind_eventpoll = {
	.name = "epoll",
	.type = FD_TYPES__EVENTPOLL,
	.match = eventpoll_match,
	.dump = eventpoll_dump,
	.restore = eventpoll_restore,
	.attach = eventpoll_attach,
};
