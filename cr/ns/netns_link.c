/*
 * Interfaces of a network namespace → netdev-N.img.
 *
 *   dump     RTM_GETLINK
 *   restore  netns_link_make.c
 */
#include <net/if.h>	/* before the kernel's, which know it */

#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "ns/netns.h"

/* An interface as RTM_NEWLINK tells of it. */
struct link {
	const struct ifinfomsg *ifi;
	const struct nlattr *tb[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
	const struct nlattr *xdp[IFLA_XDP_MAX + 1];
	const char *name, *kind;
};

static int link_parse(const struct nlmsghdr *h, struct link *l)
{
	int r;

	l->ifi = NLMSG_DATA(h);
	if (h->nlmsg_type != RTM_NEWLINK)
		return -EBADMSG;
	r = netlink_msg_attrs(h, sizeof(*l->ifi), l->tb, IFLA_MAX);
	if (r < 0)
		return r;
	r = netlink_nested_attrs(l->tb[IFLA_LINKINFO], l->info, IFLA_INFO_MAX);
	if (r >= 0)
		r = netlink_nested_attrs(l->tb[IFLA_XDP], l->xdp, IFLA_XDP_MAX);
	l->name = nl_text(l->tb[IFLA_IFNAME]);
	l->kind = nl_text(l->info[IFLA_INFO_KIND]);
	return r < 0 || !l->name ? -EBADMSG : 0;
}

static int link_list(struct arena *a, struct netlink *nl, struct netns_messages *ret)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };

	return netns_messages_list(a, nl, RTM_GETLINK, &ifi, sizeof(ifi), NULL, ret);
}

static bool kind_is(const struct link *l, const char *kind)
{
	return l->kind && !strcmp(l->kind, kind);
}

static bool peer_is_outside(const struct link *l)
{
	return l->tb[IFLA_LINK_NETNSID] != NULL;
}

static int check_kind(struct dump_ctx *ctx, const struct link *l)
{
	if (l->ifi->ifi_type == ARPHRD_LOOPBACK || kind_is(l, "bridge") || netns_link_is_plain(l->kind))
		return 0;
	if (!kind_is(l, "veth"))
		return log_obstacle("remove it before, or let the service use the host's network",
				    "interface %s of its network namespace is %s%s", l->name,
				    l->kind ? "of kind " : "a device", l->kind ? l->kind : "");
	if (!peer_is_outside(l) || netns_veth_outside(ctx->opts, l->name))
		return 0;
	return log_obstacle("give --external 'veth[NAME]:NAME-OUTSIDE' to dump and restore",
			    "interface %s of its network namespace is a veth whose other end is outside",
			    l->name);
}

static bool filters_vlans(const struct link *l)
{
	const struct nlattr *tb[IFLA_BR_VLAN_FILTERING + 1], *a;

	if (netlink_nested_attrs(l->info[IFLA_INFO_DATA], tb, IFLA_BR_VLAN_FILTERING) < 0)
		return true;
	a = tb[IFLA_BR_VLAN_FILTERING];
	return a && nl_bytes(a) && *(const uint8_t *)nl_data(a);
}

static int check_link(struct dump_ctx *ctx, const struct link *l)
{
	const struct nlattr *mode = l->xdp[IFLA_XDP_ATTACHED];
	int ret = check_kind(ctx, l);

	if (kind_is(l, "bridge") && filters_vlans(l))
		ret = log_obstacle("use a bridge without vlan_filtering",
				   "bridge %s of its network namespace filters VLANs", l->name);
	if (mode && nl_bytes(mode) && *(const uint8_t *)nl_data(mode))
		ret = log_obstacle("detach it before", "interface %s has an XDP program", l->name);
	return ret;
}

/* What somebody set has a handle; the kernel's own have none. */
static int check_qdisc(void *arg, const struct nlmsghdr *h)
{
	const struct nlattr *tb[TCA_MAX + 1];
	const struct tcmsg *tc = NLMSG_DATA(h);
	char name[IF_NAMESIZE] = "?";
	int *refused = arg;

	if (h->nlmsg_type != RTM_NEWQDISC || netlink_msg_attrs(h, sizeof(*tc), tb, TCA_MAX) < 0 ||
	    !tc->tcm_handle)
		return 0;
	if_indextoname((unsigned int)tc->tcm_ifindex, name);
	*refused = log_obstacle("remove it before (tc qdisc del)",
				"interface %s of its network namespace has a queueing discipline (%s)",
				name, nl_text(tb[TCA_KIND]) ? nl_text(tb[TCA_KIND]) : "?");
	return 0;
}

