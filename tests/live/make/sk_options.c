/*
 * Every socket option of the kernel's headers that can be set and read: each is set to a value of
 * its own on a socket of each sort that takes it, and reads the same after the restore. Those that
 * this kernel does not have are skipped; those too whose value does not
 * change: the output names what no sort of socket took.
 *
 * cr-options: --tcp-established
 */
#include "sock_common.h"

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/udp.h>

#include "kind/sk_numbers.h"

#define VALUE_MAX 64

enum sort { TCP4, TCP6, LISTEN4, CONN4, MPTCP4, UDP4, UDP6, LITE4, RAW4, RAW6, PING4, UNIX, PACKET, NETLINK,
	    SORTS };

static const struct {
	const char *name;
	int family, type, proto;
} sorts[SORTS] = {
	[TCP4] = { "TCP", AF_INET, SOCK_STREAM, 0 },
	[TCP6] = { "TCP over IPv6", AF_INET6, SOCK_STREAM, 0 },
	[LISTEN4] = { "TCP listener", AF_INET, SOCK_STREAM, 0 },
	[CONN4] = { "TCP connection", AF_INET, SOCK_STREAM, 0 },
	[MPTCP4] = { "MPTCP listener", AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */ },
	[UDP4] = { "UDP", AF_INET, SOCK_DGRAM, 0 },
	[UDP6] = { "UDP over IPv6", AF_INET6, SOCK_DGRAM, 0 },
	[LITE4] = { "UDP-Lite", AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE },
	[RAW4] = { "raw", AF_INET, SOCK_RAW, 253 },
	[RAW6] = { "raw over IPv6", AF_INET6, SOCK_RAW, 253 },
	[PING4] = { "ping", AF_INET, SOCK_DGRAM, IPPROTO_ICMP },
	[UNIX] = { "unix", AF_UNIX, SOCK_DGRAM, 0 },
	[PACKET] = { "packet", AF_PACKET, SOCK_RAW, 0 },
	[NETLINK] = { "netlink", AF_NETLINK, SOCK_RAW, 0 },
};

struct value {
	int level, name;
	const char *what;
	int n;			/* an int, or ... */
	const void *bytes;	/* ... these */
	socklen_t len;
};

#define I(level, name, n)	{ level, name, #name, n, NULL, 0 }
#define B(level, name, v)	{ level, name, #name, 0, &(v), sizeof(v) }

