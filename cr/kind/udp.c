/*
 * UDP, UDP-Lite, ping and raw sockets: what keeps them from being dumped, and the options of
 * raw ones. Datagrams that wait to be read are lost, as the network may lose any.
 */
#include <inttypes.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <linux/sockios.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kernel/peek.h"
#include "kind/sk_inet.h"

#ifndef ICMP_FILTER
#define ICMP_FILTER	1
#endif
#ifndef ICMPV6_FILTER
#define ICMPV6_FILTER	1
#endif

/*
 * Pieces of a datagram that the program has not completed yet (UDP_CORK, MSG_MORE): no call gives them back. Bytes
 * that are not sent yet may also be whole datagrams that a device or a neighbour's address keeps waiting, which the
 * kernel sends itself. 1: there are pieces; -EOPNOTSUPP and the like: nobody can tell.
 */
static int has_pieces(struct dump_ctx *ctx, int fd)
{
	uint64_t socket, sk, n;
	struct peek *pk;
	int bytes, r;

	if (ioctl(fd, SIOCOUTQ, &bytes) < 0 || !bytes)
		return 0;
	r = dump_peek_private(ctx, fd, &pk, &socket);
	if (r >= 0)
		r = peek_member(pk, socket, "socket", "sk", 8, &sk);
	if (r >= 0)
		r = peek_member(pk, sk, "sock", "sk_write_queue.qlen", 4, &n);
	return r < 0 ? r : n > 0;
}

static int check_pieces(struct dump_ctx *ctx, int fd, uint32_t type, uint16_t port)
{
	int pieces = has_pieces(ctx, fd), corked;

	/* Who corks a socket means to send such. */
	if (pieces < 0 && type == SOCK_DGRAM && !sk_get_int(fd, SOL_UDP, UDP_CORK, &corked) && corked)
		pieces = 1;
	if (pieces > 0)
		return log_obstacle("try again", "%s socket with a datagram that is not complete (UDP_CORK, MSG_MORE; "
				    "port %u)", type == SOCK_RAW ? "raw" : "UDP", port);
	if (pieces < 0 && !ctx->opts->log_obstacles_only)
		log_warn("a datagram of port %u that is not complete (MSG_MORE) is lost, if there is one", port);
	return 0;
}

int udp_check(struct dump_ctx *ctx, struct dump_file *f, uint32_t type, uint32_t proto,
	      uint16_t port)
{
	struct pollfd p = { .fd = f->fd };
	int v, queued = 0, r;

	if (proto == IPPROTO_UDP && type == SOCK_DGRAM && !sk_get_int(f->fd, SOL_UDP, UDP_ENCAP, &v) && v)
		return log_obstacle("stop the service and start it after the upgrade",
				    "UDP socket with encapsulation %d (port %u)", v, port);
	r = check_pieces(ctx, f->fd, type, port);
	if (r < 0 || ctx->opts->log_obstacles_only)
		return r;
	if (!ioctl(f->fd, SIOCINQ, &queued) && queued > 0)
		log_warn("unread datagrams of port %u are lost", port);
	if (poll(&p, 1, 0) > 0 && p.revents & POLLERR)
		log_warn("an error that nobody has read yet (port %u) is lost", port);
	return 0;
}

/* It counts from the first of the datagrams that are lost: the next ones would be passed over. */
void udp_reset_peek_off(SkOptsEntry *o)
{
	static const int zero;

	for (size_t i = 0; i < o->n_extra; i++) {
		ProtobufCBinaryData *v = &o->extra[i]->value;
		int off;

		if (o->extra[i]->level != SOL_SOCKET || o->extra[i]->name != SO_PEEK_OFF ||
		    v->len != sizeof(off))
			continue;
		memcpy(&off, v->data, sizeof(off));
		if (off > 0)
			memcpy(v->data, &zero, sizeof(zero));
	}
}

/* Words as the kernel prints them: as it has them in memory. */
static int hex_words(const char *hex, uint32_t *ret, size_t n)
{
	if (strspn(hex, "0123456789ABCDEF") != n * 8)
		return -EBADMSG;
	for (size_t i = 0; i < n; i++)
		if (sscanf(hex + i * 8, "%8" SCNx32, &ret[i]) != 1)
			return -EBADMSG;
	return 0;
}

