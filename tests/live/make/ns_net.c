/*
 * A network namespace of its own with nothing but lo, as PrivateNetwork= makes it, and sockets on both
 * sides: connections inside of it, a listener and an abstract name from before it (as a socket unit hands
 * in). Settings, addresses, routes, rules and the packet filter are the same afterwards, /sys shows
 * the namespace's devices.
 *
 * cr-options: --tcp-established
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <libgen.h>
#include <netinet/in.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "said_common.h"

static char was[1 << 16];

/* What the tools say of the namespace, without what counts time. */
static void describe(char *out, size_t size)
{
	static const char *const plain[] = {
		"ip addr | sed 's/ nodad//; s/ proto kernel_[a-z]*//'", "ip -4 route", "ip -6 route", "ip rule",
	}, *const full[] = {
		"ip -d addr", "ip -4 route show table all", "ip -6 route show table all", "ip rule",
		"ip -6 rule", "ip neigh show nud permanent", "nft list ruleset 2>&1", "ls /sys/class/net",
		"cd /proc/sys/net && grep -r . core/somaxconn ipv4/ip_local_port_range ipv4/tcp_fin_timeout "
		"ipv4/conf/lo ipv4/conf/all ipv4/conf/default ipv6/conf ipv4/ping_group_range 2>/dev/null"
		" | grep -v stable_secret | sort",
		"grep -H . /proc/sys/net/ipv6/conf/*/stable_secret 2>/dev/null",
	};

	if (maker_is_plain())
		said(plain, sizeof(plain) / sizeof(plain[0]), out, size);
	else
		said(full, sizeof(full) / sizeof(full[0]), out, size);
}

static int listen_on(uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	MAKER_MUST(fd >= 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	MAKER_MUST(listen(fd, 8) == 0 && getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
	*port = sa.sin_port;
	return fd;
}

static int connect_to(uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = port,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	MAKER_MUST(fd >= 0);
	return connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 ? fd : -1;
}

static ino_t netns_of(int fd)
{
	int ns = ioctl(fd, SIOCGSKNS);
	struct stat st;

	MAKER_MUST(ns >= 0 && fstat(ns, &st) == 0);
	close(ns);
	return st.st_ino;
}

static ino_t own_netns(pid_t pid)
{
	char path[40];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	MAKER_MUST(stat(path, &st) == 0);
	return st.st_ino;
}

static int abstract(const char *name, bool bound)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len;

	snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "%s", name);
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
	MAKER_MUST(fd >= 0);
	MAKER_MUST((bound ? bind : connect)(fd, (struct sockaddr *)&sa, len) == 0);
	return fd;
}

static void exchange(int a, int b, const char *text)
{
	char got[32] = "";
	size_t n = strlen(text);

	MAKER_MUST(send(a, text, n, MSG_NOSIGNAL) == (ssize_t)n);
	if (recv(b, got, sizeof(got) - 1, 0) != (ssize_t)n || strcmp(got, text))
		maker_fail("got '%s' for '%s'", got, text);
}

static bool is_member(int fd, const char *group)
{
	struct group_filter f = { .gf_interface = 1 };
	socklen_t len = sizeof(f);
	struct sockaddr_in *g = (struct sockaddr_in *)&f.gf_group;

	g->sin_family = AF_INET;
	inet_pton(AF_INET, group, &g->sin_addr);
	return !getsockopt(fd, SOL_IP, MCAST_MSFILTER, &f, &len);
}

static int member_of(const char *group)
{
	struct ip_mreqn m = { .imr_ifindex = 1 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, group, &m.imr_multiaddr);
	MAKER_MUST(fd >= 0 && !setsockopt(fd, SOL_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)));
	return fd;
}

