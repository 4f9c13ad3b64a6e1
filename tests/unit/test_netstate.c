/* Routes, policy rules, addresses of lo: read in one network namespace, set up again in another. */
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <sys/socket.h>

#include "crkexec/machine.h"
#include "crkexec/sockets.h"
#include "crkexec/upgrade.h"
#include "initramfs/early_net.h"
#include "tests/unit/unit.h"
#include "util/hex.h"
#include "util/io.h"
#include "util/log.h"

static void own_network(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		unit_skip("no network namespace of its own: %s", strerror(errno));
}

static void run(const char *command)
{
	int status = system(command);

	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		unit_skip("no ip(8)");
	if (status)
		unit_fail(__FILE__, __LINE__, "status %d: %s", status, command);
}

/* What it says; the caller's to free. */
static char *said(const char *command)
{
	FILE *f = popen(command, "r");
	char *text = calloc(1, 16384);

	ASSERT(f && text);
	(void)!fread(text, 1, 16383, f);
	ASSERT_EQ(pclose(f), 0);
	return text;
}

#define SHOW	"ip -o address show dev lo; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule"

#define LATE0	"ip link add late0 type veth peer late1 && ip link set late0 up && ip link set late1 up"

static struct manifest *read_state(struct upgrade *u)
{
	struct manifest *m = manifest_new();

	ASSERT(m);
	u->m = m;
	ASSERT_OK(netstate_read(u, m));
	return m;
}

/* By way of its text. */
static struct manifest *handed_over(struct manifest *m)
{
	struct manifest *back;
	char *text;
	size_t n;

	m->id = strdup("0123456789abcdef");
	m->kernel_from = strdup("a");
	m->kernel_to = strdup("b");
	ASSERT_OK(manifest_to_text(m, &text, &n));
	ASSERT_OK(manifest_from_text(text, n, &back));
	free(text);
	manifest_free(m);
	return back;
}

static void forget(struct upgrade *u)
{
	strv_done(&u->late_addresses);
	strv_done(&u->late_interfaces);
}

TEST("routes with all that makes them valid, policy rules, addresses of lo come back as they were")
{
	_cleanup_free_ char *before = NULL, *after = NULL;
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	struct upgrade u = { 0 };
	struct early e = { .log_fd = -EBADF };

	own_network();
	run("ip link set lo up");
	run("ip address add 203.0.113.7/32 dev lo && ip address add 10.66.0.1/24 dev lo");
	run("ip -6 address add 2001:db8::7/128 dev lo nodad");
	run("ip route add default via 172.31.1.1 dev lo onlink");
	run("ip route add 198.51.100.0/24 via 172.31.1.2 dev lo onlink mtu lock 1400 advmss 1300 initcwnd 20 quickack 1");
	run("ip -6 route add 2001:db8:1::/48 dev lo mtu 1300 hoplimit 5");
	run("ip route add local 192.0.2.0/24 dev lo && ip route add local default dev lo table 100");
	run("ip rule add fwmark 1 lookup 100 && ip rule add from 10.66.0.1 iif lo lookup 3000 priority 555");
	run("ip rule add not to 192.0.2.0/24 lookup main suppress_prefixlength 0 priority 556");
	run("ip rule add priority 0 oif wg0 lookup 4000 && ip -6 rule add from 2001:db8::/32 prohibit priority 77");
	before = said(SHOW);
	m = handed_over(read_state(&u));
	ASSERT_EQ(m->n_lo_addresses, 3);
	ASSERT_EQ(m->n_policy_rules, 5);
	ASSERT_EQ(m->n_links, 0);
	ASSERT_EQ(m->n_warnings, 0);
	own_network();
	e.manifest = m;
	ASSERT_OK(early_net_configure(&e));
	after = said(SHOW);
	ASSERT_STREQ(after, before);
	/* A second time nothing is there twice. */
	free(after);
	ASSERT_OK(early_net_configure(&e));
	after = said(SHOW);
	ASSERT_STREQ(after, before);
	forget(&u);
}

