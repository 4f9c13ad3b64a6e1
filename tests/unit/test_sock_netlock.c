/*
 * The network lock: what its programs drop, packet by packet in the kernel's own interpreter,
 * and that interfaces get and lose them: a veth pair between two network namespaces of the
 * test's own.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "netlock/links.h"
#include "netlock/netlock.h"
#include "unit.h"

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int load(enum netlock_mode mode, enum netlock_link link)
{
	static char log[65536];
	struct bpf_insn insns[NETLOCK_INSNS_MAX];
	union bpf_attr attr = { 0 };
	int fd;

	attr.prog_type = BPF_PROG_TYPE_XDP;
	attr.insn_cnt = (uint32_t)netlock_program(mode, link, insns);
	ASSERT_LT(attr.insn_cnt, NETLOCK_INSNS_MAX);
	attr.insns = (uintptr_t)insns;
	attr.license = (uintptr_t)"LGPL";
	attr.log_buf = (uintptr_t)log;
	attr.log_size = sizeof(log);
	attr.log_level = 1;
	fd = bpf(BPF_PROG_LOAD, &attr);
	if (fd < 0 && errno == ENOSYS)
		unit_skip("the kernel has no bpf(2) (CONFIG_BPF_SYSCALL)");
	if (fd < 0)
		fprintf(stderr, "%s\n", log);
	ASSERT_OK(fd);
	return fd;
}

/* A packet: link header, then up to n bytes of the given ones, zeroes to len. */
struct packet {
	uint8_t b[128];
	size_t len;
};

static struct packet ether(int vlan, uint16_t type)
{
	struct packet p = { .len = 14 };

	memset(p.b, 0x22, 12);
	if (vlan) {
		p.b[12] = vlan == 1 ? 0x81 : 0x88;
		p.b[13] = vlan == 1 ? 0x00 : 0xa8;
		p.len = 18;
	}
	p.b[p.len - 2] = (uint8_t)(type >> 8);
	p.b[p.len - 1] = (uint8_t)type;
	return p;
}

static struct packet ip4(struct packet p, int ihl, int proto, int frag, int l4, uint8_t tcp_flags)
{
	uint8_t *ip = p.b + p.len;

	ip[0] = (uint8_t)(0x40 | ihl);
	ip[6] = (uint8_t)(frag >> 8);
	ip[7] = (uint8_t)frag;
	ip[9] = (uint8_t)proto;
	if (l4 > 13)
		ip[ihl * 4 + 13] = tcp_flags;
	p.len += (size_t)(ihl * 4 + l4);
	return p;
}

static struct packet ip6(struct packet p, int next, int l4, uint8_t first, uint8_t tcp_flags)
{
	uint8_t *ip = p.b + p.len;

	ip[0] = 0x60;
	ip[6] = (uint8_t)next;
	ip[40] = first;
	if (l4 > 13)
		ip[40 + 13] = tcp_flags;
	p.len += (size_t)(40 + l4);
	return p;
}

static int verdict(int prog, struct packet p)
{
	union bpf_attr attr = { 0 };
	uint8_t out[256];

	attr.test.prog_fd = (uint32_t)prog;
	attr.test.data_in = (uintptr_t)p.b;
	/* The kernel wants an Ethernet header's worth at least. */
	attr.test.data_size_in = (uint32_t)(p.len < 14 ? 14 : p.len);
	attr.test.data_out = (uintptr_t)out;
	attr.test.data_size_out = sizeof(out);
	attr.test.repeat = 1;
	ASSERT_OK(bpf(BPF_PROG_TEST_RUN, &attr));
	return (int)attr.test.retval;
}

enum { SYN = 2, ACK = 16, RST = 4, FIN = 1 };

