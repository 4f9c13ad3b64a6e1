/*
 * Socket options that CRIU's messages have no field for.
 *
 *   dump     those whose value differs from that of a fresh socket of the same sort
 *   restore  setsockopt(2) with the same bytes; what the new kernel refuses is a warning
 *
 * Only options whose get and set speak the same language belong into the table. Interfaces go by
 * name: their numbers are another kernel's.
 *
 * With fields of their own (sk_opts.c, inet.c, udp.c, packet.c): SO_SNDBUF, SO_RCVBUF, SO_SNDTIMEO,
 * SO_RCVTIMEO, SO_BUF_LOCK, SO_REUSEADDR, SO_REUSEPORT, SO_PASSCRED, SO_PASSSEC, SO_DONTROUTE,
 * SO_NO_CHECK, SO_BROADCAST, SO_OOBINLINE, SO_PRIORITY, SO_RCVLOWAT, SO_MARK, SO_LINGER,
 * SO_KEEPALIVE, SO_BINDTODEVICE, SO_ATTACH_FILTER, IP_TOS, IP_TTL, IP_FREEBIND, IP_HDRINCL,
 * IP_NODEFRAG, IPV6_V6ONLY, IPV6_FREEBIND, IPV6_HDRINCL, IPV6_RECVPKTINFO, ICMP_FILTER,
 * TCP_NODELAY, TCP_CORK; memberships (sk_mcast.c); PACKET_*.
 *
 * Refused by name: SO_ATTACH_BPF, TCP_ULP, TCP_MD5SIG, TCP_AO, UDP_ENCAP, packet rings, fanout.
 * The kernel does not tell: SO_ATTACH_REUSEPORT_CBPF and _EBPF, SO_CNX_ADVICE, IP_XFRM_POLICY,
 * SO_BUSY_POLL_BUDGET, IP_MULTICAST_IF by number, IPV6_PKTINFO, IPV6_MTU, IPV6_JOIN_ANYCAST, flow
 * labels.
 * No state: TCP_QUICKACK, TCP_THIN_DUPACK, SO_BSDCOMPAT, SO_SNDLOWAT, and what can only be read.
 */
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>

#include "kind/sk_common.h"
#include "kind/sk_numbers.h"

enum { ANY = -1, INET = -2, NO_STREAM = -3 };	/* INET: both families */
enum {
	LATE = 1,		/* when queues are filled and filters attached */
	UNCONNECTED = 2,	/* only before a connection, and of listeners */
	IFINDEX = 4,		/* an interface's number... */
	NET_ORDER = 8,		/* ... in network order */
};
#define VALUE_MAX	2048	/* extension headers */

struct option {
	int family, type, proto;	/* ANY or the only one it is for */
	int level, name, flags;
	const char *what;
};