TEST("what the kernel has by itself is not carried")
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	struct upgrade u = { 0 };

	own_network();
	run("ip link set lo up");
	m = read_state(&u);
	ASSERT_EQ(m->n_lo_addresses, 0);
	ASSERT_EQ(m->n_routes, 0);
	ASSERT_EQ(m->n_policy_rules, 0);
	ASSERT_EQ(u.late_interfaces.n, 0);
	forget(&u);
}

TEST("of an interface that is not carried the addresses are told, but not those it has by itself")
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	struct upgrade u = { 0 };

	own_network();
	run(LATE0);
	run("ip address add 10.9.0.1/24 dev late0 && ip -6 address add fe80::77/64 dev late0 nodad");
	m = read_state(&u);
	ASSERT_EQ(m->n_warnings, 1);
	ASSERT_CONTAINS(m->warnings[0], "address 10.9.0.1/24 of late0");
	ASSERT(strv_has(&u.late_addresses, "10.9.0.1 late0"));
	ASSERT(strv_has(&u.late_addresses, "fe80::77 late0"));
	ASSERT_EQ(u.late_interfaces.n, 2);
	ASSERT(strv_has(&u.late_interfaces, "late0") && strv_has(&u.late_interfaces, "late1"));
	forget(&u);
}

static void add_rule(const char *text)
{
	char *list[] = { (char *)text };
	struct manifest m = { .policy_rules = list, .n_policy_rules = 1 };

	early_policy_rules_add(&m);
}

static void add_rule_bytes(const void *data, size_t bytes)
{
	char *text = hex_text(data, bytes);

	ASSERT(text);
	add_rule(text);
	free(text);
}

TEST("policy rules that are none are passed over")
{
	_cleanup_free_ char *before = NULL, *after = NULL, *long_text = calloc(1, 9001);
	struct {
		struct nlmsghdr h;
		struct fib_rule_hdr rule;
		struct nlattr a;
		uint32_t v;
	} m = {
		.h = { sizeof(m), RTM_NEWRULE, 0, 0, 0 },
		.rule = { .family = AF_INET, .table = 100, .action = FR_ACT_TO_TBL },
		.a = { 8, FRA_PRIORITY }, .v = 4711,
	};

	own_network();
	before = said("ip rule; ip -6 rule");
	ASSERT(long_text);
	memset(long_text, '0', 9000);
	add_rule("");
	add_rule("xy");
	add_rule("123");
	add_rule("20000000");
	add_rule(long_text);
	for (size_t n = 0; n < sizeof(m); n++)
		add_rule_bytes(&m, n);
	m.h.nlmsg_len = UINT32_MAX;
	add_rule_bytes(&m, sizeof(m));
	m.h.nlmsg_len = 8;
	add_rule_bytes(&m, sizeof(m));
	m.h.nlmsg_len = sizeof(m);
	m.h.nlmsg_type = RTM_DELRULE;
	add_rule_bytes(&m, sizeof(m));
	m.h.nlmsg_type = RTM_NEWRULE;
	m.rule.family = AF_UNIX;
	add_rule_bytes(&m, sizeof(m));
	m.rule.family = AF_INET;
	m.a.nla_len = 9;
	add_rule_bytes(&m, sizeof(m));
	m.a.nla_len = 3;
	add_rule_bytes(&m, sizeof(m));
	m.a.nla_len = 8;
	after = said("ip rule; ip -6 rule");
	ASSERT_STREQ(after, before);
	free(after);
	add_rule_bytes(&m, sizeof(m));
	after = said("ip rule");
	ASSERT_CONTAINS(after, "4711:");
}