TEST("the gate drops connection requests and nothing else")
{
	int g = load(NETLOCK_GATE, NETLOCK_ETHER);

	for (int vlan = 0; vlan < 3; vlan++) {
		struct packet v4 = ether(vlan, 0x0800), v6 = ether(vlan, 0x86dd);

		ASSERT_EQ(verdict(g, ip4(v4, 5, 6, 0, 20, SYN)), XDP_DROP);
		ASSERT_EQ(verdict(g, ip4(v4, 15, 6, 0, 20, SYN)), XDP_DROP);
		ASSERT_EQ(verdict(g, ip4(v4, 5, 6, 0x4000, 20, SYN)), XDP_DROP);
		ASSERT_EQ(verdict(g, ip4(v4, 5, 6, 0, 20, SYN | ACK)), XDP_PASS);
		ASSERT_EQ(verdict(g, ip4(v4, 5, 6, 0, 20, ACK)), XDP_PASS);
		ASSERT_EQ(verdict(g, ip4(v4, 5, 6, 0, 20, RST | ACK)), XDP_PASS);
		ASSERT_EQ(verdict(g, ip4(v4, 5, 6, 0, 20, FIN)), XDP_PASS);
		/* A later fragment's bytes are no header. */
		ASSERT_EQ(verdict(g, ip4(v4, 5, 6, 100, 20, SYN)), XDP_PASS);
		ASSERT_EQ(verdict(g, ip4(v4, 5, 17, 0, 20, SYN)), XDP_PASS);
		ASSERT_EQ(verdict(g, ip6(v6, 6, 20, 0, SYN)), XDP_DROP);
		ASSERT_EQ(verdict(g, ip6(v6, 6, 20, 0, SYN | ACK)), XDP_PASS);
		ASSERT_EQ(verdict(g, ip6(v6, 17, 20, 0, SYN)), XDP_PASS);
		ASSERT_EQ(verdict(g, ip6(v6, 58, 24, 135, SYN)), XDP_PASS);
	}
	ASSERT_EQ(verdict(g, ether(0, 0x0806)), XDP_PASS);
	/* Cut short: not ours to judge. */
	ASSERT_EQ(verdict(g, ip4(ether(0, 0x0800), 5, 6, 0, 13, SYN)), XDP_PASS);
	ASSERT_EQ(verdict(g, ip4(ether(0, 0x0800), 2, 6, 0, 0, 0)), XDP_PASS);
}

TEST("the lock drops IPv4 and IPv6 but neighbour discovery, and lets ARP pass")
{
	int l = load(NETLOCK_LOCK, NETLOCK_ETHER);

	for (int vlan = 0; vlan < 3; vlan++) {
		struct packet v4 = ether(vlan, 0x0800), v6 = ether(vlan, 0x86dd);

		ASSERT_EQ(verdict(l, ip4(v4, 5, 6, 0, 20, ACK)), XDP_DROP);
		ASSERT_EQ(verdict(l, ip4(v4, 5, 17, 0, 8, 0)), XDP_DROP);
		ASSERT_EQ(verdict(l, ip4(v4, 5, 1, 0, 8, 0)), XDP_DROP);
		ASSERT_EQ(verdict(l, ip6(v6, 6, 20, 0, ACK)), XDP_DROP);
		ASSERT_EQ(verdict(l, ip6(v6, 58, 8, 128, 0)), XDP_DROP);
		ASSERT_EQ(verdict(l, ip6(v6, 58, 8, 132, 0)), XDP_DROP);
		ASSERT_EQ(verdict(l, ip6(v6, 58, 24, 133, 0)), XDP_PASS);
		ASSERT_EQ(verdict(l, ip6(v6, 58, 24, 135, 0)), XDP_PASS);
		ASSERT_EQ(verdict(l, ip6(v6, 58, 24, 137, 0)), XDP_PASS);
		ASSERT_EQ(verdict(l, ip6(v6, 58, 24, 138, 0)), XDP_DROP);
	}
	ASSERT_EQ(verdict(l, ether(0, 0x0806)), XDP_PASS);
	ASSERT_EQ(verdict(l, ether(0, 0x88cc)), XDP_PASS);
	ASSERT_EQ(verdict(l, ether(0, 0x0800)), XDP_DROP);
}

TEST("interfaces without link header are judged by the IP version")
{
	int g = load(NETLOCK_GATE, NETLOCK_BARE), l = load(NETLOCK_LOCK, NETLOCK_BARE);
	struct packet none = { 0 };

	ASSERT_EQ(verdict(g, ip4(none, 5, 6, 0, 20, SYN)), XDP_DROP);
	ASSERT_EQ(verdict(g, ip6(none, 6, 20, 0, SYN)), XDP_DROP);
	ASSERT_EQ(verdict(g, ip4(none, 5, 6, 0, 20, ACK)), XDP_PASS);
	ASSERT_EQ(verdict(l, ip4(none, 5, 6, 0, 20, ACK)), XDP_DROP);
	ASSERT_EQ(verdict(l, ip6(none, 58, 24, 135, 0)), XDP_PASS);
	ASSERT_EQ(verdict(l, ip6(none, 6, 20, 0, 0)), XDP_DROP);
}