#define O(family, type, proto, level, name, flags)			\
	{ family, type, proto, level, name, flags, #name }

static const struct option options[] = {
	O(ANY, ANY, ANY, SOL_SOCKET, SO_DEBUG, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TIMESTAMP_OLD, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TIMESTAMPNS_OLD, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TIMESTAMPING_OLD, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TIMESTAMP_NEW, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TIMESTAMPNS_NEW, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TIMESTAMPING_NEW, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_RXQ_OVFL, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_WIFI_STATUS, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_NOFCS, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_BUSY_POLL, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_PREFER_BUSY_POLL, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_MAX_PACING_RATE, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_INCOMING_CPU, UNCONNECTED),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_ZEROCOPY, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TXTIME, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_RESERVE_MEM, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TXREHASH, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_RCVMARK, 0),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_RCVPRIORITY, 0),
	/* Change what may be sent to it, or what arrives. */
	O(ANY, ANY, ANY, SOL_SOCKET, SO_PEEK_OFF, LATE),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_LOCK_FILTER, LATE),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_PASSPIDFD, LATE),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_PASSRIGHTS, LATE),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_CONGESTION, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_USER_TIMEOUT, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_DEFER_ACCEPT, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_FASTOPEN, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_FASTOPEN_KEY, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_NOTSENT_LOWAT, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_LINGER2, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_SYNCNT, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_INQ, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_KEEPIDLE, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_KEEPINTVL, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_KEEPCNT, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_SAVE_SYN, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_TX_DELAY, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_RTO_MAX_MS, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_RTO_MIN_US, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_DELACK_MAX_US, 0),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_MAXSEG, UNCONNECTED),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_FASTOPEN_CONNECT, UNCONNECTED),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_FASTOPEN_NO_COOKIE, UNCONNECTED),
	O(INET, SOCK_STREAM, ANY, SOL_TCP, TCP_WINDOW_CLAMP, LATE),
	O(INET, ANY, ANY, SOL_IP, IP_OPTIONS, 0),
	O(INET, ANY, ANY, SOL_IP, IP_RECVOPTS, 0),
	O(INET, ANY, ANY, SOL_IP, IP_RETOPTS, 0),
	O(INET, ANY, ANY, SOL_IP, IP_PKTINFO, 0),
	O(INET, ANY, ANY, SOL_IP, IP_MTU_DISCOVER, 0),
	O(INET, ANY, ANY, SOL_IP, IP_RECVERR, 0),
	O(INET, ANY, ANY, SOL_IP, IP_RECVERR_RFC4884, 0),
	O(INET, ANY, ANY, SOL_IP, IP_RECVTTL, 0),
	O(INET, ANY, ANY, SOL_IP, IP_RECVTOS, 0),
	O(INET, ANY, ANY, SOL_IP, IP_PASSSEC, 0),
	O(INET, ANY, ANY, SOL_IP, IP_TRANSPARENT, 0),
	O(INET, ANY, ANY, SOL_IP, IP_RECVORIGDSTADDR, 0),
	O(INET, ANY, ANY, SOL_IP, IP_MINTTL, 0),
	O(INET, ANY, ANY, SOL_IP, IP_CHECKSUM, 0),
	O(INET, ANY, ANY, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 0),
	O(INET, ANY, ANY, SOL_IP, IP_RECVFRAGSIZE, 0),
	O(INET, ANY, ANY, SOL_IP, IP_LOCAL_PORT_RANGE, 0),
	O(INET, NO_STREAM, ANY, SOL_IP, IP_MULTICAST_TTL, 0),
	O(INET, ANY, ANY, SOL_IP, IP_MULTICAST_LOOP, 0),
	O(INET, ANY, ANY, SOL_IP, IP_MULTICAST_ALL, 0),
	O(INET, ANY, ANY, SOL_IP, IP_MULTICAST_IF, 0),
	O(INET, ANY, ANY, SOL_IP, IP_UNICAST_IF, IFINDEX | NET_ORDER),
	O(INET, SOCK_RAW, ANY, SOL_IP, IP_ROUTER_ALERT, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVERR, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVERR_RFC4884, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_MTU_DISCOVER, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_TRANSPARENT, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVHOPLIMIT, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVHOPOPTS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVDSTOPTS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVRTHDR, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVPATHMTU, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVTCLASS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVORIGDSTADDR, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVFRAGSIZE, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_2292PKTINFO, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_2292HOPLIMIT, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_2292HOPOPTS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_2292DSTOPTS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_2292RTHDR, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_FLOWINFO, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_FLOWINFO_SEND, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_AUTOFLOWLABEL, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_TCLASS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_UNICAST_HOPS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_MINHOPCOUNT, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_DONTFRAG, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_ADDR_PREFERENCES, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_HOPOPTS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RTHDRDSTOPTS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RTHDR, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_DSTOPTS, 0),
	O(AF_INET6, NO_STREAM, ANY, SOL_IPV6, IPV6_MULTICAST_HOPS, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_MULTICAST_LOOP, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_MULTICAST_ALL, 0),
	O(AF_INET6, NO_STREAM, ANY, SOL_IPV6, IPV6_MULTICAST_IF, IFINDEX),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_UNICAST_IF, IFINDEX | NET_ORDER),
	O(AF_INET6, SOCK_RAW, ANY, SOL_IPV6, IPV6_CHECKSUM, 0),
	O(AF_INET6, SOCK_RAW, ANY, SOL_IPV6, IPV6_ROUTER_ALERT, 0),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_ROUTER_ALERT_ISOLATE, 0),
	O(INET, SOCK_DGRAM, ANY, SOL_UDP, UDP_CORK, 0),
	O(INET, SOCK_DGRAM, ANY, SOL_UDP, UDP_SEGMENT, 0),
	O(INET, SOCK_DGRAM, ANY, SOL_UDP, UDP_GRO, 0),
	O(INET, SOCK_DGRAM, ANY, SOL_UDP, UDP_NO_CHECK6_TX, 0),
	O(INET, SOCK_DGRAM, ANY, SOL_UDP, UDP_NO_CHECK6_RX, 0),
	O(INET, SOCK_DGRAM, IPPROTO_UDPLITE, SOL_UDPLITE, UDP_CORK, 0),
	O(INET, SOCK_DGRAM, IPPROTO_UDPLITE, SOL_UDPLITE, UDPLITE_SEND_CSCOV, 0),
	O(INET, SOCK_DGRAM, IPPROTO_UDPLITE, SOL_UDPLITE, UDPLITE_RECV_CSCOV, 0),
	O(AF_PACKET, ANY, ANY, SOL_PACKET, PACKET_QDISC_BYPASS, 0),
	O(AF_PACKET, ANY, ANY, SOL_PACKET, PACKET_IGNORE_OUTGOING, 0),
	O(AF_PACKET, ANY, ANY, SOL_PACKET, PACKET_VNET_HDR_SZ, 0),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_PKTINFO, 0),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_BROADCAST_ERROR, 0),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_NO_ENOBUFS, 0),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 0),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_CAP_ACK, 0),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_EXT_ACK, 0),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 0),
};

