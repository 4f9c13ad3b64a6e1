/*
 * Links, addresses, routes as they are now (rtnetlink(7)), for the new kernel's early side,
 * which sets them up before any network service runs.
 *
 * Carried are links with a device behind them, and in our own initramfs, which has the modules, bonds, VLANs and
 * bridges over those (netstack.c). Others (tunnels, what containers have) are the work of the machine's own services.
 * Their addresses are not carried; the upgrade warns, and refuses services with sockets on them (check_world.c):
 * connections would not find a route at the restore. lo is there always, but not all of its addresses.
 */
#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <string.h>

#include "crkexec/machine.h"
#include "crkexec/upgrade.h"
#include "util/io.h"
#include "util/log.h"

struct netstate {
	struct upgrade *u;
	struct manifest *m;
	struct nl_sock *sock;
	struct nl_cache *links, *addrs, *routes;
	struct strv names;	/* of the links that are carried */
	int r;
};

static void addr_text(struct nl_addr *a, char *buf, size_t n)
{
	nl_addr2str(a, buf, n);
}

static void read_link(struct nl_object *o, void *arg)
{
	struct netstate *s = arg;
	struct rtnl_link *l = (struct rtnl_link *)o;
	const char *name = rtnl_link_get_name(l);
	struct nl_addr *mac = rtnl_link_get_addr(l);
	struct manifest_link *v;
	char text[64];

	/* A type (bridge, bond, vlan, veth, tun ...) means there is no device behind it. */
	if (s->r < 0 || !name || !mac || rtnl_link_get_type(l) ||
	    (rtnl_link_get_flags(l) & IFF_LOOPBACK) || !(rtnl_link_get_flags(l) & IFF_UP))
		return;
	v = reallocarray(s->m->links, s->m->n_links + 1, sizeof(*v));
	if (!v) {
		s->r = -ENOMEM;
		return;
	}
	s->m->links = v;
	v += s->m->n_links;
	addr_text(mac, text, sizeof(text));
	*v = (struct manifest_link){ .name = strdup(name), .mac = strdup(text),
				     .mtu = rtnl_link_get_mtu(l) };
	s->r = v->name && v->mac ? strv_add(&s->names, name) : -ENOMEM;
	s->m->n_links++;
}

static struct manifest_link *find_link(struct netstate *s, const char *name)
{
	for (size_t i = 0; i < s->m->n_links; i++)
		if (!strcmp(s->m->links[i].name, name))
			return &s->m->links[i];
	return NULL;
}

/* What each interface has by itself (fe80::) is worth no words. */
static int add_late(struct netstate *s, struct rtnl_addr *a, const char *text, const char *name)
{
	if (rtnl_addr_get_scope(a) != RT_SCOPE_LINK)
		upgrade_warn(s->u, "address %s of %s is set up only by the new boot's network service", text, name);
	return strv_add_take(&s->u->late_addresses, str_fmt("%.*s %s", (int)strcspn(text, "/"), text, name));
}

/* 127.0.0.0/8 and ::1 come with the kernel. */
static bool is_loopback(const struct nl_addr *a)
{
	const uint8_t *b = nl_addr_get_binary_addr(a);

	return nl_addr_get_family(a) == AF_INET ? b[0] == 127 : IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)b);
}