int raw_peer_parse(const char *text, uint32_t family, uint64_t ino, union inet_addr *ret)
{
	for (const char *l = strchr(text, '\n'); l && l[1]; l = strchr(l + 1, '\n')) {
		char hex[40];
		unsigned int state;
		uint64_t found;
		int r;

		if (sscanf(l + 1, " %*u: %*39[0-9A-F]:%*4x %39[0-9A-F]:%*4x %2x %*s %*s %*s %*u %*d %"
			   SCNu64, hex, &state, &found) != 3)
			return -EBADMSG;
		if (found != ino || state != TCP_ESTABLISHED)
			continue;
		*ret = (union inet_addr){ .sa = { .sa_family = (sa_family_t)family } };
		r = family == AF_INET ? hex_words(hex, &ret->v4.sin_addr.s_addr, 1)
				      : hex_words(hex, ret->v6.sin6_addr.s6_addr32, 4);
		return r < 0 ? r : 1;
	}
	return 0;
}

int raw_peer(const struct dump_file *f, const InetSkEntry *e, union inet_addr *ret)
{
	bool v6 = e->family == AF_INET6;
	/* Of the namespace the engine is in: the socket's, which may not be its process's. */
	const char *file = e->type == SOCK_RAW ? v6 ? "/proc/thread-self/net/raw6"
						    : "/proc/thread-self/net/raw"
					       : v6 ? "/proc/thread-self/net/icmp6"
						    : "/proc/thread-self/net/icmp";
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(-1, file, READ_FILE_MAX, &text, NULL);

	if (r >= 0)
		r = raw_peer_parse(text, e->family, f->st.st_ino, ret);
	return r < 0 ? log_err(r, "cannot read %s", file) : r;
}

int raw_opts_dump(struct dump_ctx *ctx, int fd, const InetSkEntry *e, IpOptsEntry *o)
{
	IpOptsRawEntry *w;
	bool v6 = e->family == AF_INET6;
	uint32_t filter[8] = { 0 };
	socklen_t len = sizeof(filter);
	int v;

	if (e->type != SOCK_RAW)
		return 0;
	w = o->raw = ARENA_MSG(&ctx->arena, IpOptsRawEntry, ip_opts_raw_entry);
	if (!w)
		return -ENOMEM;
	if (!sk_get_int(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_HDRINCL : IP_HDRINCL, &v) && v)
		w->has_hdrincl = w->hdrincl = true;
	if (!v6 && !sk_get_int(fd, SOL_IP, IP_NODEFRAG, &v) && v)
		w->has_nodefrag = w->nodefrag = true;
	if (v6 && !sk_get_int(fd, SOL_IPV6, IPV6_CHECKSUM, &v) && v >= 0)
		w->has_checksum = w->checksum = true;
	if ((v6 && e->proto != IPPROTO_ICMPV6) || (!v6 && e->proto != IPPROTO_ICMP) ||
	    getsockopt(fd, v6 ? SOL_ICMPV6 : SOL_RAW, v6 ? ICMPV6_FILTER : ICMP_FILTER, filter,
		       &len) < 0)
		return 0;
	w->n_icmpv_filter = len / 4;
	w->icmpv_filter = arena_memdup(&ctx->arena, filter, len);
	return w->icmpv_filter ? 0 : -ENOMEM;
}

int raw_opts_restore(int fd, const InetSkEntry *e)
{
	const IpOptsRawEntry *w = e->ip_opts->raw;
	bool v6 = e->family == AF_INET6;
	int r = 0;

	if (!w || e->type != SOCK_RAW)
		return 0;
	if (w->hdrincl)
		r = v6 ? SK_SET(fd, SOL_IPV6, IPV6_HDRINCL, 1) : SK_SET(fd, SOL_IP, IP_HDRINCL, 1);
	if (!r && w->nodefrag && !v6)
		r = SK_SET(fd, SOL_IP, IP_NODEFRAG, 1);
	if (r < 0 || !w->n_icmpv_filter)
		return r;
	if (w->n_icmpv_filter > 8)
		return log_fail(-EBADMSG, "ICMP filter of %zu words", w->n_icmpv_filter);
	if (setsockopt(fd, v6 ? SOL_ICMPV6 : SOL_RAW, v6 ? ICMPV6_FILTER : ICMP_FILTER,
		       w->icmpv_filter, (socklen_t)(w->n_icmpv_filter * 4)) < 0)
		return log_err(neg_errno(), "cannot set the ICMP filter");
	return 0;
}
