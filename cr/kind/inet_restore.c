/* Internet sockets, the restoring half; see inet.c. */
#include <fcntl.h>
#include <net/if.h>
#include <string.h>

#include "kind/kinds.h"
#include "kind/sk_inet.h"

/* Until finish(): what is left to do with the socket. */
struct inet_made {
	uint32_t file_id;
	const InetSkEntry *e;
	bool inherited;
	struct tcp_put *stream;		/* NULL: no connection */
	int fd;				/* of a connection that is finished, else -1 */
};

struct inet_restore {
	struct map made;		/* by file id */
};

int inet_check_entry(const InetSkEntry *e)
{
	size_t words = e->family == AF_INET6 ? 4 : 1;

	if (e->family != AF_INET && e->family != AF_INET6)
		return log_fail(-EBADMSG, "address family %u", e->family);
	if (e->n_src_addr != words || e->n_dst_addr != words)
		return log_fail(-EBADMSG, "%zu and %zu address words in family %u", e->n_src_addr,
				e->n_dst_addr, e->family);
	if (e->src_port > UINT16_MAX || e->dst_port > UINT16_MAX)
		return log_fail(-EBADMSG, "port %u or %u", e->src_port, e->dst_port);
	if (e->type != SOCK_STREAM && e->type != SOCK_DGRAM && e->type != SOCK_RAW)
		return log_fail(-EBADMSG, "socket type %u", e->type);
	if (e->proto > UINT16_MAX)
		return log_fail(-EBADMSG, "protocol %u", e->proto);
	if (e->ifname && strlen(e->ifname) >= IFNAMSIZ)
		return log_fail(-EBADMSG, "interface name \"%s\"", e->ifname);
	if (e->type == SOCK_STREAM &&
	    (e->state < TCP_ESTABLISHED || e->state > TCP_CLOSING || e->state == TCP_SYN_RECV ||
	     e->state == TCP_TIME_WAIT))
		return log_fail(-EBADMSG, "TCP state %u", e->state);
	if (e->type != SOCK_STREAM && e->state != TCP_ESTABLISHED && e->state != TCP_CLOSE)
		return log_fail(-EBADMSG, "socket of type %u in state %u", e->type, e->state);
	if (e->has_shutdown && (uint32_t)e->shutdown > SK_SHUTDOWN__BOTH)
		return log_fail(-EBADMSG, "socket shut down in a way of number %d", (int)e->shutdown);
	if (e->ip_opts && e->ip_opts->tos > UINT8_MAX)
		return log_fail(-EBADMSG, "socket option IP_TOS: %u", e->ip_opts->tos);
	return sk_opts_check(e->opts);
}

int tcp_check_entry(const TcpStreamEntry *e)
{
	if (e->inq_len > 1u << 30 || e->outq_len > 1u << 30 || e->unsq_len > e->outq_len)
		return log_fail(-EBADMSG, "TCP queues of %u and %u bytes, %u not sent", e->inq_len,
				e->outq_len, e->unsq_len);
	if (e->snd_wscale > 14 || e->rcv_wscale > 14 || e->mss_clamp > UINT16_MAX)
		return log_fail(-EBADMSG, "TCP window scales %u and %u, segment size %u",
				e->snd_wscale, e->rcv_wscale, e->mss_clamp);
	if (e->opt_mask & TCPI_OPT_WSCALE && !e->has_rcv_wscale)
		return log_fail(-EBADMSG, "TCP window scaling without rcv_wscale");
	if (e->opt_mask & TCPI_OPT_TIMESTAMPS && !e->has_timestamp)
		return log_fail(-EBADMSG, "TCP timestamps without a timestamp");
	if (e->has_snd_wl1 && !(e->has_snd_wnd && e->has_max_window && e->has_rcv_wnd &&
				e->has_rcv_wup))
		return log_fail(-EBADMSG, "TCP window incomplete");
	return 0;
}

static struct inet_restore *state_get(struct restore_ctx *ctx)
{
	if (!ctx->kind_state[FD_TYPES__INETSK])
		ctx->kind_state[FD_TYPES__INETSK] = ARENA_NEW(&ctx->arena, struct inet_restore);
	return ctx->kind_state[FD_TYPES__INETSK];
}

static struct inet_made *made_new(struct restore_ctx *ctx, const struct restore_file *f)
{
	struct inet_restore *s = state_get(ctx);
	struct inet_made *m = s ? ARENA_NEW(&ctx->arena, struct inet_made) : NULL;

