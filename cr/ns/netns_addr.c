/*
 * Addresses, routes and policy rules of a network namespace → ifaddr-N, route-N, route6-N, rule-N,
 * in the form of `ip ... save`; permanent neighbours, which CRIU does not keep, in netns-N.
 *
 *   dump     RTM_GET*, what the kernel makes by itself left out
 *   restore  the same messages sent back, less what only the kernel may say
 *
 * A route needs the one its gateway is reached by: what fails is tried again while any succeeds.
 */
#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel/policy_rule.h"
#include "ns/netns.h"

/* ip-address(8), ip-route(8), ip-rule(8): "save" */
#define ADDR_MAGIC	0x47361222u
#define ROUTE_MAGIC	0x45311224u
#define RULE_MAGIC	0x71706986u

#define LOOPBACK	1u	/* lo's index, in every namespace */

static const uint8_t families[] = { AF_INET, AF_INET6 };

static bool is_absent(int r)
{
	return r == -EOPNOTSUPP || r == -EPROTONOSUPPORT || r == -EAFNOSUPPORT;
}

static uint32_t route_table(const struct rtmsg *rt, const struct nlattr *const *tb)
{
	return tb[RTA_TABLE] ? nl_u32(tb[RTA_TABLE]) : rt->rtm_table;
}

/* Cached ones, and the local table's that come with addresses. */
static bool wants_route(const struct nlmsghdr *h)
{
	const struct nlattr *tb[RTA_MAX + 1];
	const struct rtmsg *rt = NLMSG_DATA(h);

	if (h->nlmsg_type != RTM_NEWROUTE || netlink_msg_attrs(h, sizeof(*rt), tb, RTA_MAX) < 0)
		return false;
	if (rt->rtm_family != AF_INET && rt->rtm_family != AF_INET6)
		return false;
	if (rt->rtm_flags & RTM_F_CLONED)
		return false;
	return route_table(rt, tb) != RT_TABLE_LOCAL || rt->rtm_protocol != RTPROT_KERNEL;
}

static bool wants_neighbour(const struct nlmsghdr *h)
{
	const struct ndmsg *nd = NLMSG_DATA(h);

	return h->nlmsg_type == RTM_NEWNEIGH && h->nlmsg_len >= NLMSG_LENGTH(sizeof(*nd)) &&
	       (nd->ndm_family == AF_INET || nd->ndm_family == AF_INET6) &&
	       (nd->ndm_state & NUD_PERMANENT || nd->ndm_flags & NTF_PROXY);
}

static int addr_list(struct arena *a, struct netlink *nl, uint8_t family,
		     struct netns_messages *ret)
{
	struct ifaddrmsg ifa = { .ifa_family = family };

	return netns_messages_list(a, nl, RTM_GETADDR, &ifa, sizeof(ifa), NULL, ret);
}

static int rule_list(struct arena *a, struct netlink *nl, uint8_t family,
		     struct netns_messages *ret)
{
	struct fib_rule_hdr rule = { .family = family };
	int r = netns_messages_list(a, nl, RTM_GETRULE, &rule, sizeof(rule), NULL, ret);

	return is_absent(r) ? 0 : r;
}

static int route_list(struct arena *a, struct netlink *nl, uint8_t family,
		      struct netns_messages *ret)
{
	struct rtmsg rt = { .rtm_family = family };
	int r = netns_messages_list(a, nl, RTM_GETROUTE, &rt, sizeof(rt), wants_route, ret);

	return is_absent(r) ? 0 : r;
}

static int neighbour_list(struct arena *a, struct netlink *nl, uint8_t flags,
			  struct netns_messages *ret)
{
	struct ndmsg nd = { .ndm_family = AF_UNSPEC, .ndm_flags = flags };
	int r = netns_messages_list(a, nl, RTM_GETNEIGH, &nd, sizeof(nd), wants_neighbour, ret);

	return is_absent(r) ? 0 : r;
}

static int count(void *arg, const struct nlmsghdr *h _unused_)
{
	(*(unsigned int *)arg)++;
	return 0;
}

/* Things a namespace can hold that are not saved. */
static int check_none(struct netlink *nl, uint16_t type, const void *head, size_t head_bytes,
		      const char *what, const char *remedy)
{
	unsigned int n = 0;
	int r = netlink_list(nl, type, head, head_bytes, count, &n);

	if (r == -EINVAL || r == -ENOENT || is_absent(r))
		return 0;
	if (r < 0)
		return log_err(r, "cannot list the %s of the network namespace", what);
	return n ? log_obstacle(remedy, "its network namespace has %u %s", n, what) : 0;
}

