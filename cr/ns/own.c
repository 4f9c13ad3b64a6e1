/*
 * Namespaces that processes enter by a descriptor: which of them the processes of a tree may have apart from
 * each other, and those that a restore has made, by their id in the images.
 */
#define _GNU_SOURCE
#include "ns/state.h"

bool ns_may_differ(enum ns_type type)
{
	return type == NS_MNT || type == NS_PID || type == NS_UTS || type == NS_CGROUP;
}

int ns_restore_check_ids(struct restore_ctx *ctx)
{
	for (size_t i = 1; i < ctx->n_procs; i++) {
		const struct restore_process *p = &ctx->procs[i];

		/* A zombie has none. */
		for (enum ns_type t = 0; p->ids && t < NS_TYPES; t++) {
			uint32_t root = ns_own_id(ctx->inventory, ctx->procs[0].ids, t);
			uint32_t id = ns_own_id(ctx->inventory, p->ids, t);

			if (id != root && !ns_may_differ(t))
				return log_fail(-EOPNOTSUPP, "process %u is in another %s namespace than the tree's root (%u, not %u; 0: "
						"the host's)", p->pst->pid, ns_names[t], id, root);
		}
	}
	return 0;
}

int ns_restore_fd(const struct ns_restore *ns, enum ns_type type, uint32_t id)
{
	uintptr_t known = ns && id ? (uintptr_t)map_get(&ns->made, ns_key(type, id)) : 0;

	return known ? (int)(known - 1) : -EBADF;
}

int ns_restore_make_all(struct restore_ctx *ctx, enum ns_type type, ns_make_fn make)
{
	struct ns_restore *ns = ctx->ns_state;

	for (size_t i = 0; i < ctx->n_procs; i++) {
		uint32_t id = ns_own_id(ctx->inventory, ctx->procs[i].ids, type);
		int fd = -EBADF, r;

		if (!id || ns_restore_fd(ns, type, id) >= 0)
			continue;
		r = make(ctx, &ctx->procs[i], id, &fd);
		if (r >= 0)
			r = map_put(&ns->made, ns_key(type, id), (void *)((uintptr_t)fd + 1));
		if (r < 0) {
			close_fdp(&fd);
			return r;
		}
	}
	return 0;
}

void ns_restore_made_done(struct ns_restore *ns)
{
	for (size_t i = 0; i < ns->made.room; i++)
		if (ns->made.slots[i].val)
			close((int)((uintptr_t)ns->made.slots[i].val - 1));
	map_done(&ns->made);
}
