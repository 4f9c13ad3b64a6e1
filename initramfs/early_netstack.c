/*
 * Bonds, VLANs and bridges as they were. Each is locked before it is up: to the lock of the device below a
 * tagged frame is none of IP.
 *
 * The traps: a bond takes slaves only while they are down; settings of other modes are refused even when they
 * are those the bond has, so only what is not yet as it was is set, one by one; a VLAN's flags are told with a mask
 * that is not taken back; VLANs come up after what they are on.
 */
#include <net/if.h>	/* before the kernel's, which know it */

#include <linux/if_link.h>
#include <linux/if_vlan.h>
#include <linux/rtnetlink.h>
#include <netinet/ether.h>
#include <string.h>

#include "initramfs/early_net.h"
#include "kernel/link_settings.h"
#include "kernel/netlink.h"
#include "netlock/netlock.h"
#include "util/hex.h"
#include "util/io.h"
#include "util/log.h"

#define SETTINGS_BYTES	2048u

static const uint16_t vlan_identity[] = {
	IFLA_VLAN_ID, IFLA_VLAN_PROTOCOL, IFLA_VLAN_EGRESS_QOS, IFLA_VLAN_INGRESS_QOS, 0
};
#define VLAN_FLAGS	(VLAN_FLAG_REORDER_HDR | VLAN_FLAG_GVRP | VLAN_FLAG_LOOSE_BINDING | VLAN_FLAG_MVRP | \
			 VLAN_FLAG_BRIDGE_BINDING)
static const uint16_t bond_identity[] = { IFLA_BOND_MODE, 0 }, none[] = { 0 };

static const struct link_kind {
	const char *name;
	const uint16_t *identity;	/* it is made with these */
	const uint16_t *settings;	/* and gets these */
} kinds[] = {
	{ "vlan", vlan_identity, none },
	{ "bond", bond_identity, link_settings_bond },
	{ "bridge", none, link_settings_bridge },
};

struct settings {
	uint8_t data[SETTINGS_BYTES];
	const struct nlattr *tb[LINK_SETTING_MAX + 1];
};

static int parse(const struct manifest_link *l, struct settings *ret)
{
	size_t n = 0;
	int r = l->settings ? hex_bytes(l->settings, ret->data, sizeof(ret->data), &n) : 0;

	return r < 0 ? r : netlink_attrs(ret->data, n, ret->tb, LINK_SETTING_MAX);
}

static void put_vlan_flags(struct netlink_msg *m, const struct settings *s)
{
	struct ifla_vlan_flags flags = { .flags = nl_u32(s->tb[IFLA_VLAN_FLAGS]) & VLAN_FLAGS, .mask = VLAN_FLAGS };

	netlink_put(m, IFLA_VLAN_FLAGS, &flags, sizeof(flags));
}

static int make(struct netlink *nl, const struct manifest_link *l, const struct link_kind *kind)
{
	struct ether_addr *mac = ether_aton(l->mac);
	struct ifinfomsg ifi = { 0 };
	struct netlink_msg m;
	struct settings s;
	size_t info, data;
	int r = parse(l, &s);

	if (r < 0 || strlen(l->name) >= IF_NAMESIZE)
		return log_fail(-EBADMSG, "interface %s: its settings are malformed", l->name);
	netlink_begin(&m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifi, sizeof(ifi));
	netlink_put(&m, IFLA_IFNAME, l->name, strlen(l->name) + 1);
	if (mac)
		netlink_put(&m, IFLA_ADDRESS, mac, sizeof(*mac));
	if (l->lower)
		netlink_put_u32(&m, IFLA_LINK, if_nametoindex(l->lower));
	info = netlink_nest(&m, IFLA_LINKINFO);
	netlink_put(&m, IFLA_INFO_KIND, l->kind, strlen(l->kind));
	data = netlink_nest(&m, IFLA_INFO_DATA);
	netlink_put_listed(&m, s.tb, kind->identity);
	if (kind->identity == vlan_identity)
		put_vlan_flags(&m, &s);
	netlink_nest_end(&m, data);
	netlink_nest_end(&m, info);
	r = netlink_send(nl, &m);
	return r < 0 ? log_err(r, "cannot make interface %s (%s)%s", l->name, l->kind, nl->why) : 0;
}

struct search {
	const char *name;
	struct settings now;
	bool found;
};

static int find_settings(void *arg, const struct nlmsghdr *h)
{
	const struct nlattr *tb[IFLA_LINKINFO + 1], *info[IFLA_INFO_DATA + 1];
	struct search *s = arg;
	const char *name;

	if (h->nlmsg_type != RTM_NEWLINK ||
	    netlink_msg_attrs(h, sizeof(struct ifinfomsg), tb, IFLA_LINKINFO) < 0 ||
	    netlink_nested_attrs(tb[IFLA_LINKINFO], info, IFLA_INFO_DATA) < 0)
		return -EBADMSG;
	name = nl_text(tb[IFLA_IFNAME]);
	if (!name || strcmp(name, s->name) || !info[IFLA_INFO_DATA])
		return 0;
	if (nl_bytes(info[IFLA_INFO_DATA]) > sizeof(s->now.data))
		return -E2BIG;
	s->found = true;
	memcpy(s->now.data, nl_data(info[IFLA_INFO_DATA]), nl_bytes(info[IFLA_INFO_DATA]));
	return netlink_attrs(s->now.data, nl_bytes(info[IFLA_INFO_DATA]), s->now.tb, LINK_SETTING_MAX);
}

