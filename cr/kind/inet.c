/*
 * Internet sockets: TCP, UDP, raw, ping.
 *
 *   dump     getsockname(2), SO_PEERNAME, TCP_INFO, options; the stream of a connection
 *   restore  socket, bind with IP_FREEBIND and SO_REUSEADDR (both as saved at the end), then
 *            listen, connect, or the stream in TCP repair mode
 *   finish   repair mode left, buffers and SO_REUSEADDR as they were
 *
 * A listening socket and its connections share a port: without SO_REUSEADDR on all of them
 * while the tree is rebuilt, the order of restoring would decide who may bind.
 */
#include <net/if.h>
#include <poll.h>
#include <string.h>

#include "kind/kinds.h"
#include "kind/sk_inet.h"
#include "ns/cgroup.h"

static bool inet_match(const struct dump_file *f)
{
	int family = sk_family(f);

	return family == AF_INET || family == AF_INET6;
}

static int words_of(struct dump_ctx *ctx, const union inet_addr *a, uint32_t family,
		    uint32_t **ret, size_t *ret_n)
{
	size_t n = family == AF_INET ? 1 : 4;

	*ret = arena_alloc(&ctx->arena, n * sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	*ret_n = n;
	if (a->sa.sa_family == AF_INET)
		**ret = a->v4.sin_addr.s_addr;
	else if (a->sa.sa_family == AF_INET6)
		memcpy(*ret, &a->v6.sin6_addr, n * sizeof(**ret));
	return 0;
}

static bool has_no_ports(const InetSkEntry *e)
{
	return e->type == SOCK_RAW || e->proto == IPPROTO_ICMP || e->proto == IPPROTO_ICMPV6;
}

/* SO_PEERNAME also tells of a handshake and of what is over, where getpeername(2) does not. */
static void peer_name(int fd, uint32_t family, union inet_addr *ret)
{
	socklen_t len = family == AF_INET ? sizeof(ret->v4) : sizeof(ret->v6);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, ret, &len) < 0)
		*ret = (union inet_addr){ 0 };
}

static int dump_addresses(struct dump_ctx *ctx, struct dump_file *f, InetSkEntry *e)
{
	union inet_addr src = { 0 }, dst = { 0 };
	socklen_t len = sizeof(src);
	uint32_t scope = 0;
	int r;

	if (getsockname(f->fd, &src.sa, &len) < 0)
		return log_err(neg_errno(), "cannot read the socket's address");
	peer_name(f->fd, e->family, &dst);
	if (e->type == SOCK_RAW)	/* the protocol, not a port */
		src.v4.sin_port = dst.v4.sin_port = 0;
	if (has_no_ports(e) && !dst.sa.sa_family) {
		r = raw_peer(f, e, &dst);
		if (r < 0)
			return r;
	}
	e->state = e->type == SOCK_STREAM ? e->state : dst.sa.sa_family ? TCP_ESTABLISHED : TCP_CLOSE;
	e->src_port = inet_addr_port(&src);
	e->dst_port = inet_addr_port(&dst);
	if (src.sa.sa_family == AF_INET6)
		scope = src.v6.sin6_scope_id;
	if (!scope && dst.sa.sa_family == AF_INET6)
		scope = dst.v6.sin6_scope_id;
	if (scope) {
		char name[IF_NAMESIZE];

		if (!if_indextoname(scope, name))
			return log_err(neg_errno(), "no name for interface %u", scope);
		e->ifname = arena_strdup(&ctx->arena, name);
		if (!e->ifname)
			return -ENOMEM;
	}
	r = words_of(ctx, &src, e->family, &e->src_addr, &e->n_src_addr);
	return r < 0 ? r : words_of(ctx, &dst, e->family, &e->dst_addr, &e->n_dst_addr);
}

static bool get_flag(int fd, int level, int name, protobuf_c_boolean *has)
{
	int v;

	if (sk_get_int(fd, level, name, &v) < 0 || !v)
		return false;
	*has = true;
	return true;
}

