/*
 * Sockets, without any: sock_diag's messages whole and damaged, image entries that must be
 * refused, addresses, forged segments, the rules of the network lock.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <linux/inet_diag.h>
#include <linux/packet_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/sockdiag.h"
#include "kind/kinds.h"
#include "kind/sk_inet.h"
#include "kind/sk_unix.h"
#include "netlock/hostlock.h"
#include "netlock/iptables.h"
#include "unit.h"

struct msg {
	union {
		struct unix_diag_msg u;
		struct inet_diag_msg i;
		struct packet_diag_msg p;
		uint8_t b[512];
	};
	size_t len;
};

static void attr(struct msg *m, uint16_t type, const void *data, size_t n)
{
	struct nlattr {
		uint16_t len, type;
	} a = { (uint16_t)(4 + n), type };

	memcpy(m->b + m->len, &a, 4);
	memcpy(m->b + m->len + 4, data, n);
	m->len += (4 + n + 3) & ~(size_t)3;
}

static struct msg unix_msg(void)
{
	struct msg m = { .len = sizeof(struct unix_diag_msg) };
	const uint32_t vfs[2] = { 4711, 0x800001 }, peer = 99, icons[3] = { 5, 0, 7 };
	const uint32_t queue[2] = { 10, 20 };

	m.u.udiag_family = AF_UNIX;
	m.u.udiag_type = SOCK_STREAM;
	m.u.udiag_state = 10;
	m.u.udiag_ino = 1234;
	attr(&m, UNIX_DIAG_NAME, "/run/x\0", 7);
	attr(&m, UNIX_DIAG_VFS, vfs, 8);
	attr(&m, UNIX_DIAG_PEER, &peer, 4);
	attr(&m, UNIX_DIAG_ICONS, icons, 12);
	attr(&m, UNIX_DIAG_RQLEN, queue, 8);
	attr(&m, UNIX_DIAG_SHUTDOWN, "\3", 1);
	return m;
}

TEST("a unix_diag message is understood")
{
	struct msg m = unix_msg();
	struct sockdiag s;
	struct arena a;

	arena_init(&a);
	ASSERT_OK(sockdiag_parse(SOCKDIAG_UNIX, m.b, m.len, &a, &s));
	ASSERT_EQ(s.ino, 1234);
	ASSERT_EQ(s.state, 10);
	ASSERT_EQ(s.name_len, 6);
	ASSERT_MEM_EQ(s.name, "/run/x", 6);
	ASSERT(s.has_vfs);
	ASSERT_EQ(s.vfs_ino, 4711);
	ASSERT_EQ(s.peer, 99);
	ASSERT_EQ(s.n_waiting, 3);
	ASSERT_EQ(s.waiting[2], 7);
	ASSERT_EQ(s.rqueue, 10);
	ASSERT_EQ(s.wqueue, 20);
	ASSERT_EQ(s.shutdown, 3);
	arena_done(&a);
}

TEST("an abstract name keeps its bytes, NULs included")
{
	struct msg m = { .len = sizeof(struct unix_diag_msg) };
	struct sockdiag s;
	struct arena a;

	arena_init(&a);
	attr(&m, UNIX_DIAG_NAME, "\0ab\0", 4);
	ASSERT_OK(sockdiag_parse(SOCKDIAG_UNIX, m.b, m.len, &a, &s));
	ASSERT_EQ(s.name_len, 4);
	ASSERT_MEM_EQ(s.name, "\0ab\0", 4);
	arena_done(&a);
}

TEST("no damaged sock_diag message is read beyond its end")
{
	struct msg m = unix_msg();
	struct arena a;

	arena_init(&a);
	for (int sort = 0; sort < SOCKDIAG_SORTS; sort++) {
		for (size_t len = 0; len <= m.len; len++) {
			uint8_t *exact = malloc(len ? len : 1);
			struct sockdiag s;
			int r;

			memcpy(exact, m.b, len);
			r = sockdiag_parse((enum sockdiag_sort)sort, exact, len, &a, &s);
			ASSERT(r == 0 || r == -EBADMSG);
			free(exact);
		}
		for (size_t at = sizeof(m.u); at < m.len; at++) {
			for (int v = 0; v < 256; v += 51) {
				struct msg bad = m;
				struct sockdiag s;
				int r;

				bad.b[at] = (uint8_t)v;
				r = sockdiag_parse((enum sockdiag_sort)sort, bad.b, bad.len, &a,
						   &s);
				ASSERT(r == 0 || r == -EBADMSG);
			}
		}
	}
	arena_done(&a);
}

TEST("MD5 keys, TLS and rings are seen")
{
	struct msg t = { .len = sizeof(struct inet_diag_msg) };
	struct msg p = { .len = sizeof(struct packet_diag_msg) };
	uint8_t nested[12] = { 8, 0, INET_ULP_INFO_NAME, 0, 't', 'l', 's', 0 };
	struct sockdiag s;
	struct arena a;

	arena_init(&a);
	attr(&t, INET_DIAG_MD5SIG, "key", 3);
	attr(&t, INET_DIAG_ULP_INFO, nested, 8);
	ASSERT_OK(sockdiag_parse(SOCKDIAG_TCP, t.b, t.len, &a, &s));
	ASSERT(s.md5);
	ASSERT_STREQ(s.ulp, "tls");
	attr(&p, PACKET_DIAG_RX_RING, nested, 12);
	ASSERT_OK(sockdiag_parse(SOCKDIAG_PACKET, p.b, p.len, &a, &s));
	ASSERT(s.rx_ring && !s.tx_ring);
	arena_done(&a);
}

static union inet_addr addr(const char *ip, int port)
{
	union inet_addr a = { 0 };

	if (inet_pton(AF_INET, ip, &a.v4.sin_addr) == 1) {
		a.sa.sa_family = AF_INET;
	} else {
		ASSERT_EQ(inet_pton(AF_INET6, ip, &a.v6.sin6_addr), 1);
		a.sa.sa_family = AF_INET6;
	}
	a.v4.sin_port = htons((uint16_t)port);
	return a;
}

TEST("addresses come from image words and are printed as people write them")
{
	union inet_addr a;
	uint32_t lo = 16777343, v6[4] = { 0, 0, 0, htonl(1) };
	char text[INET_ADDR_TEXT];

	ASSERT_OK(inet_addr_from_image(AF_INET, &lo, 1, 80, NULL, &a));
	ASSERT_STREQ(inet_addr_text(&a, text), "127.0.0.1:80");
	ASSERT(!inet_addr_is_any(&a));
	ASSERT_OK(inet_addr_from_image(AF_INET6, v6, 4, 443, NULL, &a));
	ASSERT_STREQ(inet_addr_text(&a, text), "[::1]:443");
	ASSERT_EQ(inet_addr_from_image(AF_INET6, v6, 1, 443, NULL, &a), -EBADMSG);
	ASSERT_EQ(inet_addr_from_image(AF_INET, &lo, 4, 443, NULL, &a), -EBADMSG);
	ASSERT_EQ(inet_addr_from_image(AF_INET, &lo, 1, 65536, NULL, &a), -EBADMSG);
	ASSERT_EQ(inet_addr_from_image(AF_UNIX, &lo, 1, 1, NULL, &a), -EBADMSG);
	v6[0] = htonl(0xfe800000);
	ASSERT_OK(inet_addr_from_image(AF_INET6, v6, 4, 1, "lo", &a));
	ASSERT_STREQ(inet_addr_text(&a, text), "[fe80::1%lo]:1");
	ASSERT_EQ(inet_addr_from_image(AF_INET6, v6, 4, 1, "no-such-if", &a), -ENODEV);
}

static uint16_t sum(const uint8_t *p, size_t n, uint32_t s)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		s += (uint32_t)p[i] << 8 | p[i + 1];
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

TEST("forged segments have right lengths and checksums")
{
	struct tcp_segment s = { .from = addr("192.0.2.7", 4000), .to = addr("10.1.2.3", 80),
				 .seq = 0x01020304, .ack = 0xfffefdfc, .window = 777, .fin = true };
	struct tcp_segment m = s;
	uint8_t b[64], mapped[64];

	ASSERT_EQ(tcp_forge_build(&s, b, sizeof(b)), 40);
	ASSERT_EQ(sum(b, 20, 0), 0xffff);
	ASSERT_EQ(sum(b + 20, 20, sum(b + 12, 8, 6 + 20)), 0xffff);
	ASSERT_EQ(b[20 + 13], 0x11);
	ASSERT_EQ(tcp_forge_build(&s, b, 39), 0);
	m.from = addr("::ffff:192.0.2.7", 4000);
	m.to = addr("::ffff:10.1.2.3", 80);
	ASSERT_EQ(tcp_forge_build(&m, mapped, sizeof(mapped)), 40);
	ASSERT_MEM_EQ(b, mapped, 39);
	s.from = addr("2001:db8::7", 4000);
	s.to = addr("2001:db8::1", 80);
	s.fin = false;
	ASSERT_EQ(tcp_forge_build(&s, b, sizeof(b)), 60);
	ASSERT_EQ(sum(b + 40, 20, sum(b + 8, 32, 6 + 20)), 0xffff);
	ASSERT_EQ(b[40 + 13], 0x10);
}

static uint32_t words[5];
static SkOptsEntry opts;

/* Anew for each entry that it is part of. */
static SkOptsEntry good_opts(void)
{
	sk_opts_entry__init(&opts);
	return opts;
}

