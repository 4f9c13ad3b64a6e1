/*
 * Unix domain sockets: what is made while the tasks are still empty, each call by whom the
 * kernel shall name as its caller (SO_PEERCRED and its like): pairs, listeners, connections.
 * Everything else is done by the engine later, see unix_restore.c.
 */
#include <string.h>
#include <sys/ioctl.h>

#include "core/files.h"
#include "kind/sk_unix.h"

const SkCredsEntry *usk_creds(struct restore_ctx *ctx, const struct usk *u, const struct usk *end)
{
	const SkCredsEntry *c = u->e->peer_creds ? u->e->peer_creds : sk_creds_of(ctx, end->f);

	if (!c)
		log_err(-ENOMEM, "unix sockets");
	return c;
}

static bool has_listener(const struct unix_restore *s, const UnixSkEntry *e)
{
	for (size_t i = 0; i < s->n_socks; i++)
		if (s->socks[i].e->state == UNIX_LISTEN && usk_same_name(s->socks[i].e, e))
			return true;
	return false;
}

/* Which end accepted: the one that shares its name with a listener, else the one named. */
static bool is_server(const struct unix_restore *s, const struct usk *u)
{
	const struct usk *p = u->peer;

	if (!u->e->name.len)
		return false;
	if (!p->e->name.len)
		return true;
	if (has_listener(s, u->e) != has_listener(s, p->e))
		return has_listener(s, u->e);
	return u->e->ino < p->e->ino;
}

static enum usk_how how_of(const struct restore_ctx *ctx, const struct unix_restore *s,
			   const struct usk *u)
{
	char key[64];

	snprintf(key, sizeof(key), "socket:[%u]", u->e->ino);
	if (u->e->uflags & USK_EXTERN || external_find(ctx->opts, key))
		return USK_NONE;
	if (usk_is_pair(u)) {
		if (!usk_is_stream(u) || (!u->e->name.len && !u->peer->e->name.len))
			return USK_PAIR;
		return is_server(s, u) ? USK_ACCEPTED : USK_CONNECTS;
	}
	if (u->e->state == UNIX_LISTEN || (u->e->state == UNIX_CLOSE && !u->e->peer))
		return USK_SOCKET;
	if (!usk_is_stream(u))
		/* The kernel calls a datagram receiver established when somebody connects to it. */
		return u->e->peer || u->e->name.len ? USK_SOCKET : USK_HALF;
	if (u->peer && u->peer->e->state == UNIX_LISTEN && !(u->peer->e->uflags & USK_EXTERN))
		return USK_SOCKET;
	return u->e->name.len ? USK_ACCEPTED : USK_HALF;
}

static int unix_sort(struct restore_ctx *ctx, const struct restore_file *f, struct sk_sort *ret,
		     const char **ret_cgroup _unused_)
{
	const struct unix_restore *s = ctx->kind_state[FD_TYPES__UNIXSK];
	const struct usk *u = map_get(&s->by_file, f->id);

	*ret = (struct sk_sort){ AF_UNIX, (int)u->e->type, 0 };
	return u->how == USK_SOCKET || u->how == USK_CONNECTS;
}

static int take_sockets(struct restore_ctx *ctx, struct unix_restore *s)
{
	int r = sk_make(ctx, FD_TYPES__UNIXSK, unix_sort);

	for (size_t i = 0; !r && i < s->n_socks; i++) {
		struct usk *u = &s->socks[i];

		if (u->how == USK_SOCKET || u->how == USK_CONNECTS)
			r = sk_take(ctx, u->f, &u->fd);
	}
	return r;
}

/* An end of a pair may be bound, if it takes datagrams; a stream's name comes by accept(2). */
static int own_pair_end(struct restore_ctx *ctx, struct usk *u)
{
	int r = sk_restore_owner(ctx, u->f, u->fd);

	return r || !u->e->name.len || usk_is_stream(u) ? r : usk_bind(ctx, u, u->fd);
}

static void take_pair(const struct sk_call *c)
{
	struct usk *u = c->of;

	u->fd = c->made[0];
	if (u->how == USK_HALF)
		u->fake = c->made[1];
	else
		u->peer->fd = c->made[1];
}

static int own_pair(struct restore_ctx *ctx, const struct sk_call *c)
{
	struct usk *u = c->of;
	int r = own_pair_end(ctx, u);

	return r || u->how == USK_HALF ? r : own_pair_end(ctx, u->peer);
}

