/*
 * One link, address or route at a time, through libnl. NLE_* codes become errno where the
 * difference matters; their texts go to the log here.
 *
 * The traps: a name can be changed before an interface is up, a broadcast address only given
 * together with its address; an IPv6 address is unusable for a second unless duplicate
 * detection is left out (it was ours a moment ago).
 */
#include "initramfs/early_net.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netlink/errno.h>
#include <netlink/route/addr.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <string.h>

#include "util/io.h"
#include "util/log.h"

/* What a program may ask for; the others are states. */
#define ADDRESS_FLAGS	(IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE)
#define NEXTHOP_FLAGS	RTNH_F_ONLINK

static void link_putp(struct rtnl_link **l)
{
	if (*l)
		rtnl_link_put(*l);
}

static void addr_putp(struct nl_addr **a)
{
	if (*a)
		nl_addr_put(*a);
}

struct nl_sock *net_open(void)
{
	struct nl_sock *sk = nl_socket_alloc();

	if (sk && nl_connect(sk, NETLINK_ROUTE) < 0) {
		nl_socket_free(sk);
		return NULL;
	}
	return sk;
}

int net_find_mac(struct nl_sock *sk, const char *mac)
{
	_cleanup_(addr_putp) struct nl_addr *want = NULL;
	struct nl_cache *cache;
	int found = 0;

	if (nl_addr_parse(mac, AF_LLC, &want) < 0)
		return log_fail(-EBADMSG, "%s is no hardware address", mac);
	if (rtnl_link_alloc_cache(sk, AF_UNSPEC, &cache) < 0)
		return log_fail(-EIO, "cannot list network interfaces");
	for (struct nl_object *o = nl_cache_get_first(cache); o && !found;
	     o = nl_cache_get_next(o)) {
		struct rtnl_link *l = (struct rtnl_link *)o;
		struct nl_addr *has = rtnl_link_get_addr(l);

		/* VLANs and bridges show the address of what they stand on. */
		if (has && !rtnl_link_get_type(l) && rtnl_link_get_arptype(l) == ARPHRD_ETHER &&
		    nl_addr_get_len(has) == nl_addr_get_len(want) &&
		    !memcmp(nl_addr_get_binary_addr(has), nl_addr_get_binary_addr(want),
			    nl_addr_get_len(want)))
			found = rtnl_link_get_ifindex(l);
	}
	nl_cache_free(cache);
	return found;
}

static int change(struct nl_sock *sk, int ifindex, struct rtnl_link *to)
{
	_cleanup_(link_putp) struct rtnl_link *now = NULL;
	int r = rtnl_link_get_kernel(sk, ifindex, NULL, &now);

	if (r == 0)
		r = rtnl_link_change(sk, now, to, 0);
	if (r < 0)
		return log_fail(-EIO, "cannot change interface %d: %s", ifindex, nl_geterror(r));
	return 0;
}

static int rename_to(struct nl_sock *sk, int ifindex, const char *name)
{
	_cleanup_(link_putp) struct rtnl_link *to = rtnl_link_alloc();

	if (!to)
		return -ENOMEM;
	rtnl_link_set_name(to, name);
	return change(sk, ifindex, to);
}

int net_set_name(struct nl_sock *sk, int ifindex, const char *name)
{
	char now[IF_NAMESIZE], aside[IF_NAMESIZE];
	unsigned int holder;

	if (strlen(name) >= IF_NAMESIZE)
		return log_fail(-EBADMSG, "interface name %s is too long", name);
	if (if_indextoname(ifindex, now) && !strcmp(now, name))
		return 0;
	/* Names may have to change places; the other one gets its own in its turn, or by udev. */
	holder = if_nametoindex(name);
	if (holder) {
		int r;

		snprintf(aside, sizeof(aside), "crk%u", holder);
		r = rename_to(sk, holder, aside);
		if (r < 0)
			return r;
	}
	return rename_to(sk, ifindex, name);
}

int net_up(struct nl_sock *sk, int ifindex, uint32_t mtu)
{
	_cleanup_(link_putp) struct rtnl_link *to = rtnl_link_alloc();
	char name[IF_NAMESIZE];
	int r;

	if (!to || !if_indextoname(ifindex, name))
		return to ? neg_errno() : -ENOMEM;
	/* The link-local address that the kernel makes itself must be usable at once, too. */
	r = write_filef("0", "/proc/sys/net/ipv6/conf/%s/dad_transmits", name);
	if (mtu)
		rtnl_link_set_mtu(to, mtu);
	rtnl_link_set_flags(to, IFF_UP);
	if (change(sk, ifindex, to) < 0)
		return -EIO;
	if (r == 0)
		r = write_filef("1", "/proc/sys/net/ipv6/conf/%s/dad_transmits", name);
	return r == -ENOENT ? 0 : r;
}

/* As ip-address(8)'s "brd +" and networkd: none for /31 and /32. */
static struct nl_addr *broadcast_of(const struct nl_addr *a)
{
	unsigned int prefix = nl_addr_get_prefixlen(a);
	struct in_addr in;

