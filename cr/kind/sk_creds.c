/* Credentials of a unix socket's other end: from the kernel, or from whoever holds the socket. */
#include <sys/socket.h>

#include "core/pids.h"
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

struct peer {
	int fd;
	struct ucred who;
};

static int peer_read(void *arg)
{
	struct peer *p = arg;
	socklen_t len = sizeof(p->who);

	return getsockopt(p->fd, SOL_SOCKET, SO_PEERCRED, &p->who, &len) < 0 ? neg_errno() : 0;
}

/* The pid that the tree is told: 0 of a process outside its PID namespace. */
static int pid_as_told(struct dump_ctx *ctx, struct peer *p)
{
	uint32_t pid = ctx->pid_level ? dump_pid_virtual(ctx, p->who.pid) : 0;

	if (!pid)
		return ctx->pid_level ? dump_ask_inside(ctx, peer_read, p) : 0;
	p->who.pid = (pid_t)pid;
	return 0;
}

int sk_creds_dump(struct dump_ctx *ctx, int fd, SkCredsEntry **ret)
{
	SkCredsEntry *e = ARENA_MSG(&ctx->arena, SkCredsEntry, sk_creds_entry);
	struct peer p = { .fd = fd };
	socklen_t len;
	int r;

	if (!e)
		return -ENOMEM;
	*ret = NULL;
	r = peer_read(&p);
	/* Without a peer there is nothing to ask, which would take two processes. */
	if (r < 0 || p.who.uid == (uid_t)-1)
		return r;
	r = pid_as_told(ctx, &p);
	if (r < 0)
		return r;
	e->pid = (uint32_t)p.who.pid;
	e->uid = p.who.uid;
	e->gid = p.who.gid;
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
