/*
 * eventfd(2): a 64-bit counter behind an anonymous inode.
 *
 *   dump     fdinfo "eventfd-count:" (hexadecimal) and "eventfd-semaphore:" (Linux 6.5; before, the kernel's structure)
 *   restore  eventfd2() with EFD_SEMAPHORE, then write the whole counter
 *
 * eventfd2()'s own argument is only 32 bits wide, so a large counter cannot be given at
 * creation. The image has no field for EFD_SEMAPHORE: it is kept in flags as access mode 3
 * (a counter is always O_RDWR), which fcntl(F_SETFL) of other readers ignores.
 */
#include <fcntl.h>
#include <sys/eventfd.h>

#include "kernel/peek.h"
#include "kind/kinds.h"

static bool eventfd_match(const struct dump_file *f)
{
	return link_is_anon(f->link, "eventfd");
}

static int is_semaphore_peek(struct dump_ctx *ctx, int fd)
{
	uint64_t counter, flags;
	struct peek *pk;
	int r = dump_peek_private(ctx, fd, &pk, &counter);

	if (r >= 0)
		r = peek_member(pk, counter, "eventfd_ctx", "flags", 4, &flags);
	return r < 0 ? r : !!(flags & EFD_SEMAPHORE);
}

static bool is_semaphore(struct dump_ctx *ctx, const struct dump_file *f)
{
	uint64_t told;
	int r;

	if (!fdinfo_u64(f->fdinfo, "eventfd-semaphore", 10, &told))
		return told;
	r = is_semaphore_peek(ctx, f->fd);
	if (r < 0)
		log_warn("eventfd: taken for a plain counter, for neither this kernel's fdinfo (before Linux 6.5) nor "
			 "BPF tells whether it is a semaphore (EFD_SEMAPHORE)");
	return r > 0;
}

static int eventfd_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	EventfdFileEntry *e = ARENA_MSG(&ctx->arena, EventfdFileEntry, eventfd_file_entry);
	int r;

	if (!e)
		return log_err(-ENOMEM, "eventfd");
	e->id = f->id;
	e->flags = f->flags;
	r = fdinfo_u64(f->fdinfo, "eventfd-count", 16, &e->counter);
	if (r < 0)
		return log_err(r, "eventfd: no counter in fdinfo");
	if (is_semaphore(ctx, f))
		e->flags |= EFD_SEMAPHORE;
	f->fe->efd = e;
	return dump_fown(ctx, f, &e->fown);
}

static int eventfd_restore(struct restore_ctx *ctx _unused_, struct restore_file *f, int *ret_fd)
{
	const EventfdFileEntry *e = f->fe->efd;
	bool semaphore = (e->flags & O_ACCMODE) == (O_RDWR | EFD_SEMAPHORE);
	_cleanup_close_ int fd = -EBADF;
	int r;

	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (semaphore ? EFD_SEMAPHORE : 0));
	if (fd < 0)
		return log_err(neg_errno(), "cannot create an eventfd");
	if (e->counter) {
		r = write_full(fd, &e->counter, sizeof(e->counter));
		if (r < 0)
			return log_err(r, "cannot set the counter to %llu",
				       (unsigned long long)e->counter);
	}
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct kind kind_eventfd = {
	.name = "eventfd",
	.type = FD_TYPES__EVENTFD,
	.match = eventfd_match,
	.dump = eventfd_dump,
	.restore = eventfd_restore,
};