int netns_link_check(struct dump_ctx *ctx, struct netlink *nl)
{
	struct netns_messages m = { 0 };
	struct tcmsg tc = { .tcm_family = AF_UNSPEC };
	int r = link_list(&ctx->arena, nl, &m), refused = 0;

	for (size_t i = 0; r >= 0 && i < m.n; i++) {
		struct link l;

		r = link_parse(m.msgs[i], &l);
		if (r >= 0 && check_link(ctx, &l) < 0)
			refused = -EOPNOTSUPP;
	}
	if (r >= 0)
		r = netlink_list(nl, RTM_GETQDISC, &tc, sizeof(tc), check_qdisc, &refused);
	if (r < 0 && r != -EOPNOTSUPP)
		return log_err(r, "cannot list the interfaces of the network namespace");
	return refused;
}

static void bytes_of(const struct nlattr *a, ProtobufCBinaryData *to)
{
	to->data = (uint8_t *)nl_data(a);
	to->len = nl_bytes(a);
}

static void fill_kind(const struct link *l, NetDeviceEntry *e)
{
	if (l->ifi->ifi_type == ARPHRD_LOOPBACK) {
		e->type = ND_TYPE__LOOPBACK;
	} else if (kind_is(l, "veth")) {
		e->type = ND_TYPE__VETH;
		e->has_peer_ifindex = l->tb[IFLA_LINK] != NULL;
		e->peer_ifindex = nl_u32(l->tb[IFLA_LINK]);
	} else if (kind_is(l, "bridge")) {
		e->type = ND_TYPE__BRIDGE;
		if (l->info[IFLA_INFO_DATA]) {
			e->has_kind_data = true;
			bytes_of(l->info[IFLA_INFO_DATA], &e->kind_data);
		}
	} else {
		e->type = ND_TYPE__EXTLINK;
		e->kind = (char *)l->kind;
	}
}

static int fill(struct dump_ctx *ctx, uint32_t ns_id, const struct link *l, NetDeviceEntry *e)
{
	const char *alias = nl_text(l->tb[IFLA_IFALIAS]);

	e->ifindex = (uint32_t)l->ifi->ifi_index;
	e->mtu = nl_u32(l->tb[IFLA_MTU]);
	e->flags = l->ifi->ifi_flags;
	e->name = (char *)l->name;
	e->alias = (char *)alias;
	fill_kind(l, e);
	if (e->has_peer_ifindex && !peer_is_outside(l)) {
		e->has_peer_nsid = true;
		e->peer_nsid = ns_id;
	}
	if (l->tb[IFLA_ADDRESS] && e->type != ND_TYPE__LOOPBACK) {
		e->has_address = true;
		bytes_of(l->tb[IFLA_ADDRESS], &e->address);
	}
	if (l->tb[IFLA_TXQLEN]) {
		e->has_tx_queue_len = true;
		e->tx_queue_len = nl_u32(l->tb[IFLA_TXQLEN]);
	}
	if (l->tb[IFLA_MASTER]) {
		e->has_master = true;
		e->master = nl_u32(l->tb[IFLA_MASTER]);
		if (l->info[IFLA_INFO_SLAVE_DATA]) {
			e->has_port_data = true;
			bytes_of(l->info[IFLA_INFO_SLAVE_DATA], &e->port_data);
		}
	}
	return netns_conf_dump_link(&ctx->arena, e);
}

int netns_link_dump(struct dump_ctx *ctx, struct netlink *nl, uint32_t id)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	struct netns_messages m = { 0 };
	int r = link_list(&ctx->arena, nl, &m);

	if (r < 0)
		return log_err(r, "cannot list the interfaces of the network namespace");
	r = image_create(ctx->store, &image_netdev, &w, id);
	for (size_t i = 0; r >= 0 && i < m.n; i++) {
		NetDeviceEntry e = NET_DEVICE_ENTRY__INIT;
		struct link l;

		r = link_parse(m.msgs[i], &l);
		if (r >= 0)
			r = fill(ctx, id, &l, &e);
		if (r >= 0)
			r = image_put(w, &e.base);
	}
	return r < 0 ? r : image_close(take_ptr(w));
}