static InetSkEntry good_inet(void)
{
	InetSkEntry e = INET_SK_ENTRY__INIT;

	opts = good_opts();
	e.opts = &opts;

	e.family = AF_INET;
	e.type = SOCK_STREAM;
	e.proto = IPPROTO_TCP;
	e.state = TCP_ESTABLISHED;
	e.src_addr = e.dst_addr = words;
	e.n_src_addr = e.n_dst_addr = 1;
	e.src_port = e.dst_port = 80;
	return e;
}

#define REFUSES(make, check, change)				\
	do {							\
		typeof(make()) e = make();			\
								\
		ASSERT_OK(check(&e));				\
		change;						\
		ASSERT_EQ(check(&e), -EBADMSG);			\
	} while (0)

TEST("internet socket entries that cannot be are refused")
{
	REFUSES(good_inet, inet_check_entry, e.family = AF_UNIX);
	REFUSES(good_inet, inet_check_entry, e.family = AF_INET6);
	REFUSES(good_inet, inet_check_entry, e.n_src_addr = 0);
	REFUSES(good_inet, inet_check_entry, e.n_dst_addr = 5);
	REFUSES(good_inet, inet_check_entry, e.src_port = 65536);
	REFUSES(good_inet, inet_check_entry, e.dst_port = ~0u);
	REFUSES(good_inet, inet_check_entry, e.type = 77);
	REFUSES(good_inet, inet_check_entry, e.proto = 1 << 20);
	REFUSES(good_inet, inet_check_entry, e.state = 0);
	REFUSES(good_inet, inet_check_entry, e.state = TCP_TIME_WAIT);
	REFUSES(good_inet, inet_check_entry, e.state = TCP_SYN_RECV);
	REFUSES(good_inet, inet_check_entry, e.state = 99);
	REFUSES(good_inet, inet_check_entry, e.ifname = (char *)"an-interface-name-too-long");
	/* The protocol TCP by another number. */
	REFUSES(good_inet, inet_check_entry, (e.proto = 0, e.state = 99));
	REFUSES(good_inet, inet_check_entry, (e.type = SOCK_DGRAM, e.state = TCP_LISTEN));
	REFUSES(good_inet, inet_check_entry, (e.has_shutdown = true, e.shutdown = (SkShutdown)4));
	REFUSES(good_inet, inet_check_entry, (e.has_shutdown = true, e.shutdown = (SkShutdown)-1));
	REFUSES(good_inet, inet_check_entry, opts.so_buf_lock = 4);
}