static int dump_ip_opts(struct dump_ctx *ctx, struct dump_file *f, InetSkEntry *e)
{
	IpOptsEntry *o = ARENA_MSG(&ctx->arena, IpOptsEntry, ip_opts_entry);
	bool v6 = e->family == AF_INET6;
	_cleanup_close_ int fresh = -EBADF;
	int v, w;

	if (!o)
		return -ENOMEM;
	e->ip_opts = o;
	o->freebind = v6 ? get_flag(f->fd, SOL_IPV6, IPV6_FREEBIND, &o->has_freebind)
			 : get_flag(f->fd, SOL_IP, IP_FREEBIND, &o->has_freebind);
	o->pktinfo = v6 ? get_flag(f->fd, SOL_IPV6, IPV6_RECVPKTINFO, &o->has_pktinfo)
			: get_flag(f->fd, SOL_IP, IP_PKTINFO, &o->has_pktinfo);
	if (!sk_get_int(f->fd, SOL_IP, IP_TOS, &v) && v) {
		o->has_tos = true;
		o->tos = (uint32_t)v;
	}
	/* The default is the system's; set explicitly it would no longer follow it. */
	fresh = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (!sk_get_int(f->fd, SOL_IP, IP_TTL, &v) &&
	    (sk_get_int(fresh, SOL_IP, IP_TTL, &w) < 0 || v != w)) {
		o->has_ttl = true;
		o->ttl = (uint32_t)v;
	}
	return raw_opts_dump(ctx, f->fd, e, o);
}

static int dump_tcp_opts(struct dump_ctx *ctx, struct dump_file *f, InetSkEntry *e)
{
	TcpOptsEntry *o = ARENA_MSG(&ctx->arena, TcpOptsEntry, tcp_opts_entry);

	if (!o)
		return -ENOMEM;
	e->tcp_opts = o;
	if (e->type != SOCK_STREAM)	/* what a Multipath TCP listener accepts has them from it */
		return 0;
	o->nodelay = get_flag(f->fd, SOL_TCP, TCP_NODELAY, &o->has_nodelay);
	o->cork = get_flag(f->fd, SOL_TCP, TCP_CORK, &o->has_cork);
	if (!e->opts->so_keepalive)
		return 0;
	o->has_keepcnt = e->opts->has_tcp_keepcnt;
	o->keepcnt = e->opts->tcp_keepcnt;
	o->has_keepidle = e->opts->has_tcp_keepidle;
	o->keepidle = e->opts->tcp_keepidle;
	o->has_keepintvl = e->opts->has_tcp_keepintvl;
	o->keepintvl = e->opts->tcp_keepintvl;
	return 0;
}

static void set_shutdown(InetSkEntry *e, uint32_t how)
{
	if (!how)
		return;
	e->has_shutdown = true;
	e->shutdown = (SkShutdown)how;
}

static int dump_cgroup(struct dump_ctx *ctx, struct dump_file *f, const struct sockdiag *d,
		       InetSkEntry *e)
{
	int r = d && !ctx->opts->no_cgroups ? cgroup_of_socket(ctx, f->owner, d->cgroup, &e->cgroup)
					    : 0;

	return r < 0 ? log_err(r, "cannot find the socket's control group") : 0;
}

static int dump_tcp(struct dump_ctx *ctx, struct dump_file *f, InetSkEntry *e)
{
	struct tcp_info info;
	const struct sockdiag *d;
	struct pollfd p = { .fd = f->fd, .events = POLLIN | POLLRDHUP };
	int r = tcp_get_info(f->fd, &info);

	if (r < 0)
		return log_err(r, "cannot read TCP_INFO");
	e->state = info.tcpi_state;
	r = dump_addresses(ctx, f, e);
	if (!r)
		r = tcp_check(ctx, f, e->state);
	if (!r)
		r = sk_diag(ctx, f, SOCKDIAG_TCP, true, &d);
	if (!r)
		r = dump_cgroup(ctx, f, d, e);
	if (r < 0)
		return r;
	if (d)
		set_shutdown(e, d->shutdown);
	if (e->state == TCP_LISTEN) {
		e->backlog = info.tcpi_sacked;
		return 0;
	}
	if (e->state == TCP_CLOSE) {
		/* Never connected, or over and done? Only the latter has its receive side shut. */
		if (poll(&p, 1, 0) < 0 || !(p.revents & POLLRDHUP))
			return 0;
		set_shutdown(e, SK_SHUTDOWN__BOTH);
		e->has_reset = e->reset = p.revents & POLLERR;
	}
	if (ctx->opts->log_obstacles_only || ctx->opts->tcp_close)
		return 0;
	return tcp_dump_stream(ctx, f, e);
}

