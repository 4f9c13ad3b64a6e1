/*
 * A network namespace with interfaces of its own: a veth pair, one end of it a port of a bridge, a
 * device that needs nothing; addresses, routes through gateways, permanent neighbours; a socket that
 * is bound to an interface.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>

#include "said_common.h"

static char was[1 << 16], now[1 << 16];

static bool can(const char *command)
{
	return system(command) == 0;
}

static void describe(char *out, size_t size)
{
	static const char *const commands[] = {
		/* Where duplicates were looked for is no longer told; lengths and modes are below. */
		"ip addr | sed 's/ nodad//; s/ qlen [0-9]*//; s/PROMISC,//; s/state UNKNOWN/state UP/'",
		"ip route show | sort", "ip -6 route show | sort", "ip route show table local | sort",
		"ip -6 route show table local | sort",
		/* Not when plain. Timers of the bridge run; its state is told up to a second later. */
		"ip -d link | sed -E 's/[a-z_]+_timer +[0-9.]+//g; s/state UNKNOWN/state UP/'",
		"ip route show", "ip -6 route show", "ip neigh show nud permanent", "ip neigh show proxy", "bridge -d link",
		"cat /proc/sys/net/ipv4/conf/a0/rp_filter /proc/sys/net/ipv6/conf/a0/accept_ra "
		"/proc/sys/net/ipv4/neigh/a0/gc_stale_time",
	};

	said(commands, maker_is_plain() ? 5 : sizeof(commands) / sizeof(commands[0]), out, size);
}

/* Some seconds may pass until the kernel tells a carrier of what it has just connected. */
static void settle(void)
{
	for (int try = 0; try < 1000 && can("ip link | grep -qE 'NO-CARRIER|LOWERLAYERDOWN'"); try++)
		usleep(10000);
}

int main(int argc, char **argv)
{
	char device[IF_NAMESIZE];
	socklen_t len = sizeof(device);
	int fd;

	maker_begin(argc, argv);
	MAKER_MUST(unshare(CLONE_NEWNET) == 0);
	/* Link-local addresses are there at once. */
	run("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
	run("command -v ip >/dev/null");
	if (!can("ip link add a0 index 40 address 02:00:00:00:00:40 mtu 1400 type veth peer name a1 index 7"))
		maker_skip("the kernel has no veth devices (CONFIG_VETH)");
	run("ip link add br0 index 50 address 02:00:00:00:00:50 type bridge ageing_time 4200 stp_state 0 "
	    "forward_delay 700");
	if (!maker_is_plain() &&
	    (can("ip link add plain0 type dummy 2>/dev/null") || can("ip link add plain0 type ifb")))
		run("ip link set plain0 up alias 'a plain one'");
	run("ip link set a1 master br0 && bridge link set dev a1 cost 77 learning off guard on");
	run("ip link set lo up && ip link set a0 up txqueuelen 77 && ip link set a1 up promisc on");
	run("ip link set br0 up");
	run("ip addr add 10.7.0.1/24 brd + dev br0 && ip addr add 10.7.0.2/24 dev a0 label a0:one");
	run("ip addr add fd00:7::2/64 dev a0 nodad && ip addr add fd00:7::1/64 dev br0 nodad");
	run("ip route add default via 10.7.0.1 dev a0 metric 3 && "
	    "ip route add 10.99.0.0/16 nexthop via 10.7.0.1 dev a0 weight 2 nexthop via 10.7.0.2 dev br0");
	run("ip route add 10.98.0.0/16 via 10.99.0.1 onlink dev a0");
	run("ip -6 route add fd00:77::/64 via fd00:7::9 dev a0");
	run("ip neigh add 10.7.0.77 lladdr 02:00:00:00:00:77 dev a0 nud permanent");
	run("ip neigh add proxy 10.7.0.78 dev br0");
	run("echo 2 > /proc/sys/net/ipv4/conf/a0/rp_filter; echo 0 > /proc/sys/net/ipv6/conf/a0/accept_ra;"
	    "echo 77 > /proc/sys/net/ipv4/neigh/a0/gc_stale_time");
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	MAKER_MUST(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "a0", 3) == 0);
	settle();
	describe(was, sizeof(was));
	maker_ready();
	maker_wait();

	/* Local routes come when a worker of the kernel is scheduled. */
	for (int try = 0; try < 40; try++) {
		settle();
		describe(now, sizeof(now));
		if (!strcmp(now, was))
			break;
	}
	same_lines(now, was);
	MAKER_MUST(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len) == 0);
	if (strcmp(device, "a0"))
		maker_fail("bound to '%s'", device);
	maker_ok();
}
