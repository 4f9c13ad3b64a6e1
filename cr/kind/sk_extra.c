/*
 * Socket options that CRIU's messages have no field for: TCP_USER_TIMEOUT, TCP_DEFER_ACCEPT,
 * TCP_CONGESTION, IP_RECVERR, IPV6_TCLASS ...
 *
 *   dump     those whose value differs from that of a fresh socket of the same sort
 *   restore  setsockopt(2) with the same bytes; what the new kernel refuses is a warning
 *
 * Only options whose get and set speak the same language belong into the table.
 */
#include <linux/if_packet.h>
#include <linux/in6.h>
#include <linux/netlink.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#include "kind/sk_common.h"

enum { ANY = -1 };
#define VALUE_MAX	64

struct option {
	int family, type, proto;	/* ANY or the only one it is for */
	int level, name;
	const char *what;
};

#define O(family, type, proto, level, name)	{ family, type, proto, level, name, #name }

static const struct option options[] = {
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TIMESTAMP),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TIMESTAMPNS),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_TIMESTAMPING),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_RXQ_OVFL),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_BUSY_POLL),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_MAX_PACING_RATE),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_ZEROCOPY),
	O(ANY, ANY, ANY, SOL_SOCKET, SO_LOCK_FILTER),
	O(AF_UNIX, ANY, ANY, SOL_SOCKET, SO_PEEK_OFF),
	O(ANY, SOCK_STREAM, IPPROTO_TCP, SOL_TCP, TCP_CONGESTION),
	O(ANY, SOCK_STREAM, IPPROTO_TCP, SOL_TCP, TCP_USER_TIMEOUT),
	O(ANY, SOCK_STREAM, IPPROTO_TCP, SOL_TCP, TCP_DEFER_ACCEPT),
	O(ANY, SOCK_STREAM, IPPROTO_TCP, SOL_TCP, TCP_FASTOPEN),
	O(ANY, SOCK_STREAM, IPPROTO_TCP, SOL_TCP, TCP_NOTSENT_LOWAT),
	O(ANY, SOCK_STREAM, IPPROTO_TCP, SOL_TCP, TCP_LINGER2),
	O(ANY, SOCK_STREAM, IPPROTO_TCP, SOL_TCP, TCP_SYNCNT),
	O(ANY, SOCK_STREAM, IPPROTO_TCP, SOL_TCP, TCP_INQ),
	O(AF_INET, ANY, ANY, SOL_IP, IP_RECVERR),
	O(AF_INET, ANY, ANY, SOL_IP, IP_MTU_DISCOVER),
	O(AF_INET, ANY, ANY, SOL_IP, IP_TRANSPARENT),
	O(AF_INET, ANY, ANY, SOL_IP, IP_RECVTTL),
	O(AF_INET, ANY, ANY, SOL_IP, IP_RECVTOS),
	O(AF_INET, ANY, ANY, SOL_IP, IP_RECVORIGDSTADDR),
	O(AF_INET, ANY, ANY, SOL_IP, IP_MINTTL),
	O(AF_INET, SOCK_DGRAM, ANY, SOL_IP, IP_MULTICAST_TTL),
	O(AF_INET, SOCK_DGRAM, ANY, SOL_IP, IP_MULTICAST_LOOP),
	O(AF_INET, SOCK_DGRAM, ANY, SOL_IP, IP_MULTICAST_ALL),
	O(AF_INET, ANY, ANY, SOL_IP, IP_BIND_ADDRESS_NO_PORT),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVERR),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_MTU_DISCOVER),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_TRANSPARENT),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVHOPLIMIT),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVTCLASS),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_RECVORIGDSTADDR),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_TCLASS),
	O(AF_INET6, ANY, ANY, SOL_IPV6, IPV6_UNICAST_HOPS),
	O(AF_INET6, SOCK_DGRAM, ANY, SOL_IPV6, IPV6_MULTICAST_HOPS),
	O(AF_INET6, SOCK_DGRAM, ANY, SOL_IPV6, IPV6_MULTICAST_LOOP),
	O(AF_INET6, SOCK_DGRAM, ANY, SOL_IPV6, IPV6_MULTICAST_IF),
	O(ANY, SOCK_DGRAM, IPPROTO_UDP, SOL_UDP, UDP_SEGMENT),
	O(ANY, SOCK_DGRAM, IPPROTO_UDP, SOL_UDP, UDP_GRO),
	O(ANY, SOCK_DGRAM, IPPROTO_UDP, SOL_UDP, UDP_NO_CHECK6_TX),
	O(ANY, SOCK_DGRAM, IPPROTO_UDP, SOL_UDP, UDP_NO_CHECK6_RX),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_PKTINFO),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_BROADCAST_ERROR),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_NO_ENOBUFS),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_CAP_ACK),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_EXT_ACK),
	O(AF_NETLINK, ANY, ANY, SOL_NETLINK, NETLINK_GET_STRICT_CHK),
};