static int dump_udp(struct dump_ctx *ctx, struct dump_file *f, InetSkEntry *e)
{
	const struct sockdiag *d = NULL;
	int r = dump_addresses(ctx, f, e);

	if (!r)
		r = udp_check(ctx, f, e->type, e->proto, (uint16_t)e->src_port);
	if (!r)
		r = mcast_dump(ctx, f, e);
	udp_reset_peek_off(e->opts);
	/* Those without a port are not listed. */
	if (!r && e->src_port && e->proto == IPPROTO_UDP)
		r = sk_diag(ctx, f, SOCKDIAG_UDP, true, &d);
	if (!r)
		r = dump_cgroup(ctx, f, d, e);
	/* Only a connected one can be shut down. */
	if (!r && d && e->state == TCP_ESTABLISHED)
		set_shutdown(e, d->shutdown);
	return r;
}

/* A listener that also takes Multipath TCP (Go programs') is like any; connections are not. */
static bool is_mptcp_listener(int fd, const InetSkEntry *e)
{
	int listens;

	return e->type == SOCK_STREAM && e->proto == IPPROTO_MPTCP &&
	       !sk_get_int(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens) && listens;
}

static int check_sort(int fd, const InetSkEntry *e)
{
	if (e->type == SOCK_STREAM && (e->proto == IPPROTO_TCP || is_mptcp_listener(fd, e)))
		return 0;
	if (e->type == SOCK_DGRAM && (e->proto == IPPROTO_UDP || e->proto == IPPROTO_UDPLITE ||
				      e->proto == IPPROTO_ICMP || e->proto == IPPROTO_ICMPV6))
		return 0;
	if (e->type == SOCK_RAW)
		return 0;
	return log_obstacle("let the service use plain TCP or close the socket first",
			    "internet socket of %s (type %u, protocol %u)",
			    e->proto == IPPROTO_MPTCP ? "MPTCP" : e->proto == 132 ? "SCTP" :
			    e->proto == 33 ? "DCCP" : "an unknown protocol", e->type, e->proto);
}

static int inet_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	InetSkEntry *e = ARENA_MSG(&ctx->arena, InetSkEntry, inet_sk_entry);
	int family = 0, type = 0, proto = 0, r;

	if (!e)
		return -ENOMEM;
	if (sk_get_int(f->fd, SOL_SOCKET, SO_DOMAIN, &family) < 0 ||
	    sk_get_int(f->fd, SOL_SOCKET, SO_TYPE, &type) < 0 ||
	    sk_get_int(f->fd, SOL_SOCKET, SO_PROTOCOL, &proto) < 0)
		return log_err(neg_errno(), "cannot read the socket's sort");
	e->id = f->id;
	e->ino = (uint32_t)f->st.st_ino;
	e->family = (uint32_t)family;
	e->type = (uint32_t)type;
	e->proto = (uint32_t)proto;
	e->flags = f->flags;
	e->ns_id = sk_ns_id(f);
	e->has_ns_id = e->ns_id != 0;
	if (family == AF_INET6) {
		e->has_v6only = true;
		e->v6only = !sk_get_int(f->fd, SOL_IPV6, IPV6_V6ONLY, &type) && type;
	}
	f->fe->isk = e;
	r = check_sort(f->fd, e);
	if (!r)
		r = dump_fown(ctx, f, &e->fown);
	if (!r)
		r = sk_opts_dump(ctx, f, &e->opts);
	if (!r)
		r = dump_ip_opts(ctx, f, e);
	if (!r)
		r = dump_tcp_opts(ctx, f, e);
	if (r < 0)
		return r;
	return e->type == SOCK_STREAM ? dump_tcp(ctx, f, e) : dump_udp(ctx, f, e);
}

static void inet_dump_done(struct dump_ctx *ctx)
{
	tcp_dump_done(ctx);
	cgroup_ids_done(ctx);
	sk_dump_done(ctx);
}

const struct kind kind_inet = {
	.name = "internet socket",
	.type = FD_TYPES__INETSK,
	.match = inet_match,
	.dump = inet_dump,
	.dump_done = inet_dump_done,
	.begin = inet_begin,
	.restore = inet_restore,
	.finish = inet_finish,
	.restore_done = inet_restore_done,
};