static struct packet with_urgent(struct packet p, uint16_t urgent)
{
	p.b[p.len - 2] = (uint8_t)(urgent >> 8);
	p.b[p.len - 1] = (uint8_t)urgent;
	return p;
}

TEST("on lo the lock lets a restore's own segments pass, on other interfaces not")
{
	int lo = load(NETLOCK_LOCK, NETLOCK_LOOPBACK), nic = load(NETLOCK_LOCK, NETLOCK_ETHER);
	struct packet v4 = ether(0, 0x0800), v6 = ether(0, 0x86dd);

	ASSERT_EQ(verdict(lo, with_urgent(ip4(v4, 5, 6, 0, 20, ACK), NETLOCK_REPLAY)), XDP_PASS);
	ASSERT_EQ(verdict(lo, with_urgent(ip6(v6, 6, 20, 0, ACK | FIN), NETLOCK_REPLAY)), XDP_PASS);
	ASSERT_EQ(verdict(lo, with_urgent(ip4(v4, 5, 6, 0, 20, 0x30), NETLOCK_REPLAY)), XDP_DROP);
	ASSERT_EQ(verdict(lo, with_urgent(ip4(v4, 5, 17, 0, 20, 0), NETLOCK_REPLAY)), XDP_DROP);
	ASSERT_EQ(verdict(lo, ip4(v4, 5, 6, 0, 20, ACK)), XDP_DROP);
	ASSERT_EQ(verdict(lo, ip4(v4, 5, 6, 0, 19, ACK)), XDP_DROP);
	ASSERT_EQ(verdict(lo, ip6(v6, 6, 20, 0, ACK)), XDP_DROP);
	ASSERT_EQ(verdict(lo, ether(0, 0x0800)), XDP_DROP);
	ASSERT_EQ(verdict(nic, with_urgent(ip4(v4, 5, 6, 0, 20, ACK), NETLOCK_REPLAY)), XDP_DROP);
	ASSERT_EQ(verdict(nic, with_urgent(ip6(v6, 6, 20, 0, ACK), NETLOCK_REPLAY)), XDP_DROP);
}

/* The other side: its own namespace; one letter in, one answer out. */
struct outside {
	pid_t pid;
	int cmd, answer;
};

static void link_up(struct nl_sock *nl, const char *name, int family, const char *addr)
{
	struct rtnl_link *link = NULL, *change = rtnl_link_alloc();
	struct rtnl_addr *a = rtnl_addr_alloc();
	struct nl_addr *local = NULL;

	ASSERT(!rtnl_link_get_kernel(nl, 0, name, &link));
	rtnl_link_set_flags(change, IFF_UP);
	ASSERT(!rtnl_link_change(nl, link, change, 0));
	if (addr) {
		ASSERT(!nl_addr_parse(addr, family, &local));
		rtnl_addr_set_ifindex(a, rtnl_link_get_ifindex(link));
		ASSERT(!rtnl_addr_set_local(a, local));
		if (family == AF_INET6)
			rtnl_addr_set_flags(a, IFA_F_NODAD);
		ASSERT(!rtnl_addr_add(nl, a, 0));
		nl_addr_put(local);
	}
	rtnl_addr_put(a);
	rtnl_link_put(change);
	rtnl_link_put(link);
}

static struct nl_sock *route_socket(void)
{
	struct nl_sock *nl = nl_socket_alloc();

	ASSERT(nl && !nl_connect(nl, NETLINK_ROUTE));
	return nl;
}

static int try_connect(int family, int port, int wait_msec)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0), e = 0;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(e);

	inet_pton(AF_INET, "10.77.0.1", &a4.sin_addr);
	inet_pton(AF_INET6, "fd77::1", &a6.sin6_addr);
	if (family == AF_INET)
		(void)connect(fd, (struct sockaddr *)&a4, sizeof(a4));
	else
		(void)connect(fd, (struct sockaddr *)&a6, sizeof(a6));
	if (poll(&p, 1, wait_msec) != 1 ||
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0 || e) {
		close(fd);
		return -1;
	}
	return fd;
}