TEST("a route with metrics that are none is refused")
{
	struct manifest_metric metric = { UINT32_MAX, 5 };
	/* All that are states. */
	const uint32_t states = UINT32_MAX & ~(uint32_t)RTNH_F_ONLINK;
	char dst[] = "10.0.0.0/8", dev[] = "lo";
	struct manifest_route t = { .dst = dst, .dev = dev, .family = AF_INET, .table = RT_TABLE_MAIN,
				    .type = RTN_UNICAST, .flags = states, .metrics = &metric, .n_metrics = 1 };
	struct nl_sock *sk;

	own_network();
	run("ip link set lo up");
	sk = net_open();
	ASSERT(sk);
	ASSERT_EQ(net_add_route(sk, &t, NET_LO), -EBADMSG);
	metric.type = 0;
	ASSERT_EQ(net_add_route(sk, &t, NET_LO), -EBADMSG);
	metric.type = RTAX_MTU;
	ASSERT_OK(net_add_route(sk, &t, NET_LO));
	nl_socket_free(sk);
}

TEST("a route over a gateway of the other family, on its link by word alone, is made")
{
	char dst[] = "10.60.0.0/16", via[] = "fe80::1", all[] = "default", outside[] = "172.31.1.1", dev[] = "late0";
	char outside6[] = "2001:db8::1";
	struct manifest_route t[] = {
		{ .dst = dst, .via = via, .dev = dev, .family = AF_INET, .table = RT_TABLE_MAIN, .type = RTN_UNICAST },
		{ .dst = all, .via = outside, .dev = dev, .family = AF_INET, .table = RT_TABLE_MAIN,
		  .type = RTN_UNICAST, .flags = RTNH_F_ONLINK },
		{ .dst = all, .via = outside6, .dev = dev, .family = AF_INET6, .table = RT_TABLE_MAIN,
		  .type = RTN_UNICAST, .flags = RTNH_F_ONLINK },
	};
	struct manifest m = { .routes = t, .n_routes = 3 };
	struct early e = { .manifest = &m, .log_fd = -EBADF };
	char *is;

	own_network();
	run(LATE0);
	ASSERT_OK(early_net_configure(&e));
	is = said("ip route; ip -6 route");
	ASSERT_CONTAINS(is, "default via 2001:db8::1 dev late0 metric 1024 onlink");
	ASSERT_CONTAINS(is, "default via 172.31.1.1 dev late0 proto unspec onlink");
	ASSERT_CONTAINS(is, "10.60.0.0/16 via inet6 fe80::1 dev late0");
	free(is);
}

TEST("of a socket its address, its interface and its network namespace are known")
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET };
	struct sockaddr_in in = { .sin_family = AF_INET };
	uint64_t first = socket_netns();
	struct socket_place p;
	int fd, packet;

	own_network();
	run("ip link set lo up && " LATE0);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	socket_place_of(fd, &p);
	ASSERT_STREQ(p.address, "");
	ASSERT_STREQ(p.interface, "");
	ASSERT_EQ(p.netns, socket_netns());
	ASSERT(!first || p.netns != first);
	ASSERT_OK(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "late0", 6));
	run("ip address add 10.9.0.1/24 dev late0");
	in.sin_addr.s_addr = htonl(0x0a090001);
	ASSERT_OK(bind(fd, (struct sockaddr *)&in, sizeof(in)));
	ASSERT_OK(socket_place(getpid(), fd, &p));
	ASSERT_STREQ(p.address, "10.9.0.1");
	ASSERT_STREQ(p.interface, "late0");
	packet = socket(AF_PACKET, SOCK_RAW, 0);
	socket_place_of(packet, &p);
	ASSERT_STREQ(p.interface, "");
	ll.sll_ifindex = (int)if_nametoindex("late0");
	ASSERT_OK(bind(packet, (struct sockaddr *)&ll, sizeof(ll)));
	socket_place_of(packet, &p);
	ASSERT_STREQ(p.interface, "late0");
	ASSERT_STREQ(p.address, "");
	ASSERT_EQ(socket_place(getpid(), 4711, &p), -ENOENT);
	close(packet);
	close(fd);
}