TEST("an internet socket's type of service that is no byte is refused")
{
	IpOptsEntry ip = IP_OPTS_ENTRY__INIT;
	InetSkEntry e = good_inet();

	e.ip_opts = &ip;
	ip.tos = 255;
	ASSERT_OK(inet_check_entry(&e));
	ip.tos = 256;
	ASSERT_EQ(inet_check_entry(&e), -EBADMSG);
}

TEST("socket options that cannot be are refused")
{
	REFUSES(good_opts, sk_opts_check, e.so_snd_tmo_sec = UINT64_MAX);
	REFUSES(good_opts, sk_opts_check, e.so_rcv_tmo_sec = 1ull << 63);
	REFUSES(good_opts, sk_opts_check, e.so_snd_tmo_usec = 1000000);
	REFUSES(good_opts, sk_opts_check, e.so_rcv_tmo_usec = UINT64_MAX);
	REFUSES(good_opts, sk_opts_check, e.so_bound_dev = (char *)"a-name-of-16-chr");
	REFUSES(good_opts, sk_opts_check, e.n_so_filter = 4097);
	REFUSES(good_opts, sk_opts_check, e.so_rcvlowat = 1u << 31);
	REFUSES(good_opts, sk_opts_check, e.so_buf_lock = 4);
}

static PacketMclist membership, *memberships = &membership;

