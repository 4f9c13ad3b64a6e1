/*
 * signalfd(2): reads take signals of a mask from the reading task's own queue.
 *
 *   dump     fdinfo "sigmask:"
 *   restore  signalfd4()
 *
 * The queue belongs to the tasks. An epoll that watches a signalfd is tied to the task that
 * added it: eventpoll.c adds it there.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include "kind/kinds.h"

static bool signalfd_match(const struct dump_file *f)
{
	return link_is_anon(f->link, "signalfd");
}

static int signalfd_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	SignalfdEntry *e = ARENA_MSG(&ctx->arena, SignalfdEntry, signalfd_entry);
	int r;

	if (!e)
		return log_err(-ENOMEM, "signalfd");
	e->id = f->id;
	e->flags = f->flags;
	r = fdinfo_u64(f->fdinfo, "sigmask", 16, &e->sigmask);
	if (r < 0)
		return log_err(r, "signalfd: no mask in fdinfo");
	f->fe->sgfd = e;
	return dump_fown(ctx, f, &e->fown);
}

static int signalfd_restore(struct restore_ctx *ctx _unused_, struct restore_file *f, int *ret_fd)
{
	const SignalfdEntry *e = f->fe->sgfd;
	_cleanup_close_ int fd = -EBADF;
	int r;

	/* The raw call: the C library's sigset_t is longer than the kernel's. */
	fd = (int)syscall(SYS_signalfd4, -1, &e->sigmask, sizeof(e->sigmask), SFD_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot create a signalfd");
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct kind kind_signalfd = {
	.name = "signalfd",
	.type = FD_TYPES__SIGNALFD,
	.match = signalfd_match,
	.dump = signalfd_dump,
	.restore = signalfd_restore,
};
