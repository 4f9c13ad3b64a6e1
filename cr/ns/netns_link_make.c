/*
 * netdev-N.img → interfaces: RTM_NEWLINK with the saved index, both ends of a veth pair in one call;
 * bridge ports when all are there. Up comes later: settings and packet filter rules first.
 *
 * A veth whose other end was outside comes back with that end in the host's namespace, under the name
 * that --external veth[INSIDE]:OUTSIDE gives it.
 */
#include <net/if.h>	/* before the kernel's, which know it */

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>

#include "kernel/link_settings.h"
#include "ns/netns.h"

#define LINKS_MAX	65536u
#define MTU_MAX		0x7fffffffu
#define FLAGS_KEPT	(IFF_NOARP | IFF_MULTICAST | IFF_ALLMULTI | IFF_PROMISC)

/* Kinds that need nothing but to be made. CRIU has no number for them: EXTLINK, and our field. */
static const char *const plain_kinds[] = { "dummy", "ifb" };

bool netns_link_is_plain(const char *kind)
{
	for (size_t i = 0; kind && i < ARRAY_SIZE(plain_kinds); i++)
		if (!strcmp(kind, plain_kinds[i]))
			return true;
	return false;
}

const char *netns_veth_outside(const struct cr_opts *o, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < o->n_externals; i++) {
		const char *key = o->externals[i].key;

		if (str_starts(key, "veth[") && !strncmp(key + 5, name, n) &&
		    str_starts(key + 5 + n, "]:"))
			return key + 5 + n + 2;
	}
	return NULL;
}

static const NetDeviceEntry *by_index(const struct netns_links *l, uint32_t ifindex)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->links[i]->ifindex == ifindex)
			return l->links[i];
	return NULL;
}

/* The other end of a pair is in the same namespace. */
static bool peer_is_inside(const struct netns_links *l, const NetDeviceEntry *e)
{
	return e->type == ND_TYPE__VETH && e->has_peer_nsid && e->peer_nsid == l->ns_id;
}

/* dev_valid_name() */
static bool name_is_sane(const char *name)
{
	size_t n = strlen(name);

	return n && n < IF_NAMESIZE && strcmp(name, ".") && strcmp(name, "..") &&
	       !strpbrk(name, "/: \t\n\v\f\r");
}

static int check_entry(const struct netns_links *l, const NetDeviceEntry *e)
{
	if (!name_is_sane(e->name) || !e->ifindex || e->ifindex > INT32_MAX || e->mtu > MTU_MAX ||
	    e->address.len > 32 || by_index(l, e->ifindex))
		return log_fail(-EBADMSG, "netdev: interface %u is malformed or there twice",
				e->ifindex);
	if ((e->type == ND_TYPE__LOOPBACK) != (e->ifindex == 1))
		return log_fail(-EBADMSG, "netdev: interface %u (%s) cannot be the loopback one, or must be",
				e->ifindex, e->name);
	switch (e->type) {
	case ND_TYPE__LOOPBACK:
	case ND_TYPE__BRIDGE:
	case ND_TYPE__VETH:
		return 0;
	case ND_TYPE__EXTLINK:
		if (netns_link_is_plain(e->kind))
			return 0;
		break;
	default:
		break;
	}
	return log_fail(-EOPNOTSUPP, "interface %s of type %d cannot be made", e->name, (int)e->type);
}

static int check_relations(const struct netns_links *l, const NetDeviceEntry *e)
{
	const NetDeviceEntry *master = e->has_master ? by_index(l, e->master) : NULL;
	const NetDeviceEntry *peer;

	if (e->has_master && e->master && (!master || master->type != ND_TYPE__BRIDGE))
		return log_fail(-EBADMSG, "netdev: interface %s is a port of %u, which is no bridge",
				e->name, e->master);
	if (!peer_is_inside(l, e))
		return 0;
	peer = by_index(l, e->peer_ifindex);
	if (!peer || !peer_is_inside(l, peer) || peer == e ||
	    peer->peer_ifindex != e->ifindex)
		return log_fail(-EBADMSG, "netdev: veth %s has no other end %u", e->name,
				e->peer_ifindex);
	return 0;
}

int netns_link_read(struct restore_ctx *ctx, uint32_t id, struct netns_links *ret)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	NetDeviceEntry *e, **slot;
	int r = image_open(ctx->store, &image_netdev, &rd, id);

	*ret = (struct netns_links){ .ns_id = id };
	if (r < 0)
		return log_err(r, "netdev-%u.img", id);
	while ((r = image_get(&rd, &ctx->arena, net_device_entry, &e)) > 0) {
		r = ret->n < LINKS_MAX ? check_entry(ret, e) : -E2BIG;
		if (r < 0)
			return r;
		slot = ARENA_PUSH(&ctx->arena, ret->links, ret->n);
		if (!slot)
			return -ENOMEM;
		*slot = e;
	}
	for (size_t i = 0; r >= 0 && i < ret->n; i++)
		r = check_relations(ret, ret->links[i]);
	return r;
}