static const struct timeval tmo = { 7, 500000 };
static const struct linger linger = { 1, 9 };
static const struct {
	int clockid;
	uint32_t flags;
} txtime = { 1 /* CLOCK_MONOTONIC */, 1 };
static const struct {
	int flags, bind_phc;
} stamping = { 1 << 4 | 1 << 3, 0 };
static const uint64_t pacing = 123456789;
static const uint8_t router_alert[4] = { 0x94, 4, 0, 0 };
static const uint8_t key[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
static const uint32_t ports = 41000u << 16 | 40000u;
/* Padding only; a destination option of a private number. */
static const uint8_t hop[8] = { 0, 0, 1, 4, 0, 0, 0, 0 };
static const uint8_t dst[8] = { 0, 0, 0x1e, 4, 1, 2, 3, 4 };
static struct in_addr loopback;
static int lo, lo_net;
static const char reno[16] = "reno", lo_name[IFNAMSIZ] = "lo";

static const struct value values[] = {
	I(SOL_SOCKET, SO_DEBUG, 1), I(SOL_SOCKET, SO_REUSEADDR, 1), I(SOL_SOCKET, SO_DONTROUTE, 1),
	I(SOL_SOCKET, SO_BROADCAST, 1), I(SOL_SOCKET, SO_SNDBUF, 54321),
	I(SOL_SOCKET, SO_RCVBUF, 65432), I(SOL_SOCKET, SO_KEEPALIVE, 1),
	I(SOL_SOCKET, SO_OOBINLINE, 1), I(SOL_SOCKET, SO_NO_CHECK, 1),
	B(SOL_SOCKET, SO_LINGER, linger), I(SOL_SOCKET, SO_REUSEPORT, 1),
	I(SOL_SOCKET, SO_PASSCRED, 1), I(SOL_SOCKET, SO_RCVLOWAT, 17),
	B(SOL_SOCKET, SO_RCVTIMEO, tmo), B(SOL_SOCKET, SO_SNDTIMEO, tmo),
	I(SOL_SOCKET, SO_PASSSEC, 1), I(SOL_SOCKET, SO_MARK, 4711),
	I(SOL_SOCKET, SO_RXQ_OVFL, 1), I(SOL_SOCKET, SO_WIFI_STATUS, 1),
	I(SOL_SOCKET, SO_PEEK_OFF, 0), I(SOL_SOCKET, SO_NOFCS, 1),
	I(SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1), I(SOL_SOCKET, SO_BUSY_POLL, 33),
	I(SOL_SOCKET, SO_PREFER_BUSY_POLL, 1),
	B(SOL_SOCKET, SO_MAX_PACING_RATE, pacing), I(SOL_SOCKET, SO_INCOMING_CPU, 1),
	I(SOL_SOCKET, SO_ZEROCOPY, 1), B(SOL_SOCKET, SO_TXTIME, txtime),
	I(SOL_SOCKET, SO_RESERVE_MEM, 65536), I(SOL_SOCKET, SO_TXREHASH, 0),
	I(SOL_SOCKET, SO_RCVMARK, 1), I(SOL_SOCKET, SO_RCVPRIORITY, 1),
	I(SOL_SOCKET, SO_PASSPIDFD, 1), I(SOL_SOCKET, SO_PASSRIGHTS, 0),
	I(SOL_SOCKET, SO_TIMESTAMP_NEW, 1), B(SOL_SOCKET, SO_TIMESTAMPING_NEW, stamping),
	I(SOL_SOCKET, SO_PRIORITY, 3), I(SOL_SOCKET, SO_BUF_LOCK, 1),
	B(SOL_SOCKET, SO_BINDTODEVICE, lo_name),
	I(SOL_TCP, TCP_NODELAY, 1), I(SOL_TCP, TCP_MAXSEG, 777), I(SOL_TCP, TCP_CORK, 1),
	I(SOL_TCP, TCP_KEEPIDLE, 111), I(SOL_TCP, TCP_KEEPINTVL, 22), I(SOL_TCP, TCP_KEEPCNT, 5),
	I(SOL_TCP, TCP_SYNCNT, 3), I(SOL_TCP, TCP_LINGER2, 44), I(SOL_TCP, TCP_DEFER_ACCEPT, 7),
	I(SOL_TCP, TCP_WINDOW_CLAMP, 20000), B(SOL_TCP, TCP_CONGESTION, reno),
	I(SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1), I(SOL_TCP, TCP_USER_TIMEOUT, 12345),
	I(SOL_TCP, TCP_FASTOPEN, 9), B(SOL_TCP, TCP_FASTOPEN_KEY, key),
	I(SOL_TCP, TCP_NOTSENT_LOWAT, 4096), I(SOL_TCP, TCP_SAVE_SYN, 1),
	I(SOL_TCP, TCP_FASTOPEN_CONNECT, 1), I(SOL_TCP, TCP_FASTOPEN_NO_COOKIE, 1),
	I(SOL_TCP, TCP_INQ, 1),
	I(SOL_TCP, TCP_TX_DELAY, 10), I(SOL_TCP, TCP_RTO_MAX_MS, 60000),
	I(SOL_TCP, TCP_RTO_MIN_US, 150000), I(SOL_TCP, TCP_DELACK_MAX_US, 20000),
	I(SOL_IP, IP_TOS, 0x28), I(SOL_IP, IP_TTL, 77), I(SOL_IP, IP_HDRINCL, 1),
	B(SOL_IP, IP_OPTIONS, router_alert), I(SOL_IP, IP_RECVOPTS, 1), I(SOL_IP, IP_RETOPTS, 1),
	I(SOL_IP, IP_PKTINFO, 1), I(SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO),
	I(SOL_IP, IP_RECVERR, 1), I(SOL_IP, IP_RECVTTL, 1), I(SOL_IP, IP_RECVTOS, 1),
	I(SOL_IP, IP_FREEBIND, 1), I(SOL_IP, IP_PASSSEC, 1), I(SOL_IP, IP_TRANSPARENT, 1),
	I(SOL_IP, IP_RECVORIGDSTADDR, 1), I(SOL_IP, IP_MINTTL, 5), I(SOL_IP, IP_NODEFRAG, 1),
	I(SOL_IP, IP_CHECKSUM, 1), I(SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1),
	I(SOL_IP, IP_RECVFRAGSIZE, 1), I(SOL_IP, IP_RECVERR_RFC4884, 1),
	B(SOL_IP, IP_MULTICAST_IF, loopback), I(SOL_IP, IP_MULTICAST_TTL, 6),
	I(SOL_IP, IP_MULTICAST_LOOP, 0), I(SOL_IP, IP_MULTICAST_ALL, 0),
	B(SOL_IP, IP_UNICAST_IF, lo_net), B(SOL_IP, IP_LOCAL_PORT_RANGE, ports),
	I(SOL_IPV6, IPV6_2292PKTINFO, 1), I(SOL_IPV6, IPV6_2292HOPOPTS, 1),
	I(SOL_IPV6, IPV6_2292DSTOPTS, 1), I(SOL_IPV6, IPV6_2292RTHDR, 1),
	I(SOL_IPV6, IPV6_2292HOPLIMIT, 1), I(SOL_IPV6, IPV6_CHECKSUM, 4),
	I(SOL_IPV6, IPV6_FLOWINFO, 1), I(SOL_IPV6, IPV6_UNICAST_HOPS, 55),
	B(SOL_IPV6, IPV6_MULTICAST_IF, lo), I(SOL_IPV6, IPV6_MULTICAST_HOPS, 8),
	I(SOL_IPV6, IPV6_MULTICAST_LOOP, 0), I(SOL_IPV6, IPV6_MULTICAST_ALL, 0),
	I(SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO), I(SOL_IPV6, IPV6_RECVERR, 1),
	I(SOL_IPV6, IPV6_V6ONLY, 1), I(SOL_IPV6, IPV6_ROUTER_ALERT_ISOLATE, 1),
	I(SOL_IPV6, IPV6_RECVERR_RFC4884, 1), I(SOL_IPV6, IPV6_FLOWINFO_SEND, 1),
	I(SOL_IPV6, IPV6_HDRINCL, 1), I(SOL_IPV6, IPV6_RECVPKTINFO, 1),
	I(SOL_IPV6, IPV6_RECVHOPLIMIT, 1),
	I(SOL_IPV6, IPV6_RECVHOPOPTS, 1), B(SOL_IPV6, IPV6_HOPOPTS, hop),
	B(SOL_IPV6, IPV6_DSTOPTS, dst), I(SOL_IPV6, IPV6_RECVRTHDR, 1),
	I(SOL_IPV6, IPV6_RECVDSTOPTS, 1), I(SOL_IPV6, IPV6_RECVPATHMTU, 1),
	I(SOL_IPV6, IPV6_DONTFRAG, 1), I(SOL_IPV6, IPV6_RECVTCLASS, 1),
	I(SOL_IPV6, IPV6_TCLASS, 0x20), I(SOL_IPV6, IPV6_AUTOFLOWLABEL, 0),
	I(SOL_IPV6, IPV6_ADDR_PREFERENCES, 1), I(SOL_IPV6, IPV6_MINHOPCOUNT, 4),
	I(SOL_IPV6, IPV6_RECVORIGDSTADDR, 1), I(SOL_IPV6, IPV6_TRANSPARENT, 1),
	B(SOL_IPV6, IPV6_UNICAST_IF, lo_net), I(SOL_IPV6, IPV6_RECVFRAGSIZE, 1),
	I(SOL_IPV6, IPV6_FREEBIND, 1),
	I(SOL_UDP, UDP_NO_CHECK6_TX, 1), I(SOL_UDP, UDP_NO_CHECK6_RX, 1),
	I(SOL_UDP, UDP_CORK, 1), I(SOL_UDP, UDP_SEGMENT, 1200), I(SOL_UDP, UDP_GRO, 1),
	I(SOL_UDPLITE, UDP_CORK, 1), I(SOL_UDPLITE, UDPLITE_SEND_CSCOV, 20), I(SOL_UDPLITE, UDPLITE_RECV_CSCOV, 12),
	I(SOL_PACKET, PACKET_COPY_THRESH, 9), I(SOL_PACKET, PACKET_AUXDATA, 1),
	I(SOL_PACKET, PACKET_ORIGDEV, 1), I(SOL_PACKET, PACKET_VERSION, TPACKET_V3),
	I(SOL_PACKET, PACKET_RESERVE, 64), I(SOL_PACKET, PACKET_LOSS, 1),
	I(SOL_PACKET, PACKET_VNET_HDR, 1), I(SOL_PACKET, PACKET_TIMESTAMP, 1 << 6),
	I(SOL_PACKET, PACKET_QDISC_BYPASS, 1), I(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1),
	I(SOL_NETLINK, NETLINK_PKTINFO, 1), I(SOL_NETLINK, NETLINK_BROADCAST_ERROR, 1),
	I(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1), I(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1),
	I(SOL_NETLINK, NETLINK_CAP_ACK, 1), I(SOL_NETLINK, NETLINK_EXT_ACK, 1),
	I(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1),
};

enum { N = sizeof(values) / sizeof(*values) };

/* One socket for each option: some exclude each other. */
static struct made {
	int fd, peer;
	uint8_t was[VALUE_MAX];
	socklen_t len;
	bool used;
} made[SORTS][N];

static bool get(int fd, const struct value *v, uint8_t *ret, socklen_t *len)
{
	memset(ret, 0, VALUE_MAX);
	*len = VALUE_MAX;
	return !getsockopt(fd, v->level, v->name, ret, len);
}

/* The set itself is part of what is tested: a socket that refuses an option has none to keep. */
static bool set(int fd, const struct value *v)
{
	return !setsockopt(fd, v->level, v->name, v->bytes ? v->bytes : &v->n,
			   v->bytes ? v->len : sizeof(v->n));
}

static int listener = -1;
static struct sockaddr_in listener_at;

static bool make_one(enum sort sort, struct made *m)
{
	struct sockaddr_in a;

	m->fd = socket(sorts[sort].family, sorts[sort].type, sorts[sort].proto);
	m->peer = -1;
	if (m->fd < 0)
		return false;
	sock_in(&a, "127.0.0.1", 0);
	if (sort == LISTEN4 || sort == MPTCP4)
		MAKER_MUST(!bind(m->fd, (struct sockaddr *)&a, sizeof(a)) && !listen(m->fd, 3));
	if (sort == CONN4) {
		MAKER_MUST(!connect(m->fd, (struct sockaddr *)&listener_at, sizeof(listener_at)));
		m->peer = accept(listener, NULL, NULL);
		MAKER_MUST(m->peer >= 0);
	}
	return true;
}

static void make(enum sort sort, int i)
{
	struct made *m = &made[sort][i];
	const struct value *v = &values[i];
	uint8_t plain[VALUE_MAX];
	socklen_t plain_len;
	bool had;

	/* Of a connection it is where the last packet came in. */
	if ((sort == CONN4 && v->name == SO_INCOMING_CPU && v->level == SOL_SOCKET) ||
	    !make_one(sort, m))
		return;
	had = get(m->fd, v, plain, &plain_len);
	m->used = set(m->fd, v) && get(m->fd, v, m->was, &m->len) &&
		  (!had || plain_len != m->len || memcmp(plain, m->was, m->len));
	if (m->used)
		return;
	close(m->fd);
	if (m->peer >= 0)
		close(m->peer);
}

static int failures;

static void check(enum sort sort, int i)
{
	struct made *m = &made[sort][i];
	uint8_t is[VALUE_MAX];
	socklen_t len;

	if (!m->used)
		return;
	if (!get(m->fd, &values[i], is, &len)) {
		maker_log("FAIL: %s: %s: %s", sorts[sort].name, values[i].what, strerror(errno));
		failures++;
	} else if (len != m->len || memcmp(is, m->was, len)) {
		maker_log("FAIL: %s: %s is %d (%u bytes), not %d (%u)", sorts[sort].name,
			  values[i].what, *(int *)(void *)is, len, *(int *)(void *)m->was, m->len);
		failures++;
	}
}

/* Priority 0 although IP_TOS says otherwise; a locked filter; a group of options at once. */
static int odd_priority, locked;

static void make_odd(void)
{
	struct sock_filter code[] = { { 0x06, 0, 0, 65535 } };
	struct sock_fprog prog = { 1, code };

	odd_priority = socket(AF_INET, SOCK_DGRAM, 0);
	sock_set(odd_priority, SOL_IP, IP_TOS, 0x10);
	sock_set(odd_priority, SOL_SOCKET, SO_PRIORITY, 0);
	locked = socket(AF_INET, SOCK_DGRAM, 0);
	MAKER_MUST(!setsockopt(locked, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
	sock_set(locked, SOL_SOCKET, SO_LOCK_FILTER, 1);
}

static void check_odd(void)
{
	socklen_t n = 0;

	MAKER_SAME("SO_PRIORITY beside IP_TOS", sock_int(odd_priority, SOL_SOCKET, SO_PRIORITY), 0);
	MAKER_SAME("IP_TOS", sock_int(odd_priority, SOL_IP, IP_TOS), 0x10);
	MAKER_SAME("SO_LOCK_FILTER", sock_int(locked, SOL_SOCKET, SO_LOCK_FILTER), 1);
	MAKER_MUST(!getsockopt(locked, SOL_SOCKET, SO_ATTACH_FILTER /* SO_GET_FILTER */, NULL, &n));
	MAKER_SAME("instructions of the locked filter", n, 1);
}

int main(int argc, char **argv)
{
	socklen_t len = sizeof(listener_at);
	bool ever;
	int n = 0;

	maker_begin(argc, argv);
	loopback.s_addr = htonl(INADDR_LOOPBACK);
	lo = (int)if_nametoindex("lo");
	lo_net = (int)htonl((uint32_t)lo);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	sock_in(&listener_at, "127.0.0.1", 0);
	MAKER_MUST(!bind(listener, (struct sockaddr *)&listener_at, sizeof(listener_at)) &&
		   !listen(listener, 64) &&
		   !getsockname(listener, (struct sockaddr *)&listener_at, &len));
	for (int i = 0; i < N; i++) {
		ever = false;
		for (int s = 0; s < SORTS; s++) {
			make((enum sort)s, i);
			ever |= made[s][i].used;
			n += made[s][i].used;
		}
		if (!ever)
			printf("not on this kernel: %s\n", values[i].what);
	}
	printf("%d options on sockets of %d sorts\n", n, SORTS);
	fflush(stdout);
	make_odd();
	maker_ready();
	maker_wait();

	for (int s = 0; s < SORTS; s++)
		for (int i = 0; i < N; i++)
			check((enum sort)s, i);
	if (failures)
		return 1;
	check_odd();
	maker_ok();
}
