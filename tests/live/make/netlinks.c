/* Netlink sockets: port id, groups (also above 32), protocol, options; they still talk. */
#include "sock_common.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

static unsigned int port_of(int fd)
{
	struct sockaddr_nl a;
	socklen_t len = sizeof(a);

	MAKER_MUST(!getsockname(fd, (struct sockaddr *)&a, &len));
	return a.nl_pid;
}

int main(int argc, char **argv)
{
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	struct {
		struct nlmsghdr h;
		struct rtgenmsg g;
	} req = { { sizeof(req), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { AF_UNSPEC } };
	uint32_t groups[4] = { 0 };
	socklen_t len = sizeof(groups);
	char buf[32768];
	int route, uevent, fresh;
	unsigned int p, q;

	maker_begin(argc, argv);
	route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	MAKER_MUST(!bind(route, (struct sockaddr *)&a, sizeof(a)));
	sock_set(route, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_NSID);
	sock_set(route, SOL_NETLINK, NETLINK_EXT_ACK, !maker_is_plain());
	p = port_of(route);
	uevent = socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
	a.nl_pid = 123456;
	a.nl_groups = 0;
	MAKER_MUST(!bind(uevent, (struct sockaddr *)&a, sizeof(a)));
	q = port_of(uevent);
	fresh = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	MAKER_MUST(fresh >= 0);

	maker_ready();
	maker_wait();

	MAKER_SAME("port id", port_of(route), p);
	MAKER_SAME("chosen port id", port_of(uevent), q);
	MAKER_SAME("no port id", port_of(fresh), 0);
	MAKER_SAME("protocol", sock_int(uevent, SOL_SOCKET, SO_PROTOCOL), NETLINK_KOBJECT_UEVENT);
	MAKER_SAME("O_NONBLOCK", fcntl(uevent, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	MAKER_SAME("NETLINK_EXT_ACK", sock_int(route, SOL_NETLINK, NETLINK_EXT_ACK),
		   !maker_is_plain());
	MAKER_MUST(!getsockopt(route, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len));
	MAKER_SAME("groups", groups[0], 1u << (RTNLGRP_LINK - 1) | 1u << (RTNLGRP_NSID - 1));
	MAKER_MUST(send(route, &req, sizeof(req), 0) == sizeof(req));
	MAKER_MUST(recv(route, buf, sizeof(buf), 0) > 0);
	MAKER_SAME("answer", ((struct nlmsghdr *)buf)->nlmsg_type, RTM_NEWLINK);
	maker_ok();
}