static int make_pairs(struct restore_ctx *ctx, struct unix_restore *s)
{
	_cleanup_free_ struct sk_call *calls = calloc(s->n_socks, sizeof(*calls));
	size_t n = 0;
	int r;

	if (!calls)
		return log_err(-ENOMEM, "unix sockets");
	for (size_t i = 0; i < s->n_socks; i++) {
		struct usk *u = &s->socks[i];

		/* Of a pair, the first one. */
		if (u->how != USK_HALF && (u->how != USK_PAIR || u->peer < u))
			continue;
		calls[n] = (struct sk_call){ .who = usk_creds(ctx, u, u), .sort = SK_PAIR, .of = u,
					     .quiet = u->how == USK_HALF,
					     .type = (int)u->e->type | SOCK_CLOEXEC | SOCK_NONBLOCK };
		if (!calls[n++].who)
			return -ENOMEM;
	}
	r = sk_call_as(ctx, calls, n);
	/* All of them, before anything fails: they are closed with their sockets. */
	for (size_t i = 0; !r && i < n; i++)
		take_pair(&calls[i]);
	for (size_t i = 0; !r && i < n; i++)
		r = own_pair(ctx, &calls[i]);
	return r;
}

static int make_listeners(struct restore_ctx *ctx, struct unix_restore *s)
{
	for (size_t i = 0; i < s->n_socks; i++) {
		struct usk *u = &s->socks[i];
		struct sk_call call = { .who = NULL, .sort = SK_LISTEN, .fd = u->fd,
					.backlog = (int)MIN(u->e->backlog, 65535u) };
		int r;

		if (u->how != USK_SOCKET || u->e->state != UNIX_LISTEN)
			continue;
		call.who = usk_creds(ctx, u, u);
		r = call.who ? 0 : -ENOMEM;
		if (!r && u->e->name.len)
			r = usk_bind(ctx, u, u->fd);
		if (!r)
			r = sk_call_as(ctx, &call, 1);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Connected, but still in the accept queue of a listener of the tree. */
static int connect_waiting(struct restore_ctx *ctx, struct usk *u)
{
	const struct usk *l = u->peer;
	struct sockaddr_un to;
	struct sk_call call = { .who = sk_creds_of(ctx, u->f), .sort = SK_CONNECT, .fd = u->fd };
	_cleanup_close_ int file = -EBADF;
	int r = usk_sockaddr(l->e, &to, &call.to_len);

	if (r < 0 || !call.who)
		return log_err(r < 0 ? r : -ENOMEM, "unix socket %u", u->e->ino);
	if (l->fd < 0)
		return log_fail(-EOPNOTSUPP, "unix socket %u waits at a listener that was handed in",
				u->e->ino);
	if (to.sun_path[0]) {
		file = call.to_file = ioctl(l->fd, SIOCUNIXFILE);
		if (file < 0)
			return log_err(neg_errno(), "cannot open the file of unix socket %u",
				       l->e->ino);
	} else {
		call.to = &to;
	}
	return sk_call_as(ctx, &call, 1);
}

static int connect_all_waiting(struct restore_ctx *ctx, struct unix_restore *s)
{
	for (size_t i = 0; i < s->n_socks; i++) {
		struct usk *u = &s->socks[i];
		int r = u->how == USK_SOCKET && u->peer && u->peer->e->state == UNIX_LISTEN &&
			usk_is_stream(u) ? connect_waiting(ctx, u) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* The other end was handed in: this one comes back as closed by it. */
static void drop_lonely(struct unix_restore *s)
{
	for (size_t i = 0; i < s->n_socks; i++) {
		struct usk *u = &s->socks[i];

		if ((u->how == USK_PAIR || u->how == USK_CONNECTS) && u->peer->how == USK_NONE)
			u->how = USK_HALF;
	}
}

int unix_begin(struct restore_ctx *ctx)
{
	struct unix_restore *s = ctx->kind_state[FD_TYPES__UNIXSK];
	int r;

	if (!s || !s->n_socks)
		return 0;
	for (size_t i = 0; i < s->n_socks; i++)
		s->socks[i].how = how_of(ctx, s, &s->socks[i]);
	drop_lonely(s);
	r = take_sockets(ctx, s);
	if (!r)
		r = usk_connections(ctx, s);
	if (!r)
		r = make_pairs(ctx, s);
	if (!r)
		r = make_listeners(ctx, s);
	return r < 0 ? r : connect_all_waiting(ctx, s);
}