	if (!m || map_put(&s->made, f->id, m) < 0)
		return NULL;
	m->file_id = f->id;
	m->fd = -EBADF;
	m->e = f->fe->isk;
	return m;
}

static int addresses(const InetSkEntry *e, union inet_addr *src, union inet_addr *dst)
{
	int r = inet_addr_from_image(e->family, e->src_addr, e->n_src_addr, e->src_port,
				     e->ifname, src);

	if (!r)
		r = inet_addr_from_image(e->family, e->dst_addr, e->n_dst_addr, e->dst_port,
					 e->ifname, dst);
	if (r == -ENODEV)
		return log_err(r, "interface %s of a link-local address", e->ifname);
	return r < 0 ? log_err(r, "addresses") : 0;
}

/* The queues are used until finish(): what was never sent leaves only then. */
static int load_stream(struct restore_ctx *ctx, const InetSkEntry *e, struct tcp_put *p)
{
	_cleanup_image_reader_ struct image_reader r = { 0 };
	TcpStreamEntry *entry;
	const void *inq = NULL, *outq = NULL;
	int rc = image_open(ctx->store, &image_tcp_stream, &r, e->ino);

	if (rc == -ENOENT)
		return log_fail(rc, "tcp-stream-%x.img is missing: a dump with --tcp-close has none, "
				"and its restore needs that option, too", e->ino);
	if (rc < 0)
		return log_err(rc, "tcp-stream-%x.img", e->ino);
	rc = image_get(&r, &ctx->arena, tcp_stream_entry, &entry);
	if (rc <= 0)
		return rc < 0 ? rc : log_fail(-EBADMSG, "%s is empty", r.name);
	rc = tcp_check_entry(entry);
	if (!rc && entry->inq_len)
		rc = image_get_raw(&r, entry->inq_len, &inq);
	if (!rc && entry->outq_len)
		rc = image_get_raw(&r, entry->outq_len, &outq);
	if (rc < 0)
		return log_err(rc, "%s", r.name);
	p->e = entry;
	p->inq = arena_memdup(&ctx->arena, inq ? inq : "", entry->inq_len + !inq);
	p->outq = arena_memdup(&ctx->arena, outq ? outq : "", entry->outq_len + !outq);
	return p->inq && p->outq ? 0 : log_err(-ENOMEM, "%s", r.name);
}

static int make_connection(struct restore_ctx *ctx, struct inet_made *m, int fd)
{
	struct tcp_put *p = ARENA_NEW(&ctx->arena, struct tcp_put);
	char from[INET_ADDR_TEXT], to[INET_ADDR_TEXT];
	int r;

	if (!p)
		return log_err(-ENOMEM, "TCP connection");
	p->state = m->e->state;
	p->device = m->e->opts->so_bound_dev;
	r = addresses(m->e, &p->src, &p->dst);
	if (!r)
		r = load_stream(ctx, m->e, p);
	if (!r && p->state == TCP_FIN_WAIT2 && p->e->outq_len)
		r = log_fail(-EBADMSG, "tcp-stream-%x.img: %u bytes that the peer has not got, but it has got our end "
			     "(FIN-WAIT-2)", m->e->ino, p->e->outq_len);
	if (r < 0)
		return r;
	LOG_SCOPE("%s to %s", inet_addr_text(&p->src, from), inet_addr_text(&p->dst, to));
	m->stream = p;
	return tcp_stream_put(fd, p);
}

static enum tcp_end end_of(const InetSkEntry *e)
{
	if (e->refused)
		return e->reset ? TCP_END_REFUSED : TCP_END_REFUSED_READ;
	return e->reset ? TCP_END_RESET : TCP_END_CLOSED;
}

/* --tcp-close: to its program the connection has ended, and nothing of it is left to read. */
static int make_closed(const InetSkEntry *e, int fd)
{
	union inet_addr src, dst;
	int r = addresses(e, &src, &dst);

	return r < 0 ? r : tcp_dead_make(fd, e->family, &src, NULL, 0,
					 e->state == TCP_SYN_SENT ? TCP_END_REFUSED : end_of(e));
}

/* Over and done, but perhaps with data to read. */
static int make_dead(struct restore_ctx *ctx, const InetSkEntry *e, int fd)
{
	union inet_addr src, dst;
	struct tcp_put p = { 0 };
	int r = addresses(e, &src, &dst);

	if (!r)
		r = load_stream(ctx, e, &p);
	if (r < 0)
		return r;
	return tcp_dead_make(fd, e->family, &src, p.inq, p.e->inq_len, end_of(e));
}