static int check_xfrm(void)
{
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	int r = netlink_open(NETLINK_XFRM, &nl), ret;

	if (is_absent(r))
		return 0;
	if (r < 0)
		return log_err(r, "cannot ask for IPsec");
	/* Lists are asked for without a header: one would be read as attributes, with a line in the kernel's log. */
	ret = check_none(&nl, XFRM_MSG_GETPOLICY, "", 0, "IPsec policies", "stop the service before the upgrade");
	r = check_none(&nl, XFRM_MSG_GETSA, "", 0, "IPsec associations", "stop the service before the upgrade");
	return r < 0 ? r : ret;
}

int netns_addr_check(struct netlink *nl)
{
	struct nhmsg nh = { 0 };
	int ret = check_none(nl, RTM_GETNEXTHOP, &nh, sizeof(nh), "nexthop objects",
			     "let the routes name their gateways themselves");
	int r = check_xfrm();

	return r < 0 ? r : ret;
}

static int neighbours_dump(struct arena *a, struct netlink *nl, NetnsEntry *e)
{
	struct netns_messages m = { 0 };
	int r = neighbour_list(a, nl, 0, &m);

	if (r >= 0)
		r = neighbour_list(a, nl, NTF_PROXY, &m);
	if (r < 0)
		return log_err(r, "cannot list the neighbours of the network namespace");
	e->neighbours = arena_alloc(a, (m.n + 1) * sizeof(*e->neighbours));
	if (!e->neighbours)
		return -ENOMEM;
	for (size_t i = 0; i < m.n; i++)
		e->neighbours[i] = (ProtobufCBinaryData){ m.msgs[i]->nlmsg_len,
							  (uint8_t *)m.msgs[i] };
	e->n_neighbours = m.n;
	return 0;
}

int netns_addr_dump(struct dump_ctx *ctx, struct netlink *nl, NetnsEntry *e, uint32_t id)
{
	struct netns_messages addrs = { 0 }, routes = { 0 }, routes6 = { 0 }, rules = { 0 };
	struct arena *a = &ctx->arena;
	int r = addr_list(a, nl, AF_UNSPEC, &addrs);

	if (r >= 0)
		r = route_list(a, nl, AF_INET, &routes);
	if (r >= 0)
		r = route_list(a, nl, AF_INET6, &routes6);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(families); i++)
		r = rule_list(a, nl, families[i], &rules);
	if (r < 0)
		return log_err(r, "cannot list addresses and routes of the network namespace");
	r = netns_messages_write(ctx->store, &image_ifaddr, id, ADDR_MAGIC, &addrs);
	if (r >= 0)
		r = netns_messages_write(ctx->store, &image_route, id, ROUTE_MAGIC, &routes);
	if (r >= 0)
		r = netns_messages_write(ctx->store, &image_route6, id, ROUTE_MAGIC, &routes6);
	if (r >= 0)
		r = netns_messages_write(ctx->store, &image_rule, id, RULE_MAGIC, &rules);
	return r < 0 ? r : neighbours_dump(a, nl, e);
}

/* A copy to be changed and sent. */
static struct nlmsghdr *copy_of(struct arena *a, const struct nlmsghdr *h, uint16_t type,
				uint16_t flags)
{
	struct nlmsghdr *copy = arena_memdup(a, h, h->nlmsg_len);

	if (copy) {
		copy->nlmsg_type = type;
		copy->nlmsg_flags = flags;
	}
	return copy;
}

/* What came with the interfaces goes first: the image knows whether it should be there. */
static int addrs_flush(struct arena *a, struct netlink *nl)
{
	struct netns_messages m = { 0 };
	int r = addr_list(a, nl, AF_UNSPEC, &m);

	for (size_t i = 0; r >= 0 && i < m.n; i++) {
		struct nlmsghdr *h = copy_of(a, m.msgs[i], RTM_DELADDR, 0);

		r = h ? netlink_do(nl, h) : -ENOMEM;
		/* Some go with another. */
		if (r == -EADDRNOTAVAIL)
			r = 0;
	}
	return r < 0 ? log_err(r, "cannot remove the addresses of the new interfaces") : 0;
}