struct sort {
	int family, type, proto;
};

static int get_sort(int fd, struct sort *s)
{
	int r = sk_get_int(fd, SOL_SOCKET, SO_DOMAIN, &s->family);

	if (!r)
		r = sk_get_int(fd, SOL_SOCKET, SO_TYPE, &s->type);
	if (!r)
		r = sk_get_int(fd, SOL_SOCKET, SO_PROTOCOL, &s->proto);
	return r;
}

static bool applies(const struct option *o, const struct sort *s)
{
	return (o->family == ANY || o->family == s->family) &&
	       (o->type == ANY || o->type == s->type) &&
	       (o->proto == ANY || o->proto == s->proto);
}

static bool differs(int fd, int fresh, const struct option *o, uint8_t *value, socklen_t *len)
{
	uint8_t plain[VALUE_MAX] = { 0 };
	socklen_t n = sizeof(plain);

	*len = VALUE_MAX;
	memset(value, 0, VALUE_MAX);
	if (getsockopt(fd, o->level, o->name, value, len) < 0)
		return false;
	if (getsockopt(fresh, o->level, o->name, plain, &n) < 0)
		return true;
	return n != *len || memcmp(plain, value, n) != 0;
}

static int add(struct dump_ctx *ctx, SkOptsEntry *opts, const struct option *o,
	       const uint8_t *value, socklen_t len)
{
	SkExtraOptEntry *e = ARENA_MSG(&ctx->arena, SkExtraOptEntry, sk_extra_opt_entry);
	SkExtraOptEntry **slot = ARENA_PUSH(&ctx->arena, opts->extra, opts->n_extra);

	if (!e || !slot)
		return -ENOMEM;
	e->level = (uint32_t)o->level;
	e->name = (uint32_t)o->name;
	e->value.data = arena_memdup(&ctx->arena, value, len);
	e->value.len = len;
	*slot = e;
	return e->value.data ? 0 : -ENOMEM;
}

int sk_extra_dump(struct dump_ctx *ctx, struct dump_file *f, SkOptsEntry *opts)
{
	_cleanup_close_ int fresh = -EBADF;
	uint8_t value[VALUE_MAX];
	struct sort s;
	int r = get_sort(f->fd, &s);

	if (r < 0)
		return log_err(r, "cannot read the socket's sort");
	fresh = socket(s.family, s.type | SOCK_CLOEXEC, s.proto);
	if (fresh < 0) {
		log_warn("options beyond CRIU's are not looked at: cannot make a socket of "
			 "family %d, type %d, protocol %d: %s", s.family, s.type, s.proto,
			 strerror(errno));
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		socklen_t len;

		if (!applies(&options[i], &s) || !differs(f->fd, fresh, &options[i], value, &len))
			continue;
		r = add(ctx, opts, &options[i], value, len);
		if (r < 0)
			return r;
	}
	return 0;
}

static const char *name_of(const SkExtraOptEntry *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if ((uint32_t)options[i].level == e->level && (uint32_t)options[i].name == e->name)
			return options[i].what;
	return NULL;
}

int sk_extra_restore(int fd, const SkOptsEntry *opts)
{
	for (size_t i = 0; i < opts->n_extra; i++) {
		const SkExtraOptEntry *e = opts->extra[i];
		const char *what = name_of(e);

		if (!what || e->value.len > VALUE_MAX)
			return log_fail(-EBADMSG, "unknown socket option %u of level %u",
					e->name, e->level);
		if (setsockopt(fd, (int)e->level, (int)e->name, e->value.data,
			       (socklen_t)e->value.len) < 0)
			log_warn("socket option %s is lost: %s", what, strerror(errno));
	}
	return 0;
}