static PacketSockEntry good_packet(void)
{
	PacketSockEntry e = PACKET_SOCK_ENTRY__INIT;

	opts = good_opts();
	packet_mclist__init(&membership);
	membership.index = 1;
	membership.addr.len = 32;
	e.opts = &opts;
	e.type = SOCK_RAW;
	e.protocol = 0x300;
	e.ifindex = 1;
	e.ifname = (char *)"lo";
	e.has_fanout = true;
	e.mclist = &memberships;
	e.n_mclist = 1;
	return e;
}

TEST("packet socket entries that cannot be are refused")
{
	REFUSES(good_packet, packet_check_entry, e.type = SOCK_STREAM);
	REFUSES(good_packet, packet_check_entry, e.type = SOCK_RAW | SOCK_CLOEXEC);
	REFUSES(good_packet, packet_check_entry, e.protocol = 65536);
	REFUSES(good_packet, packet_check_entry, e.ifindex = 1u << 31);
	REFUSES(good_packet, packet_check_entry, e.ifname = (char *)"a-name-of-16-chr");
	REFUSES(good_packet, packet_check_entry, opts.so_snd_tmo_sec = UINT64_MAX);
	REFUSES(good_packet, packet_check_entry, membership.type = 4);
	REFUSES(good_packet, packet_check_entry, membership.type = 65536);
	REFUSES(good_packet, packet_check_entry, membership.addr.len = 33);
	REFUSES(good_packet, packet_check_entry, membership.index = UINT32_MAX);
	REFUSES(good_packet, packet_check_entry, membership.ifname = (char *)"a-name-of-16-chr");
}

TEST("packet sockets with a ring or a fanout group are refused")
{
	PacketRing ring = PACKET_RING__INIT;
	PacketSockEntry e = good_packet();

	e.rx_ring = &ring;
	ASSERT_EQ(packet_check_entry(&e), -EOPNOTSUPP);
	e = good_packet();
	e.tx_ring = &ring;
	ASSERT_EQ(packet_check_entry(&e), -EOPNOTSUPP);
	e = good_packet();
	e.fanout = 0;
	ASSERT_EQ(packet_check_entry(&e), -EOPNOTSUPP);
}