static void __attribute__((noreturn)) outside_main(int cmd, int answer)
{
	int conn = -1;
	char c, yes = 'y', no = 'n';

	ASSERT_OK(unshare(CLONE_NEWNET));
	ASSERT_EQ(write(answer, &yes, 1), 1);
	while (read(cmd, &c, 1) == 1) {
		bool ok = true;
		int fd;

		if (c == 'u') {		/* the link is here: up */
			link_up(route_socket(), "v1", AF_INET, "10.77.0.2/24");
			link_up(route_socket(), "v1", AF_INET6, "fd77::2/64");
		} else if (c != 's') {	/* 4, 6: a new connection; f, t: is there none? */
			fd = try_connect(c == '4' || c == 'f' ? AF_INET : AF_INET6, 7777,
					 c == '4' || c == '6' ? 15000 : 1300);
			ok = fd >= 0;
			if (conn < 0)
				conn = fd;
			else
				close(fd);
		} else {
			ok = send(conn, "data", 4, MSG_NOSIGNAL) == 4;
		}
		if (write(answer, ok ? &yes : &no, 1) != 1)
			break;
	}
	_exit(0);
}

static char ask(const struct outside *o, char c)
{
	char answer;

	ASSERT_EQ(write(o->cmd, &c, 1), 1);
	ASSERT_EQ(read(o->answer, &answer, 1), 1);
	return answer;
}

static void outside_start(struct outside *o)
{
	int in[2], out[2];
	char c;

	ASSERT_OK(pipe2(in, O_CLOEXEC));
	ASSERT_OK(pipe2(out, O_CLOEXEC));
	o->pid = fork();
	ASSERT_OK(o->pid);
	if (!o->pid) {
		close(in[1]);
		close(out[0]);
		outside_main(in[0], out[1]);
	}
	close(in[0]);
	close(out[1]);
	o->cmd = in[1];
	o->answer = out[0];
	ASSERT_EQ(read(o->answer, &c, 1), 1);
}

static void world(struct outside *o)
{
	struct nl_sock *nl;
	int r;

	r = unshare(CLONE_NEWNET);
	if (r < 0 && errno == EINVAL)
		unit_skip("the kernel has no network namespaces (CONFIG_NET_NS)");
	ASSERT_OK(r);
	outside_start(o);
	nl = route_socket();
	r = rtnl_link_veth_add(nl, "v0", "v1", o->pid);
	if (r == -NLE_OPNOTSUPP)
		unit_skip("the kernel has no veth devices (CONFIG_VETH)");
	ASSERT_OK(r);
	link_up(nl, "v0", AF_INET, "10.77.0.1/24");
	link_up(nl, "v0", AF_INET6, "fd77::1/64");
	link_up(nl, "lo", AF_INET, NULL);
	nl_socket_free(nl);
	ASSERT_EQ(ask(o, 'u'), 'y');
}

static int listen_both(void)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(7777) };
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	ASSERT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(fd, 10));
	return fd;
}

static bool has_data(int fd, int wait_msec)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char buf[16];

	return poll(&p, 1, wait_msec) == 1 && recv(fd, buf, sizeof(buf), 0) == 4;
}

TEST("gate, lock and unlock reach the traffic of a veth pair")
{
	struct netlock *nl;
	struct outside o;
	int l, conn;

	world(&o);
	l = listen_both();
	ASSERT_EQ(ask(&o, '4'), 'y');
	ASSERT_EQ(ask(&o, '6'), 'y');
	ASSERT_EQ(accept_queue_len(l), 2);
	conn = accept(l, NULL, NULL);
	ASSERT_EQ(accept_queue_len(l), 1);

	ASSERT_OK(netlock_open(&nl));
	ASSERT_OK(netlock_gate(nl));
	ASSERT_EQ(ask(&o, 'f'), 'n');
	ASSERT_EQ(ask(&o, 't'), 'n');
	ASSERT_EQ(ask(&o, 's'), 'y');
	ASSERT(has_data(conn, 2000));
	ASSERT_OK(netlock_lock(nl));
	ASSERT_EQ(ask(&o, 's'), 'y');
	ASSERT(!has_data(conn, 700));
	ASSERT_OK(netlock_unlock(nl));
	ASSERT(has_data(conn, 10000));
	ASSERT_EQ(ask(&o, '4'), 'y');
	ASSERT_EQ(ask(&o, '6'), 'y');
	ASSERT_OK(netlock_lock(nl));
	ASSERT_EQ(ask(&o, 'f'), 'n');
	netlock_close(nl);
	ASSERT_EQ(ask(&o, '4'), 'y');
	ASSERT_OK(kill(o.pid, SIGKILL));
}