/* Nobody else can have it: no duplicate is looked for, it can be used at once. */
static int addr_add(struct arena *a, struct netlink *nl, const struct nlmsghdr *saved)
{
	struct nlmsghdr *h = copy_of(a, saved, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	const struct nlattr *tb[IFA_MAX + 1];
	struct ifaddrmsg *ifa;
	uint32_t flags;

	if (!h)
		return -ENOMEM;
	ifa = NLMSG_DATA(h);
	if (netlink_msg_attrs(h, sizeof(*ifa), tb, IFA_MAX) < 0)
		return -EBADMSG;
	ifa->ifa_flags &= (uint8_t)~IFA_F_TENTATIVE;
	if (tb[IFA_FLAGS] && nl_bytes(tb[IFA_FLAGS]) >= sizeof(flags)) {
		flags = nl_u32(tb[IFA_FLAGS]) & ~(uint32_t)(IFA_F_TENTATIVE | IFA_F_DADFAILED);
		if (ifa->ifa_family == AF_INET6 && ifa->ifa_index != LOOPBACK)
			flags |= IFA_F_NODAD;
		memcpy((char *)h + ((const char *)nl_data(tb[IFA_FLAGS]) - (const char *)h),
		       &flags, sizeof(flags));
	}
	return netlink_do(nl, h);
}

static int addrs_restore(struct arena *a, struct netlink *nl, const struct netns_messages *m)
{
	int r = addrs_flush(a, nl);

	for (size_t i = 0; r >= 0 && i < m->n; i++) {
		const struct ifaddrmsg *ifa = NLMSG_DATA(m->msgs[i]);

		r = addr_add(a, nl, m->msgs[i]);
		if (r < 0)
			return log_err(r, "cannot add address %zu (family %u) of interface %u%s", i,
				       ifa->ifa_family, ifa->ifa_index, nl->why);
	}
	return r;
}

/* Flags that tell a state; given back, some are refused. Also of a route's several next hops. */
static int route_clean(struct nlmsghdr *h)
{
	const struct nlattr *tb[RTA_MAX + 1];
	struct rtmsg *rt = NLMSG_DATA(h);
	size_t left;
	char *p;

	if (netlink_msg_attrs(h, sizeof(*rt), tb, RTA_MAX) < 0)
		return -EBADMSG;
	rt->rtm_flags &= RTNH_F_ONLINK | RTNH_F_PERVASIVE;
	if (!tb[RTA_MULTIPATH])
		return 0;
	p = (char *)h + ((const char *)nl_data(tb[RTA_MULTIPATH]) - (const char *)h);
	left = nl_bytes(tb[RTA_MULTIPATH]);
	while (left >= sizeof(struct rtnexthop)) {
		struct rtnexthop *nh = (void *)p;
		size_t step;

		if (nh->rtnh_len < sizeof(*nh) || nh->rtnh_len > left)
			return -EBADMSG;
		nh->rtnh_flags &= RTNH_F_ONLINK | RTNH_F_PERVASIVE;
		step = MIN((size_t)NLA_ALIGN(nh->rtnh_len), left);
		p += step;
		left -= step;
	}
	return 0;
}

/* 0: it is there. Several with one destination keep their order by NLM_F_APPEND. */
static int route_add(struct arena *a, struct netlink *nl, const struct nlmsghdr *saved)
{
	struct nlmsghdr *h = copy_of(a, saved, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND);
	int r = h ? route_clean(h) : -ENOMEM;

	if (r >= 0)
		r = netlink_do(nl, h);
	return r == -EEXIST ? 0 : r;
}

/* Those that came with the addresses: of equal ones the first counts, and the image has their order. */
static int routes_flush(struct arena *a, struct netlink *nl, uint8_t family)
{
	struct netns_messages m = { 0 };
	int r = route_list(a, nl, family, &m);

	for (size_t i = 0; r >= 0 && i < m.n; i++) {
		struct nlmsghdr *h = copy_of(a, m.msgs[i], RTM_DELROUTE, 0);

		r = h ? netlink_do(nl, h) : -ENOMEM;
		if (r == -ESRCH)
			r = 0;
	}
	return r < 0 ? log_err(r, "cannot remove the routes of the new interfaces%s", nl->why) : 0;
}

static int routes_restore(struct arena *a, struct netlink *nl, uint8_t family,
			  const struct netns_messages *m)
{
	bool *made = arena_alloc(a, m->n + 1);
	size_t left = m->n, before;
	int last = made ? routes_flush(a, nl, family) : -ENOMEM;

	if (last < 0)
		return last;
	do {
		before = left;
		for (size_t i = 0; i < m->n; i++) {
			int r = made[i] ? 0 : route_add(a, nl, m->msgs[i]);

			if (made[i])
				continue;
			made[i] = r >= 0;
			left -= made[i];
			last = r < 0 ? r : last;
		}
	} while (left && left < before);
	return left ? log_err(last, "cannot add %zu of %zu routes%s", left, m->n, nl->why) : 0;
}

static bool same_rule(const struct nlmsghdr *a, const struct nlmsghdr *b)
{
	return a->nlmsg_len == b->nlmsg_len &&
	       !memcmp(NLMSG_DATA(a), NLMSG_DATA(b), a->nlmsg_len - NLMSG_HDRLEN);
}

static bool is_among(const struct netns_messages *m, const struct nlmsghdr *h)
{
	for (size_t i = 0; i < m->n; i++)
		if (same_rule(m->msgs[i], h))
			return true;
	return false;
}

static int rules_restore_family(struct arena *a, struct netlink *nl, uint8_t family,
				const struct netns_messages *saved)
{
	struct netns_messages fresh = { 0 };
	bool any = false;
	int r = rule_list(a, nl, family, &fresh);

	for (size_t i = 0; i < saved->n; i++)
		any |= ((const struct fib_rule_hdr *)NLMSG_DATA(saved->msgs[i]))->family == family;
	/* `ip rule save` keeps those of IPv4 only. */
	if (r < 0 || !any)
		return r;
	for (size_t i = 0; r >= 0 && i < fresh.n; i++) {
		struct nlmsghdr *h = copy_of(a, fresh.msgs[i], RTM_DELRULE, 0);

		if (!is_among(saved, fresh.msgs[i]))
			r = h ? netlink_do(nl, h) : -ENOMEM;
	}
	for (size_t i = 0; r >= 0 && i < saved->n; i++) {
		struct netlink_msg m;

		if (((const struct fib_rule_hdr *)NLMSG_DATA(saved->msgs[i]))->family != family ||
		    is_among(&fresh, saved->msgs[i]))
			continue;
		r = policy_rule_check(saved->msgs[i]);
		if (r < 0)
			return r;
		policy_rule_to_add(saved->msgs[i], &m);
		r = netlink_send(nl, &m);
	}
	return r;
}

static int neighbours_restore(struct arena *a, struct netlink *nl, const NetnsEntry *e)
{
	for (size_t i = 0; i < e->n_neighbours; i++) {
		const ProtobufCBinaryData *d = &e->neighbours[i];
		struct nlmsghdr *h = arena_memdup(a, d->data, d->len);
		int r;

		if (!h)
			return -ENOMEM;
		if (d->len < sizeof(*h) || h->nlmsg_len != d->len || !wants_neighbour(h))
			return log_fail(-EBADMSG, "netns: neighbour %zu is malformed", i);
		h->nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE;
		r = netlink_do(nl, h);
		if (r < 0)
			return log_err(r, "cannot add permanent neighbour %zu%s", i, nl->why);
	}
	return 0;
}

int netns_addr_restore(struct restore_ctx *ctx, struct netlink *nl, const NetnsEntry *e,
		       uint32_t id)
{
	struct netns_messages addrs, routes, routes6, rules;
	struct arena *a = &ctx->arena;
	int r = netns_messages_read(ctx->store, a, &image_ifaddr, id, ADDR_MAGIC, RTM_NEWADDR,
				    sizeof(struct ifaddrmsg), &addrs);

	if (r >= 0)
		r = netns_messages_read(ctx->store, a, &image_route, id, ROUTE_MAGIC, RTM_NEWROUTE,
					sizeof(struct rtmsg), &routes);
	if (r >= 0)
		r = netns_messages_read(ctx->store, a, &image_route6, id, ROUTE_MAGIC,
					RTM_NEWROUTE, sizeof(struct rtmsg), &routes6);
	if (r >= 0)
		r = netns_messages_read(ctx->store, a, &image_rule, id, RULE_MAGIC, RTM_NEWRULE,
					sizeof(struct fib_rule_hdr), &rules);
	if (r >= 0)
		r = addrs_restore(a, nl, &addrs);
	if (r >= 0)
		r = netns_lo_settle(a, nl);
	if (r >= 0)
		r = routes_restore(a, nl, AF_INET, &routes);
	if (r >= 0)
		r = routes_restore(a, nl, AF_INET6, &routes6);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(families); i++) {
		r = rules_restore_family(a, nl, families[i], &rules);
		if (r < 0)
			return log_err(r, "cannot restore policy rules (family %u)%s", families[i],
				       nl->why);
	}
	return r < 0 ? r : neighbours_restore(a, nl, e);
}