static void put_common(struct netlink_msg *m, const NetDeviceEntry *e)
{
	netlink_put(m, IFLA_IFNAME, e->name, strlen(e->name) + 1);
	netlink_put_u32(m, IFLA_MTU, e->mtu);
	if (e->has_address)
		netlink_put(m, IFLA_ADDRESS, e->address.data, e->address.len);
	if (e->has_tx_queue_len)
		netlink_put_u32(m, IFLA_TXQLEN, e->tx_queue_len);
}

/* "OUTSIDE" or "OUTSIDE@BRIDGE" */
static int outside_name(const char *text, char name[IF_NAMESIZE], const char **ret_bridge)
{
	size_t n = strcspn(text, "@");

	if (n >= IF_NAMESIZE)
		return -EINVAL;
	memcpy(name, text, n);
	name[n] = '\0';
	*ret_bridge = text[n] ? text + n + 1 : NULL;
	return name_is_sane(name) ? 0 : -EINVAL;
}

static int put_veth(struct restore_ctx *ctx, struct netlink_msg *m, const struct netns_links *l,
		    const NetDeviceEntry *e)
{
	const NetDeviceEntry *peer = peer_is_inside(l, e) ? by_index(l, e->peer_ifindex) : NULL;
	struct ifinfomsg ifi = { .ifi_index = peer ? (int)peer->ifindex : 0 };
	const char *outside = peer ? NULL : netns_veth_outside(ctx->opts, e->name), *bridge;
	size_t data = netlink_nest(m, IFLA_INFO_DATA), nest;
	char name[IF_NAMESIZE];

	if (!peer && (!outside || outside_name(outside, name, &bridge) < 0))
		return log_fail(-EINVAL, "interface %s is a veth whose other end was outside: give --external 'veth[%s]:NAME-OUTSIDE'",
				e->name, e->name);
	nest = netlink_nest(m, VETH_INFO_PEER);
	netlink_put_raw(m, &ifi, sizeof(ifi));
	if (peer) {
		put_common(m, peer);
	} else {
		netlink_put(m, IFLA_IFNAME, name, strlen(name) + 1);
		netlink_put_u32(m, IFLA_NET_NS_FD, (uint32_t)ns_restore_home_net(ctx));
	}
	netlink_nest_end(m, nest);
	netlink_nest_end(m, data);
	return 0;
}

static const char *kind_name(const NetDeviceEntry *e)
{
	return e->type == ND_TYPE__VETH ? "veth" : e->type == ND_TYPE__BRIDGE ? "bridge" : e->kind;
}

/* Of what the kernel tells of a bridge's port, what it also takes. */
static const uint16_t port_settings[] = {
	IFLA_BRPORT_PRIORITY, IFLA_BRPORT_COST, IFLA_BRPORT_MODE, IFLA_BRPORT_GUARD,
	IFLA_BRPORT_PROTECT, IFLA_BRPORT_FAST_LEAVE, IFLA_BRPORT_LEARNING,
	IFLA_BRPORT_UNICAST_FLOOD, IFLA_BRPORT_PROXYARP, IFLA_BRPORT_PROXYARP_WIFI,
	IFLA_BRPORT_MULTICAST_ROUTER, IFLA_BRPORT_MCAST_FLOOD, IFLA_BRPORT_MCAST_TO_UCAST,
	IFLA_BRPORT_BCAST_FLOOD, IFLA_BRPORT_GROUP_FWD_MASK, IFLA_BRPORT_NEIGH_SUPPRESS,
	IFLA_BRPORT_ISOLATED, IFLA_BRPORT_LOCKED, 0
};

static int put_settings(struct netlink_msg *m, uint16_t nest_type, const ProtobufCBinaryData *d,
			const uint16_t *types)
{
	const struct nlattr *tb[LINK_SETTING_MAX + 1];
	size_t nest = netlink_nest(m, nest_type);

	if (netlink_attrs(d->data, d->len, tb, LINK_SETTING_MAX) < 0)
		return log_fail(-EBADMSG, "netdev: settings of a bridge are malformed");
	netlink_put_listed(m, tb, types);
	netlink_nest_end(m, nest);
	return 0;
}

static int make(struct restore_ctx *ctx, struct netlink *nl, const struct netns_links *l,
		const NetDeviceEntry *e)
{
	struct ifinfomsg ifi = { .ifi_index = (int)e->ifindex };
	bool exists = e->type == ND_TYPE__LOOPBACK;
	struct netlink_msg m;
	size_t info;
	int r = 0;

	netlink_begin(&m, RTM_NEWLINK, exists ? 0 : NLM_F_CREATE | NLM_F_EXCL, &ifi, sizeof(ifi));
	put_common(&m, e);
	if (!exists) {
		const char *kind = kind_name(e);

		info = netlink_nest(&m, IFLA_LINKINFO);
		netlink_put(&m, IFLA_INFO_KIND, kind, strlen(kind));
		if (e->type == ND_TYPE__VETH)
			r = put_veth(ctx, &m, l, e);
		else if (e->has_kind_data)
			r = put_settings(&m, IFLA_INFO_DATA, &e->kind_data, link_settings_bridge);
		netlink_nest_end(&m, info);
	}
	if (r < 0)
		return r;
	r = netlink_send(nl, &m);
	return r < 0 ? log_err(r, "cannot make interface %s (%s)%s", e->name,
			       exists ? "loopback" : kind_name(e), nl->why) : 0;
}