static NetlinkSkEntry good_netlink(void)
{
	NetlinkSkEntry e = NETLINK_SK_ENTRY__INIT;

	opts = good_opts();
	e.opts = &opts;
	e.state = 7;
	e.portid = UINT32_MAX;
	e.n_groups = 32;
	return e;
}

TEST("netlink socket entries that cannot be are refused")
{
	REFUSES(good_netlink, netlink_check_entry, e.protocol = 32);
	REFUSES(good_netlink, netlink_check_entry, e.protocol = UINT32_MAX);
	REFUSES(good_netlink, netlink_check_entry, e.n_groups = 33);
	REFUSES(good_netlink, netlink_check_entry, e.state = 2);
	REFUSES(good_netlink, netlink_check_entry, opts.so_rcv_tmo_usec = 1000000);
}

static TcpStreamEntry good_stream(void)
{
	TcpStreamEntry e = TCP_STREAM_ENTRY__INIT;

	e.inq_len = 10;
	e.outq_len = 20;
	e.unsq_len = 5;
	e.opt_mask = TCPI_OPT_WSCALE | TCPI_OPT_TIMESTAMPS;
	e.has_rcv_wscale = e.has_timestamp = true;
	e.mss_clamp = 1460;
	e.has_snd_wl1 = e.has_snd_wnd = e.has_max_window = e.has_rcv_wnd = e.has_rcv_wup = true;
	return e;
}

TEST("TCP stream entries that cannot be are refused")
{
	REFUSES(good_stream, tcp_check_entry, e.inq_len = ~0u);
	REFUSES(good_stream, tcp_check_entry, e.outq_len = 1u << 31);
	REFUSES(good_stream, tcp_check_entry, e.unsq_len = 21);
	REFUSES(good_stream, tcp_check_entry, e.snd_wscale = 15);
	REFUSES(good_stream, tcp_check_entry, e.rcv_wscale = 40);
	REFUSES(good_stream, tcp_check_entry, e.mss_clamp = 70000);
	REFUSES(good_stream, tcp_check_entry, e.has_rcv_wscale = false);
	REFUSES(good_stream, tcp_check_entry, e.has_timestamp = false);
	REFUSES(good_stream, tcp_check_entry, e.has_rcv_wnd = false);
}

static const char igmp[] =
	"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
	"1\tlo        :     1      V3\n"
	"\t\t\t\t010000E0     1 0:00000000\t\t0\n"
	"4\teth0.100  :     2      V2\n"
	"\t\t\t\tFB0000E0     1 0:00000000\t\t1\n"
	"\t\t\t\t010000E0     1 0:00000000\t\t0\n";
static const char igmp6[] =
	"1    lo              ff020000000000000000000000000001     1 0000000C 0\n"
	"12   wlan0           ff0200000000000000000000000000fb     1 00000004 0\n";

TEST("multicast groups are read from /proc, damaged lists are refused")
{
	struct mcast_groups g = { 0 };
	char cut[sizeof(igmp)];
	struct arena a;

	arena_init(&a);
	ASSERT_OK(mcast_parse_v4(&a, igmp, &g));
	ASSERT_EQ(g.n, 3);
	ASSERT_EQ(g.list[1].ifindex, 4);
	ASSERT_STREQ(g.list[1].ifname, "eth0.100");
	ASSERT(!memcmp(g.list[1].address, "\xe0\0\0\xfb", 4));
	ASSERT_OK(mcast_parse_v6(&a, igmp6, &g));
	ASSERT_EQ(g.n, 5);
	ASSERT_EQ(g.list[4].ifindex, 12);
	ASSERT_EQ(g.list[4].address[15], 0xfb);
	ASSERT_EQ(mcast_parse_v4(&a, "\t\t\t\t010000E0 1\n", &g), -EBADMSG);
	ASSERT_EQ(mcast_parse_v4(&a, "nonsense\n", &g), -EBADMSG);
	ASSERT_EQ(mcast_parse_v4(&a, "1\tlo :\n\tzz\n", &g), -EBADMSG);
	ASSERT_EQ(mcast_parse_v6(&a, "1 lo ff02\n", &g), -EBADMSG);
	ASSERT_EQ(mcast_parse_v6(&a, "1 lo\n", &g), -EBADMSG);
	for (size_t n = 0; n < sizeof(igmp); n++) {
		int r;

		snprintf(cut, n + 1, "%s", igmp);
		r = mcast_parse_v4(&a, cut, &g);
		ASSERT(!r || r == -EBADMSG);
	}
	arena_done(&a);
}