static bool applies(const struct option *o, const struct sk_sort *s, bool connected)
{
	bool inet = s->family == AF_INET || s->family == AF_INET6;

	return (o->family == ANY || o->family == s->family || (o->family == INET && inet)) &&
	       (o->type == ANY || o->type == s->type ||
		(o->type == NO_STREAM && s->type != SOCK_STREAM)) &&
	       (o->proto == ANY || o->proto == s->proto) && !(o->flags & UNCONNECTED && connected);
}

/* What fresh sockets of one sort have; asked once for each network namespace: sysctls decide. */
struct sk_defaults {
	struct sk_defaults *next;
	uint32_t ns_id;
	struct sk_sort sort;
	struct {
		socklen_t len;
		const uint8_t *value;	/* NULL: no such option */
	} of[ARRAY_SIZE(options)];
};

static int defaults_read(struct dump_ctx *ctx, const struct sk_sort *s, int fd,
			 struct sk_defaults *d)
{
	uint8_t value[VALUE_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		socklen_t len = sizeof(value);

		if (!applies(&options[i], s, false) ||
		    getsockopt(fd, options[i].level, options[i].name, value, &len) < 0)
			continue;
		d->of[i].len = len;
		d->of[i].value = arena_memdup(&ctx->arena, value, MAX(len, 1u));
		if (!d->of[i].value)
			return -ENOMEM;
	}
	return 0;
}

static int defaults_get(struct dump_ctx *ctx, uint32_t ns_id, const struct sk_sort *s,
			struct sk_defaults **list, const struct sk_defaults **ret)
{
	_cleanup_close_ int fd = -EBADF;
	struct sk_defaults *d;

	for (d = *list; d; d = d->next)
		if (d->ns_id == ns_id && !memcmp(&d->sort, s, sizeof(*s))) {
			*ret = d;
			return 0;
		}
	fd = socket(s->family, s->type | SOCK_CLOEXEC, s->proto);
	if (fd < 0)
		return log_err(neg_errno(), "cannot make a socket of family %d, type %d, "
			       "protocol %d to compare its options", s->family, s->type, s->proto);
	d = ARENA_NEW(&ctx->arena, struct sk_defaults);
	if (!d)
		return log_err(-ENOMEM, "socket options");
	d->ns_id = ns_id;
	d->sort = *s;
	d->next = *list;
	*list = d;
	*ret = d;
	return defaults_read(ctx, s, fd, d);
}

/* Number → name: 0 when there is none, so nothing to save. */
static int name_interface(struct dump_ctx *ctx, const struct option *o, const uint8_t *value,
			  socklen_t len, SkExtraOptEntry *e)
{
	char name[IF_NAMESIZE];
	uint32_t n;

	if (len != sizeof(n))
		return 1;
	memcpy(&n, value, sizeof(n));
	if (o->flags & NET_ORDER)
		n = ntohl(n);
	if (!n)
		return 1;
	if (!if_indextoname(n, name)) {
		log_warn("socket option %s is lost: no interface %u", o->what, n);
		return 0;
	}
	e->ifname = arena_strdup(&ctx->arena, name);
	return e->ifname ? 1 : -ENOMEM;
}

static int add(struct dump_ctx *ctx, SkOptsEntry *opts, const struct option *o,
	       const uint8_t *value, socklen_t len)
{
	SkExtraOptEntry *e = ARENA_MSG(&ctx->arena, SkExtraOptEntry, sk_extra_opt_entry), **slot;
	int r;

	if (!e)
		return -ENOMEM;
	e->level = (uint32_t)o->level;
	e->name = (uint32_t)o->name;
	e->value.data = arena_memdup(&ctx->arena, value, MAX(len, 1u));
	e->value.len = len;
	if (!e->value.data)
		return -ENOMEM;
	r = o->flags & IFINDEX ? name_interface(ctx, o, value, len, e) : 1;
	if (r <= 0)
		return r;
	slot = ARENA_PUSH(&ctx->arena, opts->extra, opts->n_extra);
	if (!slot)
		return -ENOMEM;
	*slot = e;
	return 0;
}