	if (nl_addr_get_family(a) != AF_INET || prefix > 30 || nl_addr_get_len(a) != 4)
		return NULL;
	memcpy(&in, nl_addr_get_binary_addr(a), sizeof(in));
	in.s_addr |= htonl(prefix ? (1u << (32 - prefix)) - 1 : UINT32_MAX);
	return nl_addr_build(AF_INET, &in, sizeof(in));
}

int net_add_address(struct nl_sock *sk, int ifindex, const struct manifest_address *a)
{
	_cleanup_(addr_putp) struct nl_addr *local = NULL, *broadcast = NULL;
	struct rtnl_addr *addr = NULL;
	int r;

	if (nl_addr_parse(a->address, a->family, &local) < 0)
		return log_fail(-EBADMSG, "%s is no address", a->address);
	addr = rtnl_addr_alloc();
	if (!addr)
		return -ENOMEM;
	rtnl_addr_set_ifindex(addr, ifindex);
	rtnl_addr_set_family(addr, a->family);
	rtnl_addr_set_local(addr, local);
	rtnl_addr_set_prefixlen(addr, nl_addr_get_prefixlen(local));
	rtnl_addr_set_scope(addr, a->scope);
	rtnl_addr_set_flags(addr, (a->flags & ADDRESS_FLAGS) |
				  (a->family == AF_INET6 ? IFA_F_NODAD : 0));
	/* On lo all of a prefix is local. */
	broadcast = ifindex == NET_LO ? NULL : broadcast_of(local);
	if (broadcast)
		rtnl_addr_set_broadcast(addr, broadcast);
	r = rtnl_addr_add(sk, addr, NLM_F_REPLACE);
	rtnl_addr_put(addr);
	if (r == -NLE_EXIST)
		return 0;
	return r < 0 ? log_fail(-EIO, "cannot add address %s: %s", a->address, nl_geterror(r)) : 0;
}

static int add_nexthop(struct rtnl_route *rt, const struct manifest_route *route, struct nl_addr *via, int ifindex)
{
	struct rtnl_nexthop *nh = rtnl_route_nh_alloc();
	int r = 0;

	if (!nh)
		return -ENOMEM;
	rtnl_route_nh_set_ifindex(nh, ifindex);
	if (via && nl_addr_get_family(via) == route->family)
		rtnl_route_nh_set_gateway(nh, via);
	else if (via)
		r = rtnl_route_nh_set_via(nh, via);
	/* The trap: of a single nexthop's flags libnl sends those of the route. */
	rtnl_route_nh_set_flags(nh, route->flags & NEXTHOP_FLAGS);
	rtnl_route_set_flags(rt, route->flags & NEXTHOP_FLAGS);
	rtnl_route_add_nexthop(rt, nh);
	return r < 0 ? -ENOMEM : 0;
}

static int fill_route(struct rtnl_route *rt, const struct manifest_route *route, int ifindex)
{
	_cleanup_(addr_putp) struct nl_addr *dst = NULL, *via = NULL, *src = NULL;

	if (nl_addr_parse(route->dst, route->family, &dst) < 0 ||
	    (route->via && nl_addr_parse(route->via, AF_UNSPEC, &via) < 0) ||
	    (route->src && nl_addr_parse(route->src, route->family, &src) < 0))
		return log_fail(-EBADMSG, "route %s: an address is none", route->dst);
	rtnl_route_set_family(rt, route->family);
	rtnl_route_set_dst(rt, dst);
	rtnl_route_set_table(rt, route->table);
	rtnl_route_set_priority(rt, route->metric);
	rtnl_route_set_scope(rt, route->scope);
	rtnl_route_set_protocol(rt, route->protocol);
	rtnl_route_set_type(rt, route->type);
	if (src)
		rtnl_route_set_pref_src(rt, src);
	for (size_t i = 0; i < route->n_metrics; i++)
		if (rtnl_route_set_metric(rt, (int)MIN(route->metrics[i].type, RTAX_MAX + 1u),
					  route->metrics[i].value) < 0)
			return log_fail(-EBADMSG, "route %s: a metric is none", route->dst);
	/* Else it is a blackhole or the like. */
	return ifindex || via ? add_nexthop(rt, route, via, ifindex) : 0;
}

int net_add_route(struct nl_sock *sk, const struct manifest_route *route, int ifindex)
{
	struct rtnl_route *rt;
	int r;

	/*
	 * The kernel makes these itself, with the address. The trap: a link-local one comes when the link has its
	 * carrier, and its route beside ours.
	 */
	if (route->protocol == RTPROT_KERNEL && (route->table == RT_TABLE_LOCAL || str_starts(route->dst, "fe80::/")))
		return 0;
	rt = rtnl_route_alloc();
	if (!rt)
		return -ENOMEM;
	r = fill_route(rt, route, ifindex);
	if (r == 0) {
		r = rtnl_route_add(sk, rt, NLM_F_CREATE | NLM_F_REPLACE);
		if (r < 0 && r != -NLE_EXIST)
			r = log_fail(-EIO, "cannot add route %s: %s", route->dst, nl_geterror(r));
		else
			r = 0;
	}
	rtnl_route_put(rt);
	return r;
}