static InetSkEntry member = INET_SK_ENTRY__INIT;

static int mcast_with(uint32_t family, size_t group, size_t sources, uint32_t mode, char *ifname)
{
	static uint8_t bytes[4100 * 16] = { 224 };
	SkMcastEntry m = SK_MCAST_ENTRY__INIT, *list = &m;

	m.family = family;
	m.group = (ProtobufCBinaryData){ group, bytes };
	m.sources = (ProtobufCBinaryData){ sources, bytes };
	m.mode = mode;
	m.ifname = ifname;
	member.mcast = &list;
	member.n_mcast = 1;
	return mcast_restore(-1, &member);
}

TEST("multicast memberships that cannot be are refused")
{
	char lo[] = "lo", none[] = "no-such-dev", too_long[] = "a-name-of-17-char";

	ASSERT_EQ(mcast_with(AF_UNIX, 4, 0, 0, lo), -EBADMSG);
	ASSERT_EQ(mcast_with(AF_INET, 16, 0, 0, lo), -EBADMSG);
	ASSERT_EQ(mcast_with(AF_INET6, 4, 0, 0, lo), -EBADMSG);
	ASSERT_EQ(mcast_with(AF_INET, 4, 6, 1, lo), -EBADMSG);
	ASSERT_EQ(mcast_with(AF_INET, 4, 4, 2, lo), -EBADMSG);
	ASSERT_EQ(mcast_with(AF_INET, 4, 4097 * 4, 1, lo), -EBADMSG);
	ASSERT_EQ(mcast_with(AF_INET, 4, 0, 0, too_long), -EBADMSG);
	ASSERT_EQ(mcast_with(AF_INET, 4, 0, 0, none), -ENODEV);
	ASSERT_EQ(mcast_with(AF_INET, 4, 4, 1, lo), -EBADF);
}

TEST("who has a packet queue is read from /proc, whatever the lines are like")
{
	const char *queues = "   55  23531     0 0 65531     0     0        0  1\n"
			     "65535 4294967295     0 2 65531     0     0        0  1\n";
	unsigned int n = 0;

	ASSERT_EQ(netlink_find_bound(queues, 23531, &n), 1);
	ASSERT_EQ(n, 55);
	ASSERT_EQ(netlink_find_bound(queues, 4294967295u, &n), 1);
	ASSERT_EQ(n, 65535);
	ASSERT_EQ(netlink_find_bound(queues, 55, &n), 0);
	ASSERT_EQ(netlink_find_bound("", 1, &n), 0);
	ASSERT_EQ(netlink_find_bound("\n\nnonsense\n1\n", 1, &n), 0);
}

static const char raw[] =
	"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
	"  114: 0100007F:00FD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 00000000c2e5cea3 0\n"
	"  114: 0100007F:00FD 0200007F:0000 01 00000000:00000000 00:00000000 00000000     0        0 9664024 2 00000000c2e5cea3 0\n";