static int make_plain(const InetSkEntry *e, int fd)
{
	union inet_addr src, dst;
	char text[INET_ADDR_TEXT];
	int r = addresses(e, &src, &dst);

	if (!r)
		r = inet_bind(fd, &src);
	if (r < 0)
		return r;
	if (e->type == SOCK_STREAM) {
		if (e->state == TCP_LISTEN && listen(fd, (int)MIN(e->backlog, 65535u)) < 0)
			return log_err(neg_errno(), "cannot listen on %s: another process does?",
				       inet_addr_text(&src, text));
		return 0;
	}
	if (e->state != TCP_ESTABLISHED)
		return 0;
	if (connect(fd, &dst.sa, inet_addr_len(&dst)) < 0)
		return log_err(neg_errno(), "cannot connect to %s", inet_addr_text(&dst, text));
	if (e->has_shutdown && e->shutdown != SK_SHUTDOWN__NONE && shutdown(fd, (int)e->shutdown - 1) < 0)
		return log_err(neg_errno(), "cannot shut the socket down");
	return 0;
}

static int make(struct restore_ctx *ctx, struct inet_made *m, int fd)
{
	const InetSkEntry *e = m->e;

	if (e->type != SOCK_STREAM || e->state == TCP_LISTEN ||
	    (e->state == TCP_CLOSE && !e->has_shutdown && !e->dst_port))
		return make_plain(e, fd);
	/* Closed, but not a new one: its port may be a listener's, beside which it could not be bound. */
	if (ctx->opts->tcp_close)
		return make_closed(e, fd);
	if (e->state != TCP_CLOSE) {
		if (!ctx->opts->tcp_established)
			return log_fail(-EOPNOTSUPP, "a connected TCP socket: needs "
					"--tcp-established or --tcp-close");
		return make_connection(ctx, m, fd);
	}
	return make_dead(ctx, e, fd);
}

static int early_options(int fd, const InetSkEntry *e)
{
	int v6only, r = sk_opts_restore_early(fd, e->opts);

	if (!r)
		r = inet_freebind_set(fd, e->family, true);
	/* Raw sockets do not let it be set, not even to what it is. */
	if (!r && e->family == AF_INET6 && e->has_v6only &&
	    (sk_get_int(fd, SOL_IPV6, IPV6_V6ONLY, &v6only) < 0 || !v6only != !e->v6only))
		r = SK_SET(fd, SOL_IPV6, IPV6_V6ONLY, e->v6only);
	return r;
}

static int ip_options(int fd, const InetSkEntry *e)
{
	const IpOptsEntry *o = e->ip_opts;
	int r = 0;

	if (!o)
		return 0;
	if (o->pktinfo)
		r = e->family == AF_INET6 ? SK_SET(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1)
					  : SK_SET(fd, SOL_IP, IP_PKTINFO, 1);
	if (!r && o->has_tos)
		r = SK_SET(fd, SOL_IP, IP_TOS, (int)o->tos);
	if (!r && o->has_ttl)
		r = SK_SET(fd, SOL_IP, IP_TTL, (int)o->ttl);
	return r < 0 ? r : raw_opts_restore(fd, e);
}

static int tcp_options(int fd, const InetSkEntry *e)
{
	const TcpOptsEntry *o = e->tcp_opts;
	int r = 0;

	if (e->type != SOCK_STREAM || !o)
		return 0;
	if (o->nodelay)
		r = SK_SET(fd, SOL_TCP, TCP_NODELAY, 1);
	if (!r && o->cork)
		r = SK_SET(fd, SOL_TCP, TCP_CORK, 1);
	if (!r && o->has_keepcnt)
		r = SK_SET(fd, SOL_TCP, TCP_KEEPCNT, (int)o->keepcnt);
	if (!r && o->has_keepidle)
		r = SK_SET(fd, SOL_TCP, TCP_KEEPIDLE, (int)o->keepidle);
	if (!r && o->has_keepintvl)
		r = SK_SET(fd, SOL_TCP, TCP_KEEPINTVL, (int)o->keepintvl);
	return r;
}

static int inet_sort(struct restore_ctx *ctx _unused_, const struct restore_file *f,
		     struct sk_sort *ret, const char **ret_cgroup)
{
	const InetSkEntry *e = f->fe->isk;
	int r = inet_check_entry(e);

