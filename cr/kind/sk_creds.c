/* Credentials of a unix socket's other end: from the kernel, or from whoever holds the socket. */
#include <sys/socket.h>

#include "kind/sk_caller.h"
#include "ns/ns.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS	59
#endif

const SkCredsEntry *sk_creds_of(struct restore_ctx *ctx, const struct restore_file *f)
{
	const struct restore_process *p = f->owner ? f->owner : &ctx->procs[0];
	const CredsEntry *c = p->core && p->core->thread_core ? p->core->thread_core->creds : NULL;
	SkCredsEntry *e = ARENA_MSG(&ctx->arena, SkCredsEntry, sk_creds_entry);

	if (!e)
		return NULL;
	e->pid = p->pst->pid;
	if (!c)
		return e;
	e->uid = ns_restore_uid(ctx, c->euid);
	e->gid = ns_restore_gid(ctx, c->egid);
	e->groups = arena_alloc(&ctx->arena, (c->n_groups + 1) * sizeof(*e->groups));
	if (!e->groups)
		return NULL;
	for (; e->n_groups < c->n_groups; e->n_groups++)
		e->groups[e->n_groups] = ns_restore_gid(ctx, c->groups[e->n_groups]);
	return e;
}

int sk_creds_dump(struct dump_ctx *ctx, int fd, SkCredsEntry **ret)
{
	SkCredsEntry *e = ARENA_MSG(&ctx->arena, SkCredsEntry, sk_creds_entry);
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);

	if (!e)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return neg_errno();
	*ret = NULL;
	if (peer.uid == (uid_t)-1)
		return 0;
	e->pid = (uint32_t)peer.pid;
	e->uid = peer.uid;
	e->gid = peer.gid;
	len = 0;
	/* Asked for none it tells how many, in bytes. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) < 0 && errno == ERANGE) {
		e->groups = arena_alloc(&ctx->arena, len);
		if (!e->groups)
			return -ENOMEM;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, e->groups, &len) < 0)
			return neg_errno();
		e->n_groups = len / sizeof(*e->groups);
	}
	*ret = e;
	return 0;
}