TEST("the peer of a raw socket is read from /proc, damaged lines are refused")
{
	union inet_addr peer;
	char text[INET_ADDR_TEXT];

	ASSERT_EQ(raw_peer_parse(raw, AF_INET, 9664024, &peer), 1);
	ASSERT_STREQ(inet_addr_text(&peer, text), "127.0.0.2:0");
	ASSERT_EQ(raw_peer_parse(raw, AF_INET, 77, &peer), 0);
	ASSERT_EQ(raw_peer_parse(raw, AF_INET, 1, &peer), 0);
	ASSERT_EQ(raw_peer_parse(raw, AF_INET6, 9664024, &peer), -EBADMSG);
	ASSERT_EQ(raw_peer_parse("", AF_INET, 1, &peer), 0);
	ASSERT_EQ(raw_peer_parse("head\nnonsense\n", AF_INET, 1, &peer), -EBADMSG);
	for (size_t n = 0; n < sizeof(raw); n++) {
		char cut[sizeof(raw)];
		int r;

		snprintf(cut, n + 1, "%s", raw);
		r = raw_peer_parse(cut, AF_INET, 9664024, &peer);
		ASSERT(r == 0 || r == 1 || r == -EBADMSG);
	}
}

static int extra_restore(uint32_t level, uint32_t name, size_t len, char *ifname, int fd, bool late)
{
	static uint8_t value[4096] = { 1 };
	SkExtraOptEntry e = SK_EXTRA_OPT_ENTRY__INIT, *list = &e;
	SkOptsEntry o = SK_OPTS_ENTRY__INIT;

	e.level = level;
	e.name = name;
	e.value = (ProtobufCBinaryData){ len, value };
	e.ifname = ifname;
	o.n_extra = 1;
	o.extra = &list;
	return sk_extra_restore(fd, &o, late);
}

TEST("socket options that are not in the table or too long are refused, others only warned of")
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char none[] = "no-such-dev", lo[] = "lo";

	ASSERT_EQ(extra_restore(SOL_SOCKET, 9999, 4, NULL, fd, false), -EBADMSG);
	ASSERT_EQ(extra_restore(SOL_IP, IP_ADD_MEMBERSHIP, 8, NULL, fd, false), -EBADMSG);
	ASSERT_EQ(extra_restore(SOL_IP, IP_RECVERR, 2049, NULL, fd, false), -EBADMSG);
	ASSERT_EQ(extra_restore(SOL_IP, IP_RECVERR, 4096, NULL, fd, true), -EBADMSG);
	ASSERT_OK(extra_restore(SOL_IP, IP_RECVERR, 0, NULL, fd, false));
	ASSERT_OK(extra_restore(SOL_IP, IP_UNICAST_IF, 4, none, fd, false));
	ASSERT_OK(extra_restore(SOL_IP, IP_UNICAST_IF, 2, lo, fd, false));
	ASSERT_OK(extra_restore(SOL_IP, IP_UNICAST_IF, 2048, lo, fd, false));
	close(fd);
}

TEST("unix names become addresses with the length bind(2) was given")
{
	UnixSkEntry e = UNIX_SK_ENTRY__INIT;
	uint8_t name[109] = "/run/x";
	struct sockaddr_un sa;
	socklen_t len;
	char text[UNIX_NAME_TEXT];

	e.name = (ProtobufCBinaryData){ 6, name };
	ASSERT_OK(usk_sockaddr(&e, &sa, &len));
	ASSERT_EQ(len, offsetof(struct sockaddr_un, sun_path) + 7);
	ASSERT_STREQ(sa.sun_path, "/run/x");
	e.name.data = (uint8_t *)"\0abc";
	e.name.len = 4;
	ASSERT_OK(usk_sockaddr(&e, &sa, &len));
	ASSERT_EQ(len, offsetof(struct sockaddr_un, sun_path) + 4);
	ASSERT_STREQ(unix_name_text(e.name.data, e.name.len, text), "@abc");
	memset(name, 'n', sizeof(name));
	e.name = (ProtobufCBinaryData){ 108, name };
	ASSERT_OK(usk_sockaddr(&e, &sa, &len));
	ASSERT_EQ(len, sizeof(sa));
	e.name.len = 109;
	ASSERT_EQ(usk_sockaddr(&e, &sa, &len), -EINVAL);
	e.name.len = 0;
	ASSERT_EQ(usk_sockaddr(&e, &sa, &len), -EINVAL);
}