	if (r < 0)
		return r;
	*ret = (struct sk_sort){ (int)e->family, (int)e->type, (int)e->proto };
	*ret_cgroup = e->cgroup;
	if (e->proto == IPPROTO_MPTCP && e->state == TCP_LISTEN) {
		_cleanup_close_ int probe = socket(ret->family, ret->type | SOCK_CLOEXEC,
						   ret->proto);

		if (probe < 0) {
			log_warn("this kernel has no Multipath TCP: a listener is plain TCP now");
			ret->proto = IPPROTO_TCP;
		}
	}
	return 1;
}

int inet_begin(struct restore_ctx *ctx)
{
	return sk_make(ctx, FD_TYPES__INETSK, inet_sort);
}

int inet_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const InetSkEntry *e = f->fe->isk;
	struct inet_made *m = made_new(ctx, f);
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!m)
		return log_err(-ENOMEM, "internet socket");
	r = sk_inherit(ctx, e->ino, ret_fd);
	m->inherited = r > 0;
	if (r)
		return MIN(r, 0);
	/* With its owner: SO_REUSEPORT groups are by that, before bind(2). */
	r = sk_take(ctx, f, &fd);
	if (!r)
		r = early_options(fd, e);
	/* Receive buffers decide the window scale at connect(2), Nagle how queues are cut. */
	if (!r)
		r = tcp_options(fd, e);
	if (!r)
		r = make(ctx, m, fd);
	if (!r)
		r = inet_freebind_set(fd, e->family, e->ip_opts && e->ip_opts->freebind);
	if (!r)
		r = ip_options(fd, e);
	if (!r && e->type != SOCK_STREAM)
		r = mcast_restore(fd, e);
	if (!r)
		r = sk_opts_restore(fd, e->opts);
	if (!r && !m->stream) {
		r = restore_flags_fown(fd, e->flags, e->fown);
		if (r < 0)
			log_err(r, "cannot set the socket's flags or owner");
	}
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

int inet_finish(struct restore_ctx *ctx, struct restore_file *f)
{
	struct inet_restore *s = ctx->kind_state[FD_TYPES__INETSK];
	struct inet_made *m = s ? map_get(&s->made, f->id) : NULL;
	int r = 0;

	if (!m || m->inherited)
		return 0;
	if (m->stream) {
		char from[INET_ADDR_TEXT], to[INET_ADDR_TEXT];

		LOG_SCOPE("%s to %s", inet_addr_text(&m->stream->src, from),
			  inet_addr_text(&m->stream->dst, to));
		r = tcp_stream_finish(f->fd, m->stream);
		if (!r && m->e->has_shutdown && m->e->shutdown & SK_SHUTDOWN__READ &&
		    !tcp_has_got_fin(m->e->state) && shutdown(f->fd, SHUT_RD) < 0)
			r = log_err(neg_errno(), "cannot shut the connection down");
		if (!r)
			r = restore_flags_fown(f->fd, m->e->flags, m->e->fown);
		if (r < 0)
			return log_err(r, "the connection");
		m->fd = f->fd;
	}
	return sk_opts_restore_late(f->fd, m->e->opts);
}

/* Nothing has come yet: the peer may be waiting for its retransmission timer. */
static bool is_quiet(const struct inet_made *m)
{
	struct {	/* as the kernel has gone on since libc's header */
		struct tcp_info head;
		uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
	} info;
	socklen_t len = sizeof(info);

	if (getsockopt(m->fd, SOL_TCP, TCP_INFO, &info, &len) < 0 || len < sizeof(info))
		return false;
	/* Bytes put into the queue by us count as received. */
	return info.head.tcpi_state == TCP_ESTABLISHED &&
	       info.bytes_received == m->stream->e->inq_len;
}

void inet_restore_done(struct restore_ctx *ctx)
{
	struct inet_restore *s = ctx->kind_state[FD_TYPES__INETSK];
	int r;

	if (!s)
		return;
	/* The tree runs already: this costs it nothing. */
	for (size_t i = 0; i < s->made.room; i++) {
		const struct inet_made *m = s->made.slots[i].val;

		if (!m || m->fd < 0 || !is_quiet(m))
			continue;
		r = tcp_kick(m->stream);
		if (r < 0)
			log_debug("file %u: cannot wake the peer: %s", m->file_id, strerror(-r));
	}
	map_done(&s->made);
}
