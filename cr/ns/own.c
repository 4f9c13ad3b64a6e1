/*
 * Namespaces that processes enter by a descriptor: which of them the processes of a tree may have apart from
 * each other, and those that a restore has made, by their id in the images.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>

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

static enum ns_type type_of(uint32_t cflag)
{
	static const uint32_t cflags[NS_TYPES] = {
		[NS_NET] = CLONE_NEWNET, [NS_IPC] = CLONE_NEWIPC, [NS_UTS] = CLONE_NEWUTS, [NS_MNT] = CLONE_NEWNS,
		[NS_USER] = CLONE_NEWUSER, [NS_CGROUP] = CLONE_NEWCGROUP,
	};

	for (enum ns_type t = 0; t < NS_TYPES; t++)
		if (cflags[t] && cflags[t] == cflag)
			return t;
	return NS_TYPES;
}

/* One of the host's is where we are, but for those that the engine sits in the tree's of. */
static int known_fd(const struct restore_ctx *ctx, enum ns_type type, uint32_t id, bool is_hosts)
{
	const struct ns_restore *ns = ctx->ns_state;

	if (is_hosts)
		return type == NS_NET ? ns->net_visit.home_fd : type == NS_IPC ? ns->ipc_visit.home_fd : -EBADF;
	if (type == NS_USER)
		return ns_own_id(ctx->inventory, ctx->procs[0].ids, NS_USER) == id ? ns->user_fd : -EBADF;
	for (size_t i = 0; type == NS_MNT && i < ns->n_mntns; i++)
		if (ns->mntns[i].id == id)
			return ns->mntns[i].fd;
	return ns_restore_fd(ns, type, id);
}

int ns_restore_open(struct restore_ctx *ctx, uint32_t cflag, uint32_t id, int flags, int *ret_fd)
{
	enum ns_type type = type_of(cflag);
	TaskKobjIdsEntry *host = ctx->inventory->root_ids;
	protobuf_c_boolean *has;
	bool is_hosts;
	char path[40];
	int fd;

	if (type == NS_TYPES || !ctx->ns_state)
		return -ENOENT;
	is_hosts = host && *ns_id_field(host, type, &has) == id && *has;
	fd = known_fd(ctx, type, id, is_hosts);
	if (fd >= 0)
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	else if (is_hosts)
		snprintf(path, sizeof(path), "/proc/self/ns/%s", ns_names[type]);
	else
		return -ENOENT;
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	return *ret_fd < 0 ? neg_errno() : 0;
}

void ns_restore_made_done(struct ns_restore *ns)
{
	for (size_t i = 0; i < ns->made.room; i++)
		if (ns->made.slots[i].val)
			close((int)((uintptr_t)ns->made.slots[i].val - 1));
	map_done(&ns->made);
}