static int raw_to_self(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, 253);

	MAKER_MUST(fd >= 0 && !connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

static void set_up_network(void)
{
	run("ip link set lo up");
	run("ip addr add 10.9.0.1/24 dev lo && ip addr add 10.9.0.2/24 dev lo");
	run("ip addr del ::1/128 dev lo && ip addr add fd00:9::1/64 dev lo nodad && ip addr add ::1/128 dev lo nodad");
	run("ip route add 10.20.0.0/16 via 10.9.0.77 metric 7");
	run("ip route add 10.30.0.0/16 via 10.20.0.1 onlink dev lo table 77");
	run("ip route add blackhole 10.40.0.0/16 && ip -6 route add fd00:77::/64 dev lo metric 5");
	run("ip rule add from 10.9.0.2 lookup 77 pref 100 && ip -6 rule add to fd00:77::/64 prohibit pref 9");
	run("echo 99 > /proc/sys/net/core/somaxconn");
	run("echo '20000 20999' > /proc/sys/net/ipv4/ip_local_port_range");
	run("echo 33 > /proc/sys/net/ipv4/tcp_fin_timeout");
	run("echo 1 > /proc/sys/net/ipv4/ip_no_pmtu_disc");
	run("echo 1 > /proc/sys/net/ipv4/conf/default/rp_filter; echo 2 > /proc/sys/net/ipv4/conf/lo/rp_filter");
	run("echo '0 500' > /proc/sys/net/ipv4/ping_group_range");
	run("echo 2001:db8::1 > /proc/sys/net/ipv6/conf/lo/stable_secret");
	if (system("command -v nft >/dev/null") == 0) {
		run("nft add table inet kept && nft add chain inet kept in "
		    "'{ type filter hook input priority 0; policy accept; }'");
		run("nft add set inet kept bad '{ type ipv4_addr; elements = { 10.66.0.1 }; }'");
		run("nft add rule inet kept in ip saddr @bad counter drop");
		run("nft add rule inet kept in meta skuid 7 tcp dport 4444 reject");
	}
}

/* Which shows the namespace of its mounting. */
static void mount_sysfs(void)
{
	MAKER_MUST(unshare(CLONE_NEWNS) == 0);
	MAKER_MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0);
	MAKER_MUST(mount("sysfs", "/sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0);
}

/* What a plain tree has not: sockets from outside, and of sorts that not every engine keeps. */
static struct {
	int outer, before, members[2], raws[2];
	uint16_t outer_port;
} more;

static void more_outside(const char *name)
{
	more.outer = listen_on(&more.outer_port);
	more.before = abstract(name, true);
	more.members[0] = member_of("239.77.5.1");
	more.raws[0] = raw_to_self();
}

static void more_inside(void)
{
	int discover = IP_PMTUDISC_WANT;

	more.members[1] = member_of("239.77.5.2");
	/* What a fresh socket outside has, but none in here. */
	MAKER_MUST(!setsockopt(more.members[1], SOL_IP, IP_MTU_DISCOVER, &discover, sizeof(discover)));
	more.raws[1] = raw_to_self();
}

static void more_verify(void)
{
	int discover;

	MAKER_SAME("namespace of the outer name", netns_of(more.before), netns_of(more.outer));
	MAKER_SAME("namespace of the outer listener", netns_of(more.outer), own_netns(getppid()));
	MAKER_SAME("outer member", is_member(more.members[0], "239.77.5.1"), 1);
	MAKER_SAME("inner member", is_member(more.members[1], "239.77.5.2"), 1);
	MAKER_MUST(!getsockopt(more.members[1], SOL_IP, IP_MTU_DISCOVER, &discover,
			       &(socklen_t){ sizeof(discover) }));
	MAKER_SAME("IP_MTU_DISCOVER of the inner member", discover, IP_PMTUDISC_WANT);
	MAKER_SAME("outer raw socket sends to its peer", send(more.raws[0], "x", 1, 0), 1);
	MAKER_SAME("inner raw socket sends to its peer", send(more.raws[1], "x", 1, 0), 1);
	if (connect_to(more.outer_port) >= 0)
		maker_fail("the outer listener can be reached from inside");
}

int main(int argc, char **argv)
{
	static char now[sizeof(was)];
	int inner, a, b, name, names[2];
	uint16_t inner_port;
	pid_t child;
	char text[32];

	maker_begin(argc, argv);
	snprintf(text, sizeof(text), "crk-%d", maker_number());
	if (!maker_is_plain())
		more_outside(text);
	MAKER_MUST(unshare(CLONE_NEWNET) == 0);
	if (!maker_is_plain())
		mount_sysfs();
	set_up_network();
	inner = listen_on(&inner_port);
	if (!maker_is_plain())
		more_inside();
	a = connect_to(inner_port);
	b = accept(inner, NULL, NULL);
	name = abstract(text, true);		/* the same name as outside */
	names[0] = abstract(text, false);
	MAKER_MUST(a >= 0 && b >= 0);
	MAKER_MUST(send(a, "queued", 6, 0) == 6);
	child = fork();
	if (!child) {
		for (;;)
			pause();
	}
	describe(was, sizeof(was));
	maker_ready();
	maker_wait();

	describe(now, sizeof(now));
	same_lines(now, was);
	MAKER_SAME("namespace of the child", own_netns(child), own_netns(getpid()));
	MAKER_SAME("namespace of the inner listener", netns_of(inner), own_netns(getpid()));
	MAKER_SAME("namespace of the inner name", netns_of(name), own_netns(getpid()));
	MAKER_MUST(recv(b, text, 6, 0) == 6 && !memcmp(text, "queued", 6));
	exchange(a, b, "to b");
	exchange(b, a, "to a");
	exchange(names[0], name, "by name");
	names[1] = connect_to(inner_port);
	MAKER_MUST(names[1] >= 0 && accept(inner, NULL, NULL) >= 0);
	if (!maker_is_plain())
		more_verify();
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	maker_ok();
}