static int port_set(struct netlink *nl, const NetDeviceEntry *e)
{
	struct ifinfomsg ifi = { .ifi_index = (int)e->ifindex };
	struct netlink_msg m;
	size_t info;
	int r;

	netlink_begin(&m, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
	info = netlink_nest(&m, IFLA_LINKINFO);
	netlink_put(&m, IFLA_INFO_SLAVE_KIND, "bridge", strlen("bridge"));
	r = put_settings(&m, IFLA_INFO_SLAVE_DATA, &e->port_data, port_settings);
	netlink_nest_end(&m, info);
	return r < 0 ? r : netlink_send(nl, &m);
}

static int enslave(struct netlink *nl, const NetDeviceEntry *e)
{
	struct ifinfomsg ifi = { .ifi_index = (int)e->ifindex };
	struct netlink_msg m;
	int r;

	netlink_begin(&m, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
	netlink_put_u32(&m, IFLA_MASTER, e->master);
	r = netlink_send(nl, &m);
	if (r >= 0 && e->has_port_data)
		r = port_set(nl, e);
	return r < 0 ? log_err(r, "cannot make interface %s a port of its bridge%s", e->name, nl->why) : 0;
}

/* The second end of a pair came with the first. */
static bool came_with_peer(const struct netns_links *l, const NetDeviceEntry *e)
{
	return peer_is_inside(l, e) && e->peer_ifindex < e->ifindex;
}

int netns_link_make(struct restore_ctx *ctx, struct netlink *nl, const struct netns_links *l)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < l->n; i++)
		if (!came_with_peer(l, l->links[i]))
			r = make(ctx, nl, l, l->links[i]);
	for (size_t i = 0; r >= 0 && i < l->n; i++)
		if (l->links[i]->has_master && l->links[i]->master)
			r = enslave(nl, l->links[i]);
	for (size_t i = 0; r >= 0 && i < l->n; i++)
		r = netns_conf_restore_link(l->links[i]);
	return r;
}

/* The other end, on the host: up, and a port of the bridge that was named. */
static int up_outside(struct restore_ctx *ctx, const NetDeviceEntry *e)
{
	const char *outside = netns_veth_outside(ctx->opts, e->name), *bridge = NULL;
	struct ifinfomsg ifi = { .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	struct ns_visit v;
	struct netlink_msg m;
	unsigned int master;
	char name[IF_NAMESIZE];
	int r, left;

	if (!outside || outside_name(outside, name, &bridge) < 0)
		return -EINVAL;
	r = ns_visit_begin(&v, ns_restore_home_net(ctx), NS_NET);
	if (r < 0)
		return r;
	r = netlink_open(NETLINK_ROUTE, &nl);
	netlink_begin(&m, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
	netlink_put(&m, IFLA_IFNAME, name, strlen(name) + 1);
	master = bridge ? if_nametoindex(bridge) : 0;
	if (bridge)
		netlink_put_u32(&m, IFLA_MASTER, master);
	/* To the kernel 0 is a wish: no bridge. */
	if (r >= 0 && bridge && !master)
		r = -ENODEV;
	if (r >= 0)
		r = netlink_send(&nl, &m);
	left = ns_visit_end(&v);
	if (r < 0)
		return log_err(r, "cannot bring up %s, the other end of %s%s%s", name, e->name,
			       bridge ? ", on bridge " : "", bridge ? bridge : "");
	return left;
}

int netns_link_up(struct restore_ctx *ctx, struct netlink *nl, const struct netns_links *l)
{
	for (size_t i = 0; i < l->n; i++) {
		const NetDeviceEntry *e = l->links[i];
		struct ifinfomsg ifi = { .ifi_index = (int)e->ifindex,
					 .ifi_flags = e->flags & (IFF_UP | FLAGS_KEPT),
					 .ifi_change = IFF_UP | FLAGS_KEPT };
		struct netlink_msg m;
		int r;

		netlink_begin(&m, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
		if (e->alias)
			netlink_put(&m, IFLA_IFALIAS, e->alias, strlen(e->alias));
		r = netlink_send(nl, &m);
		if (r < 0)
			return log_err(r, "cannot bring up interface %s%s", e->name, nl->why);
		if (e->type == ND_TYPE__VETH && !peer_is_inside(l, e)) {
			r = up_outside(ctx, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}