/* A closed socket without TCP_MAXSEG shows what it would use, which may be less than can be set. */
static bool is_no_choice(const struct option *o, const uint8_t *value, socklen_t len)
{
	int v;

	if (o->level != SOL_TCP || o->name != TCP_MAXSEG || len != sizeof(v))
		return false;
	memcpy(&v, value, sizeof(v));
	return v < 88;
}

/* Now, or before it ended: only then is the receive side of a closed stream shut. */
static bool is_connected(int fd, const struct sk_sort *s)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };
	struct sockaddr_storage peer;
	struct tcp_info info;
	socklen_t len = sizeof(info);

	if (s->family != AF_INET && s->family != AF_INET6)
		return false;
	if (s->type == SOCK_STREAM && !getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len)) {
		if (info.tcpi_state == TCP_LISTEN)
			return false;
		return info.tcpi_state != TCP_CLOSE || (poll(&p, 1, 0) > 0 && p.revents & POLLRDHUP);
	}
	len = sizeof(peer);
	return !getpeername(fd, (struct sockaddr *)&peer, &len);
}

int sk_sort_of(int fd, struct sk_sort *ret)
{
	int r = sk_get_int(fd, SOL_SOCKET, SO_DOMAIN, &ret->family);

	if (!r)
		r = sk_get_int(fd, SOL_SOCKET, SO_TYPE, &ret->type);
	return r < 0 ? r : sk_get_int(fd, SOL_SOCKET, SO_PROTOCOL, &ret->proto);
}

int sk_extra_dump(struct dump_ctx *ctx, struct dump_file *f, struct sk_defaults **known,
		  SkOptsEntry *opts)
{
	const struct sk_defaults *d;
	struct sk_sort s = { 0 };
	uint8_t value[VALUE_MAX];
	bool connected;
	int r = sk_sort_of(f->fd, &s);

	if (r < 0)
		return log_err(r, "cannot read the socket's sort");
	r = defaults_get(ctx, f->net_ns_id, &s, known, &d);
	connected = is_connected(f->fd, &s);
	for (size_t i = 0; !r && i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];
		socklen_t len = sizeof(value);

		if (!applies(o, &s, connected) ||
		    getsockopt(f->fd, o->level, o->name, value, &len) < 0 ||
		    is_no_choice(o, value, len))
			continue;
		if (!d->of[i].value || d->of[i].len != len || memcmp(d->of[i].value, value, len))
			r = add(ctx, opts, o, value, len);
	}
	return r < 0 ? log_err(r, "socket options") : 0;
}

static const struct option *option_of(const SkExtraOptEntry *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if ((uint32_t)options[i].level == e->level && (uint32_t)options[i].name == e->name)
			return &options[i];
	return NULL;
}

/* Name → number of today, in value. */
static int number_interface(const struct option *o, const SkExtraOptEntry *e, uint8_t *value)
{
	uint32_t n;

	if (!(o->flags & IFINDEX) || !e->ifname)
		return 0;
	n = if_nametoindex(e->ifname);
	if (!n || e->value.len != sizeof(n))
		return n ? -EINVAL : -ENODEV;
	if (o->flags & NET_ORDER)
		n = htonl(n);
	memcpy(value, &n, sizeof(n));
	return 0;
}

int sk_extra_restore(int fd, const SkOptsEntry *opts, bool late)
{
	for (size_t i = 0; i < opts->n_extra; i++) {
		const SkExtraOptEntry *e = opts->extra[i];
		const struct option *o = option_of(e);
		uint8_t value[VALUE_MAX];
		int r;

		if (!o || e->value.len > VALUE_MAX)
			return log_fail(-EBADMSG, "unknown socket option %u of level %u",
					e->name, e->level);
		if (late != !!(o->flags & LATE))
			continue;
		if (e->value.len)
			memcpy(value, e->value.data, e->value.len);
		r = number_interface(o, e, value);
		if (!r && setsockopt(fd, o->level, o->name, value, (socklen_t)e->value.len) < 0)
			r = neg_errno();
		if (r < 0)
			log_warn("socket option %s is lost: %s%s%s", o->what, strerror(-r),
				 e->ifname ? ": " : "", e->ifname ? e->ifname : "");
	}
	return 0;
}