TEST("the lock goes when its holder is killed")
{
	struct netlock *nl;
	struct outside o;
	int ready[2], status;
	pid_t holder;
	char c;

	world(&o);
	listen_both();
	ASSERT_OK(pipe2(ready, O_CLOEXEC));
	holder = fork();
	ASSERT_OK(holder);
	if (!holder) {
		ASSERT_OK(netlock_open(&nl));
		ASSERT_OK(netlock_lock(nl));
		ASSERT_EQ(write(ready[1], "r", 1), 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	ASSERT_EQ(read(ready[0], &c, 1), 1);
	ASSERT_EQ(ask(&o, 'f'), 'n');
	ASSERT_OK(kill(holder, SIGKILL));
	ASSERT_EQ(waitpid(holder, &status, 0), holder);
	ASSERT_EQ(ask(&o, '4'), 'y');
	ASSERT_OK(kill(o.pid, SIGKILL));
}

TEST("an interface with an XDP program of its own is refused, nothing is left attached")
{
	struct netlock *first, *second;
	struct outside o;

	world(&o);
	listen_both();
	ASSERT_OK(netlock_open(&first));
	ASSERT_OK(netlock_open(&second));
	ASSERT_OK(netlock_gate(first));
	ASSERT_EQ(netlock_gate(second), -EBUSY);
	ASSERT_EQ(netlock_lock_ifindex(second, (int)if_nametoindex("v0")), -EBUSY);
	netlock_close(second);
	ASSERT_EQ(ask(&o, 'f'), 'n');
	netlock_close(first);
	ASSERT_EQ(ask(&o, '4'), 'y');
	ASSERT_OK(kill(o.pid, SIGKILL));
}

TEST("one interface can be locked by its index, before it is up")
{
	struct netlock *nl;
	struct outside o;
	struct nl_sock *route;

	world(&o);
	listen_both();
	route = route_socket();
	ASSERT_OK(netlock_open(&nl));
	ASSERT_OK(rtnl_link_veth_add(route, "late0", "late1", getpid()));
	ASSERT_OK(netlock_lock_ifindex(nl, (int)if_nametoindex("late0")));
	ASSERT_EQ(ask(&o, '4'), 'y');
	ASSERT_OK(netlock_lock_ifindex(nl, (int)if_nametoindex("v0")));
	ASSERT_EQ(ask(&o, 'f'), 'n');
	ASSERT_EQ(netlock_lock_ifindex(nl, 999999), -ENODEV);
	netlock_close(nl);
	nl_socket_free(route);
	ASSERT_OK(kill(o.pid, SIGKILL));
}

TEST("stacked interfaces are left to those below them")
{
	struct net_link *links;
	struct outside o;
	size_t n, upper = 0, plain = 0;
	struct nl_sock *nl;
	struct rtnl_link *br, *v0 = NULL, *found = NULL;
	int r;

	world(&o);
	nl = route_socket();
	br = rtnl_link_alloc();
	ASSERT(!rtnl_link_set_type(br, "bridge"));
	rtnl_link_set_name(br, "br0");
	r = rtnl_link_add(nl, br, NLM_F_CREATE);
	if (r == -NLE_OPNOTSUPP)
		unit_skip("the kernel has no bridges (CONFIG_BRIDGE)");
	ASSERT_OK(r);
	ASSERT(!rtnl_link_get_kernel(nl, 0, "br0", &found));
	ASSERT(!rtnl_link_get_kernel(nl, 0, "v0", &v0));
	ASSERT(!rtnl_link_enslave(nl, found, v0));
	ASSERT_OK(net_links_list(&links, &n));
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(links[i].name, "br0"))
			ASSERT(links[i].upper);
		if (!strcmp(links[i].name, "v0"))
			ASSERT(!links[i].upper && links[i].sort == NETLOCK_ETHER);
		if (!strcmp(links[i].name, "lo"))
			ASSERT_EQ(links[i].sort, NETLOCK_LOOPBACK);
		upper += links[i].upper;
		plain += !links[i].upper;
	}
	ASSERT_EQ(upper, 1);
	ASSERT_GE(plain, 2);
	free(links);
	rtnl_link_put(br);
	rtnl_link_put(found);
	rtnl_link_put(v0);
	nl_socket_free(nl);
	ASSERT_OK(kill(o.pid, SIGKILL));
}