static int add_address(struct manifest_address **list, size_t *n, struct rtnl_addr *a, const char *text)
{
	struct manifest_address *v = reallocarray(*list, *n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	*list = v;
	v += (*n)++;
	*v = (struct manifest_address){ .address = strdup(text), .family = rtnl_addr_get_family(a),
					.flags = rtnl_addr_get_flags(a),
					.scope = (uint32_t)rtnl_addr_get_scope(a) };
	return v->address ? 0 : -ENOMEM;
}

static void read_addr(struct nl_object *o, void *arg)
{
	struct netstate *s = arg;
	struct rtnl_addr *a = (struct rtnl_addr *)o;
	struct nl_addr *local = rtnl_addr_get_local(a);
	struct manifest_link *l;
	char name[64], text[INET6_ADDRSTRLEN + 8];

	if (s->r < 0 || !local ||
	    !rtnl_link_i2name(s->links, rtnl_addr_get_ifindex(a), name, sizeof(name)))
		return;
	l = find_link(s, name);
	nl_addr_set_prefixlen(local, rtnl_addr_get_prefixlen(a));
	addr_text(local, text, sizeof(text));
	if (l)
		s->r = add_address(&l->addresses, &l->n_addresses, a, text);
	else if (strcmp(name, "lo"))
		s->r = add_late(s, a, text, name);
	else if (!is_loopback(local))
		s->r = add_address(&s->m->lo_addresses, &s->m->n_lo_addresses, a, text);
}

static struct nl_addr *gateway_of(struct rtnl_nexthop *hop)
{
	struct nl_addr *gateway = rtnl_route_nh_get_gateway(hop);

	/* RTA_VIA: of another family than the route. */
	return gateway ? gateway : rtnl_route_nh_get_via(hop);
}

static char *gateway_text(struct nl_addr *via)
{
	char text[INET6_ADDRSTRLEN + 8];

	if (!via)
		return NULL;
	addr_text(via, text, sizeof(text));
	return strdup(text);
}

/* The name of a congestion control algorithm is no number, and only a preference. */
static int add_metrics(struct manifest_route *v, struct rtnl_route *rt)
{
	uint32_t value;

	v->metrics = calloc(RTAX_MAX, sizeof(*v->metrics));
	if (!v->metrics)
		return -ENOMEM;
	for (int type = 1; type <= RTAX_MAX; type++)
		if (type != RTAX_CC_ALGO && rtnl_route_get_metric(rt, type, &value) == 0)
			v->metrics[v->n_metrics++] = (struct manifest_metric){ (uint32_t)type, value };
	return 0;
}

/* "default" for the empty prefix; addresses of whole length carry no "/32". */
static char *dst_text(struct nl_addr *dst)
{
	char text[INET6_ADDRSTRLEN + 8];

	if (!dst || (nl_addr_get_prefixlen(dst) == 0 && nl_addr_iszero(dst)))
		return strdup("default");
	addr_text(dst, text, sizeof(text));
	return strdup(text);
}

static int add_route(struct netstate *s, struct rtnl_route *rt, struct rtnl_nexthop *hop,
		     const char *dev)
{
	struct manifest_route *v = reallocarray(s->m->routes, s->m->n_routes + 1, sizeof(*v));
	struct nl_addr *src = rtnl_route_get_pref_src(rt), *via = gateway_of(hop);
	char text[INET6_ADDRSTRLEN + 8];

	if (!v)
		return -ENOMEM;
	s->m->routes = v;
	v += s->m->n_routes++;
	*v = (struct manifest_route){
		.dst = dst_text(rtnl_route_get_dst(rt)),
		.via = gateway_text(via),
		.dev = strdup(dev),
		.family = rtnl_route_get_family(rt),
		.table = rtnl_route_get_table(rt),
		.metric = rtnl_route_get_priority(rt),
		.scope = rtnl_route_get_scope(rt),
		.protocol = rtnl_route_get_protocol(rt),
		.type = rtnl_route_get_type(rt),
		/* What a program may ask for; the others are states. */
		.flags = rtnl_route_nh_get_flags(hop) & RTNH_F_ONLINK,
	};
	if (src) {
		addr_text(src, text, sizeof(text));
		v->src = strdup(text);
	}
	return v->dst && v->dev && (!src || v->src) && (!via || v->via) ? add_metrics(v, rt) : -ENOMEM;
}

/* What the kernel makes with an address comes with it; on lo as in the local table. */
static bool is_wanted(struct rtnl_route *rt, const char *dev)
{
	bool is_kernels = rtnl_route_get_protocol(rt) == RTPROT_KERNEL;

	switch (rtnl_route_get_type(rt)) {
	case RTN_UNICAST:
		return rtnl_route_get_table(rt) != RT_TABLE_LOCAL && !(is_kernels && !strcmp(dev, "lo"));
	case RTN_LOCAL:
		return !is_kernels;
	}
	return false;
}

static void read_route(struct nl_object *o, void *arg)
{
	struct netstate *s = arg;
	struct rtnl_route *rt = (struct rtnl_route *)o;
	struct rtnl_nexthop *hop;
	char name[64];

	if (s->r < 0 || (rtnl_route_get_flags(rt) & RTM_F_CLONED) ||
	    (rtnl_route_get_family(rt) != AF_INET && rtnl_route_get_family(rt) != AF_INET6) ||
	    rtnl_route_get_nnexthops(rt) < 1)
		return;
	hop = rtnl_route_nexthop_n(rt, 0);
	if (!hop || !rtnl_link_i2name(s->links, rtnl_route_nh_get_ifindex(hop), name,
				      sizeof(name)) || !strv_has(&s->names, name) || !is_wanted(rt, name))
		return;
	if (rtnl_route_get_nnexthops(rt) > 1)
		upgrade_warn(s->u, "a route over several gateways: only the one over %s is set up "
			     "before the network service runs", name);
	s->r = add_route(s, rt, hop, name);
}

/* A route needs its gateway's own route first. */
static int compare_routes(const void *a, const void *b)
{
	const struct manifest_route *x = a, *y = b;

	return (x->via != NULL) - (y->via != NULL);
}

static int add_stack(struct netstate *s)
{
	size_t devices = s->m->n_links;
	int r = netstack_read(s->m);

	for (size_t i = devices; i < s->m->n_links && r == 0; i++)
		r = strv_add(&s->names, s->m->links[i].name);
	return r;
}

static void note_late(struct nl_object *o, void *arg)
{
	const char *name = rtnl_link_get_name((struct rtnl_link *)o);
	struct netstate *s = arg;

	if (s->r == 0 && name && !strv_has(&s->names, name))
		s->r = strv_add(&s->u->late_interfaces, name);
}

static int netstate_open(struct netstate *s)
{
	int e;

	s->sock = nl_socket_alloc();
	if (!s->sock)
		return -ENOMEM;
	e = nl_connect(s->sock, NETLINK_ROUTE);
	if (e == 0)
		e = rtnl_link_alloc_cache(s->sock, AF_UNSPEC, &s->links);
	if (e == 0)
		e = rtnl_addr_alloc_cache(s->sock, &s->addrs);
	if (e == 0)
		e = rtnl_route_alloc_cache(s->sock, AF_UNSPEC, 0, &s->routes);
	return e < 0 ? log_fail(-EIO, "cannot read the network's state: %s", nl_geterror(e)) : 0;
}

int netstate_read(struct upgrade *u, struct manifest *m)
{
	struct netstate s = { .u = u, .m = m };

	s.r = netstate_open(&s);
	if (s.r == 0)
		nl_cache_foreach(s.links, read_link, &s);
	if (s.r == 0 && u->target.own_initramfs)
		s.r = add_stack(&s);
	if (s.r == 0)
		nl_cache_foreach(s.addrs, read_addr, &s);
	if (s.r == 0)
		s.r = strv_add(&s.names, "lo");
	if (s.r == 0)
		nl_cache_foreach(s.links, note_late, &s);
	if (s.r == 0)
		nl_cache_foreach(s.routes, read_route, &s);
	if (s.r == 0)
		s.r = policy_rules_read(m);
	if (s.r == 0 && m->n_routes)
		qsort(m->routes, m->n_routes, sizeof(*m->routes), compare_routes);
	nl_cache_free(s.routes);
	nl_cache_free(s.addrs);
	nl_cache_free(s.links);
	nl_socket_free(s.sock);
	strv_done(&s.names);
	return s.r;
}
