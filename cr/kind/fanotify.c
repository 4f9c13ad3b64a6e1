/*
 * fanotify(7): a group with marks on inodes, mounts and file systems.
 *
 *   dump     fdinfo: flags, event flags, one line for each mark; what it leaves out (who made the group,
 *            whether it audits, what waits for a verdict) from the kernel's structure (kernel/peek.h)
 *   restore  fanotify_init(), without CAP_SYS_ADMIN if it was made so; the marks come when
 *            all files are open, so that none of them sees what the restore opens
 *
 * The trap are marks that ask for permission: while the program is stopped, whoever opens such a file
 * waits for it, the engine too. They are refused before the engine opens anything (fanotify_check()).
 * Events not read yet are lost, with a warning.
 */
#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <linux/capability.h>

#include "core/files_dump.h"
#include "kind/fanotify.h"
#include "ns/ns.h"

#define CLASS_BITS (FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT)

static bool fanotify_match(const struct dump_file *f)
{
	return link_is_anon(f->link, "fanotify");
}

/* Group flags as the kernel has them, FANOTIFY_UNPRIV among them. */
static int group_flags(struct dump_ctx *ctx, const struct dump_file *f, const struct fanotify_info *info,
		       uint32_t *ret)
{
	struct fanotify_group g;
	int r = fanotify_peek(ctx, f->fd, &g);

	/* All others are in fdinfo. */
	if (r >= 0 && (g.flags & ~FANOTIFY_UNPRIV) != (info->flags | (g.flags & FAN_ENABLE_AUDIT)))
		r = -ENODATA;
	if (r == -EOPNOTSUPP || r == -ENODATA)
		return log_obstacle("stop the file access monitor before, or run as root with CAP_BPF and"
				    " CAP_PERFMON on Linux >= 6.1 with BTF",
				    "fanotify: this kernel does not tell by whom the group was made, and"
				    " what waits for its verdict");
	if (r < 0)
		return log_err(r, "fanotify: cannot read the group's state");
	if (g.other_userns)
		return log_obstacle("stop the file access monitor before",
				    "fanotify: the group was made in another user namespace");
	if (g.unanswered)
		return log_obstacle("try again when the program has answered",
				    "fanotify: an access waits for the program's verdict");
	*ret = g.flags;
	return 0;
}

static int unread_check(const struct dump_file *f, uint32_t flags)
{
	int bytes = 0;

	if (ioctl(f->fd, FIONREAD, &bytes) < 0 || !bytes)
		return 0;
	if (flags & CLASS_BITS)
		return log_obstacle("try again when the program has read them",
				    "fanotify: %d bytes of unread events, among which may be an access that"
				    " waits for the program's verdict", bytes);
	log_warn("fanotify: %d bytes of unread events are not saved", bytes);
	return 0;
}

static int fanotify_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	FanotifyFileEntry *e = ARENA_MSG(&ctx->arena, FanotifyFileEntry, fanotify_file_entry);
	struct fanotify_info info;
	uint32_t flags;
	int r;

	if (!e)
		return log_err(-ENOMEM, "fanotify");
	f->fe->ffy = e;
	e->id = f->id;
	e->flags = f->flags;
	r = fanotify_info_parse(f->fdinfo, &info);
	if (r < 0)
		return log_err(r, "fanotify: fdinfo cannot be understood");
	r = group_flags(ctx, f, &info, &flags);
	if (r >= 0)
		r = unread_check(f, flags);
	if (r < 0)
		return r;
	e->faflags = flags & ~FANOTIFY_UNPRIV;
	e->evflags = info.event_flags;
	e->has_unprivileged = e->unprivileged = flags & FANOTIFY_UNPRIV;
	r = fanotify_marks_dump(ctx, f, e);
	return r < 0 ? r : dump_fown(ctx, f, &e->fown);
}

/* Whether CAP_SYS_ADMIN is in our effective capabilities; returns whether it was. */
static int set_sys_admin(bool on)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	uint32_t bit = 1u << CAP_SYS_ADMIN;
	bool was;

	if (syscall(SYS_capget, &head, data) < 0)
		return neg_errno();
	was = data[0].effective & bit;
	data[0].effective = on ? data[0].effective | bit : data[0].effective & ~bit;
	return syscall(SYS_capset, &head, data) < 0 ? neg_errno() : was;
}

static int group_make(const FanotifyFileEntry *e, int *ret_fd)
{
	bool drop = e->has_unprivileged && e->unprivileged;
	_cleanup_close_ int fd = -EBADF;
	int was = drop ? set_sys_admin(false) : 0, r;

	if (was < 0)
		return was;
	fd = fanotify_init(e->faflags, e->evflags);
	r = fd < 0 ? neg_errno() : 0;
	if (drop && was && set_sys_admin(true) < 0)
		return log_err(-EPERM, "cannot take CAP_SYS_ADMIN again");
	/* FAN_CLOEXEC stays in the group's flags: only if it was there. */
	if (r >= 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		r = neg_errno();
	if (r >= 0)
		*ret_fd = take_fd(&fd);
	return r;
}

static int fanotify_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const FanotifyFileEntry *e = f->fe->ffy;
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = fanotify_marks_check(ctx, e);
	if (r < 0)
		return r;
	r = group_make(e, &fd);
	if (r < 0)
		return log_err(r, "cannot create a fanotify group with flags %x, event flags %x", e->faflags,
			       e->evflags);
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int fanotify_watch(struct restore_ctx *ctx, struct restore_file *f)
{
	return fanotify_marks_add(ctx, f->fe->ffy, f->fd);
}

const struct kind kind_fanotify = {
	.name = "fanotify",
	.type = FD_TYPES__FANOTIFY,
	.match = fanotify_match,
	.dump = fanotify_dump,
	.restore = fanotify_restore,
	.watch = fanotify_watch,
};
