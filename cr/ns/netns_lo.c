/*
 * lo of a network namespace that is made again: until its IPv6 addresses can be used.
 *
 * An address cannot be bound to or connected to before a worker of the kernel has found that it is no duplicate
 * and has made its local route. On lo nobody is asked, so that is as soon as the worker is scheduled; but the
 * tree's sockets come right after.
 */
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "ns/netns.h"

#define LOOPBACK	1u	/* lo's index, in every namespace */
#define SETTLE_TRIES	500u	/* of 2 ms */

static bool wants_local_v6(const struct nlmsghdr *h)
{
	const struct nlattr *tb[RTA_MAX + 1];
	const struct rtmsg *rt = NLMSG_DATA(h);

	return h->nlmsg_type == RTM_NEWROUTE && netlink_msg_attrs(h, sizeof(*rt), tb, RTA_MAX) >= 0 &&
	       rt->rtm_family == AF_INET6 && rt->rtm_type == RTN_LOCAL && rt->rtm_dst_len == 128 &&
	       tb[RTA_DST] && nl_bytes(tb[RTA_DST]) == sizeof(struct in6_addr);
}

static bool has_route(const struct netns_messages *local, const struct nlattr *address)
{
	for (size_t i = 0; i < local->n; i++) {
		const struct nlattr *tb[RTA_MAX + 1];

		if (netlink_msg_attrs(local->msgs[i], sizeof(struct rtmsg), tb, RTA_MAX) >= 0 &&
		    !memcmp(nl_data(tb[RTA_DST]), nl_data(address), sizeof(struct in6_addr)))
			return true;
	}
	return false;
}

/* How many of lo's addresses nobody can bind to or reach yet. */
static int lo_unready(struct arena *a, struct netlink *nl)
{
	struct netns_messages addrs = { 0 }, local = { 0 };
	struct ifaddrmsg family = { .ifa_family = AF_INET6 };
	struct rtmsg rt = { .rtm_family = AF_INET6 };
	int n = 0, r = netns_messages_list(a, nl, RTM_GETADDR, &family, sizeof(family), NULL, &addrs);

	if (r >= 0)
		r = netns_messages_list(a, nl, RTM_GETROUTE, &rt, sizeof(rt), wants_local_v6, &local);
	for (size_t i = 0; r >= 0 && i < addrs.n; i++) {
		const struct ifaddrmsg *ifa = NLMSG_DATA(addrs.msgs[i]);
		const struct nlattr *tb[IFA_MAX + 1];

		const struct nlattr *own;

		if (netlink_msg_attrs(addrs.msgs[i], sizeof(*ifa), tb, IFA_MAX) < 0 || ifa->ifa_index != LOOPBACK)
			continue;
		/* With a peer IFA_ADDRESS is that one's. */
		own = tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS];
		if (own && nl_bytes(own) == sizeof(struct in6_addr))
			n += !has_route(&local, own);
	}
	/* A kernel without IPv6. */
	return r == -EOPNOTSUPP || r == -EAFNOSUPPORT ? 0 : r < 0 ? r : n;
}

int netns_lo_settle(struct arena *a, struct netlink *nl)
{
	struct ifreq lo = { .ifr_name = "lo" };
	int r = 0;

	if (ioctl(nl->fd, SIOCGIFFLAGS, &lo) < 0)
		return log_err(neg_errno(), "cannot ask for lo's state");
	for (unsigned int i = 0; lo.ifr_flags & IFF_UP && i < SETTLE_TRIES; i++) {
		r = lo_unready(a, nl);
		if (r <= 0)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	if (r > 0)
		log_warn("%d of lo's addresses cannot be used yet", r);
	return r < 0 ? log_err(r, "cannot list lo's addresses and their routes") : 0;
}