TEST("the network lock names each connection, mapped addresses as IPv4")
{
	struct sockdiag v4 = { .family = AF_INET, .src_port = 80, .dst_port = 4000 };
	struct sockdiag mapped = { .family = AF_INET6, .src_port = 81, .dst_port = 4001 };
	struct sockdiag v6 = { .family = AF_INET6, .src_port = 82, .dst_port = 4002 };
	struct map all = { 0 };
	size_t n;
	char *rules;

	inet_pton(AF_INET, "10.0.0.1", v4.src);
	inet_pton(AF_INET, "10.0.0.2", v4.dst);
	inet_pton(AF_INET6, "::ffff:10.0.0.3", mapped.src);
	inet_pton(AF_INET6, "::ffff:10.0.0.4", mapped.dst);
	inet_pton(AF_INET6, "2001:db8::1", v6.src);
	inet_pton(AF_INET6, "2001:db8::2", v6.dst);
	ASSERT_OK(map_put(&all, 1, &v4));
	ASSERT_OK(map_put(&all, 2, &mapped));
	ASSERT_OK(map_put(&all, 3, &v6));
	rules = hostlock_rules("CRIU-77", &all, &n);
	ASSERT_EQ(n, 3);
	ASSERT_CONTAINS(rules, "add table inet CRIU-77\n");
	ASSERT_CONTAINS(rules, "10.0.0.2 . 4000 . 10.0.0.1 . 80");
	ASSERT_CONTAINS(rules, "10.0.0.4 . 4001 . 10.0.0.3 . 81");
	ASSERT_CONTAINS(rules, "2001:db8::2 . 4002 . 2001:db8::1 . 82");
	ASSERT_CONTAINS(rules, "mark 0xc114 accept");
	free(rules);
	rules = iptables_rules(&all, true);
	ASSERT_CONTAINS(rules, "*filter\n-D INPUT");
	ASSERT_CONTAINS(rules, "-s 10.0.0.2 --sport 4000 -d 10.0.0.1 --dport 80 -j DROP\n");
	ASSERT_CONTAINS(rules, "-s 10.0.0.3 --sport 81 -d 10.0.0.4 --dport 4001 -j DROP\n");
	ASSERT(!strstr(rules, "2001:db8"));
	free(rules);
	rules = iptables_rules(&all, false);
	ASSERT_CONTAINS(rules, "-s 2001:db8::1 --sport 82 -d 2001:db8::2 --dport 4002 -j DROP\n");
	free(rules);
	map_done(&all);
}

static void unlock_as_nobody(int log)
{
	log_init(LOGLEVEL_WARN, log);
	if (unshare(CLONE_NEWNET) < 0 || setresuid(65534, 65534, 65534) < 0)
		_exit(2);
	_exit(hostlock_unlock("0123", getpid()) < 0);
}

TEST("a network lock that cannot be looked for is no success without a word")
{
	int log = memfd_create("log", MFD_CLOEXEC), status;
	void *nft = dlopen("libnftables.so.1", RTLD_NOW);
	char text[512] = "";
	pid_t child;

	if (!nft)
		unit_skip("no libnftables");
	dlclose(nft);
	child = fork();
	if (!child)
		unlock_as_nobody(log);
	ASSERT_EQ(waitpid(child, &status, 0), child);
	if (WEXITSTATUS(status) == 2)
		unit_skip("no network namespace of our own");
	ASSERT_EQ(status, 0);
	ASSERT(pread(log, text, sizeof(text) - 1, 0) >= 0);
	ASSERT_CONTAINS(text, "CRIU-0123");
	ASSERT_CONTAINS(text, "connections stay blocked");
	close(log);
}
