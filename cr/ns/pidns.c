/*
 * A PID namespace of a tree's own, as containers, PrivatePIDs= and unshare --pid --fork make it.
 *
 *   dump     NSpid and its like in /proc/PID/status: images have the numbers inside (core/pids.h)
 *   restore  the root, its first process, is born with CLONE_NEWPID; the others are its children. One nested
 *            in it, or in ours below the root, is made in the same way by that one's maker
 *
 * A proc filesystem shows the namespace of whoever opens it (fsopen): setns() is not enough, for that is
 * about one's children; and those there can be only when the first process is.
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "ns/state.h"
#include "util/child.h"

static uint32_t own_id(const struct restore_ctx *ctx, const struct restore_process *p)
{
	return ns_own_id(ctx->inventory, p->ids, NS_PID);
}

bool ns_restore_has_pidns(struct restore_ctx *ctx)
{
	return own_id(ctx, &ctx->procs[0]) != 0;
}

/* The image is there only for one that whoever restores would have to hand in. */
static int check_external(struct restore_ctx *ctx)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	uint32_t id = own_id(ctx, &ctx->procs[0]);
	int r = image_open_optional(ctx->store, &image_pidns, &rd, id);

	if (r < 0)
		return log_err(r, "cannot open pidns-%u.img", id);
	return rd.bytes ? log_fail(-EOPNOTSUPP, "pidns-%u.img: external PID namespaces are not supported", id) : 0;
}

int ns_restore_check_pidns(struct restore_ctx *ctx)
{
	bool own = ns_restore_has_pidns(ctx);

	for (size_t i = 0; i < ctx->n_procs; i++) {
		const struct restore_process *p = &ctx->procs[i];
		uint32_t nested = p->pst->has_pid_ns_id ? p->pst->pid_ns_id : 0;

		if (p->ids && own_id(ctx, p) != (nested ? nested : own_id(ctx, &ctx->procs[0])))
			return log_fail(-EOPNOTSUPP, "process %u is in another PID namespace than the root",
					p->pst->pid);
		if (own && ((p->pst->pid == 1) != !i))
			return log_fail(-EOPNOTSUPP, "process %u is in a PID namespace whose first process does not come first",
					p->pst->pid);
	}
	return own ? check_external(ctx) : 0;
}

/* The root's has the id 0. */
int ns_restore_pidns_made(struct restore_ctx *ctx, pid_t first, uint32_t id)
{
	struct ns_restore *ns = ctx->ns_state;
	char path[40];
	int fd, r = 0;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", first);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot open %s", path);
	if (!id)
		ns->pid_fd = fd;
	else
		r = map_put(&ns->nested_pids, id, (void *)((uintptr_t)fd + 1));
	if (r < 0)
		close(fd);
	return r;
}

int ns_restore_pidns(struct restore_ctx *ctx, uint32_t id)
{
	struct ns_restore *ns = ctx->ns_state;
	uintptr_t known = (uintptr_t)map_get(&ns->nested_pids, id);

	if (!id && ns->pid_fd >= 0)
		return ns->pid_fd;
	/* Ours. */
	if (!id && !known) {
		int fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);

		known = (uintptr_t)fd + 1;
		if (fd < 0 || map_put(&ns->nested_pids, 0, (void *)known) < 0) {
			close_fdp(&fd);
			return log_err(fd < 0 ? neg_errno() : -ENOMEM, "cannot open our own PID namespace");
		}
	}
	return known ? (int)(known - 1) : log_fail(-EBADMSG, "there is no PID namespace %u", id);
}

void pidns_restore_done(struct ns_restore *ns)
{
	for (size_t i = 0; i < ns->nested_pids.room; i++)
		if (ns->nested_pids.slots[i].val)
			close((int)((uintptr_t)ns->nested_pids.slots[i].val - 1));
	map_done(&ns->nested_pids);
}

int pidns_call_inside(struct restore_ctx *ctx, uint32_t id, int (*fn)(void *arg), void *arg)
{
	int fd = id ? ns_restore_pidns(ctx, id) : -EBADF;

	if (!id)
		return ns_restore_call_inside(ctx, fn, arg);
	return fd < 0 ? fd : child_call_in_pidns(fd, fn, arg);
}

int ns_restore_visit_pids(struct restore_ctx *ctx, uint32_t id, struct ns_visit *v)
{
	const struct ns_restore *ns = ctx->ns_state;
	int fd = id ? ns_restore_pidns(ctx, id) : ns ? ns->pid_fd : -EBADF;

	return id && fd < 0 ? fd : ns_visit_begin(v, fd, NS_PID);
}

int ns_restore_call_inside(struct restore_ctx *ctx, int (*fn)(void *arg), void *arg)
{
	const struct ns_restore *ns = ctx->ns_state;

	return ns && ns->pid_fd >= 0 ? child_call_in_pidns(ns->pid_fd, fn, arg) : fn(arg);
}

int ns_last_pid_write(uint32_t last)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", last);
	return write_filef(text, "/proc/sys/kernel/ns_last_pid");
}

static int last_pid_write(void *last)
{
	return ns_last_pid_write(*(uint32_t *)last);
}

int ns_restore_set_last_pid(struct restore_ctx *ctx, uint32_t last)
{
	/* That file is about the namespace of whoever writes to it. */
	return ns_restore_call_inside(ctx, last_pid_write, &last);
}