static int set(struct netlink *nl, const struct manifest_link *l, uint16_t type, const void *value, size_t bytes)
{
	struct ifinfomsg ifi = { .ifi_index = (int)if_nametoindex(l->name) };
	struct netlink_msg m;
	size_t info, data;

	netlink_begin(&m, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
	info = netlink_nest(&m, IFLA_LINKINFO);
	netlink_put(&m, IFLA_INFO_KIND, l->kind, strlen(l->kind));
	data = netlink_nest(&m, IFLA_INFO_DATA);
	netlink_put(&m, type, value, bytes);
	netlink_nest_end(&m, data);
	netlink_nest_end(&m, info);
	return netlink_send(nl, &m);
}

static bool is_same(const struct nlattr *a, const struct nlattr *b)
{
	return a && b && nl_bytes(a) == nl_bytes(b) && !memcmp(nl_data(a), nl_data(b), nl_bytes(a));
}

/* Without one of them it may still carry packets. */
static int set_all(struct netlink *nl, const struct manifest_link *l, const struct link_kind *kind)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	struct search is = { .name = l->name };
	struct settings was;
	int r = parse(l, &was);

	if (r == 0)
		r = netlink_list(nl, RTM_GETLINK, &ifi, sizeof(ifi), find_settings, &is);
	/* Drivers may have added theirs meanwhile; ours was there. */
	if (r == -EAGAIN && is.found)
		r = 0;
	if (r < 0 || !is.found)
		return log_err(r < 0 ? r : -ENODEV, "cannot read the settings of interface %s", l->name);
	for (const uint16_t *type = kind->settings; *type; type++) {
		const struct nlattr *to = was.tb[*type];

		if (!to || is_same(to, is.now.tb[*type]))
			continue;
		r = set(nl, l, *type, nl_data(to), nl_bytes(to));
		if (r < 0)
			log_warn("interface %s goes without its setting %u of a %s: %s%s", l->name, *type, l->kind,
				 strerror(-r), nl->why);
	}
	return 0;
}

static int enslave(struct netlink *nl, const struct manifest_link *l, int ifindex)
{
	struct ifinfomsg ifi = { .ifi_index = ifindex };
	unsigned int master = if_nametoindex(l->master);
	struct netlink_msg m;
	int r;

	netlink_begin(&m, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
	netlink_put_u32(&m, IFLA_MASTER, master);
	r = master ? netlink_send(nl, &m) : -ENODEV;
	return r < 0 ? log_err(r, "cannot put interface %s into %s%s", l->name, l->master, nl->why) : 0;
}

/* The slave that is active as soon as it can be. */
static int set_primary(struct early *e, struct netlink *nl, const struct manifest_link *l)
{
	const char *name = NULL;
	struct settings s;
	uint32_t index;

	if (parse(l, &s) < 0 || !nl_u32(s.tb[IFLA_BOND_PRIMARY]))
		return 0;
	for (size_t i = 0; i < e->manifest->n_links; i++)
		if (e->manifest->links[i].index == nl_u32(s.tb[IFLA_BOND_PRIMARY]))
			name = e->manifest->links[i].name;
	index = name ? if_nametoindex(name) : 0;
	return index ? set(nl, l, IFLA_BOND_PRIMARY, &index, sizeof(index)) : 0;
}

static const struct link_kind *kind_of(const struct manifest_link *l)
{
	for (size_t i = 0; l->kind && i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kinds[i].name, l->kind))
			return &kinds[i];
	return NULL;
}

static int make_all(struct early *e, struct netlink *nl)
{
	const struct manifest *m = e->manifest;
	int ret = 0, r;

	for (size_t i = 0; i < m->n_links; i++) {
		const struct link_kind *kind = kind_of(&m->links[i]);

		if (!kind)
			continue;
		r = make(nl, &m->links[i], kind);
		/* Without the lock nothing may come up. */
		if (r == 0 && e->lock && netlock_lock_ifindex(e->lock, (int)if_nametoindex(m->links[i].name)) < 0)
			return -EACCES;
		if (r == 0 && *kind->settings)
			r = set_all(nl, &m->links[i], kind);
		ret = r < 0 ? r : ret;
	}
	return ret;
}

/* One that fails takes those with it that are on it, not the others. */
static int connect_all(struct early *e, struct netlink *nl)
{
	const struct manifest *m = e->manifest;
	int ret = 0, r;

	for (size_t i = 0; i < m->n_links; i++) {
		r = m->links[i].master ? enslave(nl, &m->links[i], (int)if_nametoindex(m->links[i].name)) : 0;
		ret = r < 0 ? r : ret;
	}
	for (size_t i = 0; i < m->n_links; i++)
		if (m->links[i].kind && !strcmp(m->links[i].kind, "bond") && set_primary(e, nl, &m->links[i]) < 0)
			log_warn("%s: cannot set its primary slave", m->links[i].name);
	return ret;
}

int early_netstack_make(struct early *e)
{
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	const struct manifest *m = e->manifest;
	bool any = false;
	int made, r;

	for (size_t i = 0; i < m->n_links; i++)
		any |= m->links[i].kind != NULL;
	if (!any)
		return 0;
	r = netlink_open(NETLINK_ROUTE, &nl);
	if (r < 0)
		return log_err(r, "no rtnetlink socket");
	made = make_all(e, &nl);
	if (made == -EACCES)
		return log_err(made, "cannot lock an interface");
	r = connect_all(e, &nl);
	return made < 0 ? made : r;
}
