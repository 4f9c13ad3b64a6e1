/*
 * Bonds, VLANs and bridges as they were. Each is locked before it is up: to the lock of the device below a
 * tagged frame is none of IP.
 *
 * The traps: a bond takes slaves only while they are down; settings of other modes are refused even when they
 * are zero, so what is zero is left out; a VLAN's flags are told with a mask that is not taken back; VLANs come
 * up after what they are on.
 */
#include <net/if.h>	/* before the kernel's, which know it */

#include <linux/if_link.h>
#include <linux/if_vlan.h>
#include <linux/rtnetlink.h>
#include <netinet/ether.h>
#include <string.h>

#include "initramfs/early_net.h"
#include "kernel/netlink.h"
#include "netlock/netlock.h"
#include "util/io.h"
#include "util/log.h"

#define SETTINGS_BYTES	2048u
#define SETTING_MAX	64u

static const uint16_t vlan_settings[] = {
	IFLA_VLAN_ID, IFLA_VLAN_EGRESS_QOS, IFLA_VLAN_INGRESS_QOS, IFLA_VLAN_PROTOCOL, 0
};
#define VLAN_FLAGS	(VLAN_FLAG_REORDER_HDR | VLAN_FLAG_GVRP | VLAN_FLAG_LOOSE_BINDING | VLAN_FLAG_MVRP | \
			 VLAN_FLAG_BRIDGE_BINDING)
/* Not those that name other links, nor states. IFLA_BOND_PRIMARY: when its slaves are there. */
static const uint16_t bond_settings[] = {
	IFLA_BOND_MODE, IFLA_BOND_MIIMON, IFLA_BOND_UPDELAY, IFLA_BOND_DOWNDELAY, IFLA_BOND_ARP_INTERVAL,
	IFLA_BOND_ARP_IP_TARGET, IFLA_BOND_ARP_VALIDATE, IFLA_BOND_ARP_ALL_TARGETS, IFLA_BOND_PRIMARY_RESELECT,
	IFLA_BOND_FAIL_OVER_MAC, IFLA_BOND_XMIT_HASH_POLICY, IFLA_BOND_NUM_PEER_NOTIF,
	IFLA_BOND_ALL_SLAVES_ACTIVE, IFLA_BOND_MIN_LINKS, IFLA_BOND_LP_INTERVAL, IFLA_BOND_PEER_NOTIF_DELAY, 0
};
static const uint16_t lacp_settings[] = { IFLA_BOND_AD_LACP_RATE, IFLA_BOND_AD_SELECT, 0 };
static const uint16_t bridge_settings[] = {
	IFLA_BR_FORWARD_DELAY, IFLA_BR_HELLO_TIME, IFLA_BR_MAX_AGE, IFLA_BR_AGEING_TIME, IFLA_BR_STP_STATE,
	IFLA_BR_PRIORITY, IFLA_BR_GROUP_FWD_MASK, IFLA_BR_MCAST_ROUTER, IFLA_BR_MCAST_SNOOPING,
	IFLA_BR_MCAST_QUERIER, 0
};

static const struct link_kind {
	const char *name;
	const uint16_t *settings;
} kinds[] = {
	{ "vlan", vlan_settings }, { "bond", bond_settings }, { "bridge", bridge_settings },
};

struct settings {
	uint8_t data[SETTINGS_BYTES];
	const struct nlattr *tb[SETTING_MAX + 1];
};

static int parse(const struct manifest_link *l, struct settings *ret)
{
	size_t n = l->settings ? strlen(l->settings) / 2 : 0;

	if (n > sizeof(ret->data))
		return -E2BIG;
	for (size_t i = 0; i < n; i++)
		if (sscanf(l->settings + 2 * i, "%2hhx", &ret->data[i]) != 1)
			return -EBADMSG;
	return netlink_attrs(ret->data, n, ret->tb, SETTING_MAX);
}

static bool is_zero(const struct nlattr *a)
{
	const uint8_t *b = nl_data(a);

	for (size_t i = 0; i < nl_bytes(a); i++)
		if (b[i])
			return false;
	return true;
}

static void put_settings(struct netlink_msg *m, const struct settings *s, const uint16_t *types)
{
	for (; *types; types++)
		if (s->tb[*types] && !is_zero(s->tb[*types]))
			netlink_put(m, *types, nl_data(s->tb[*types]), nl_bytes(s->tb[*types]));
}

static void put_vlan_flags(struct netlink_msg *m, const struct settings *s)
{
	struct ifla_vlan_flags flags = { .flags = nl_u32(s->tb[IFLA_VLAN_FLAGS]) & VLAN_FLAGS, .mask = VLAN_FLAGS };

	netlink_put(m, IFLA_VLAN_FLAGS, &flags, sizeof(flags));
}

static bool is_lacp(const struct settings *s)
{
	const struct nlattr *mode = s->tb[IFLA_BOND_MODE];

	return mode && nl_bytes(mode) && *(const uint8_t *)nl_data(mode) == 4;
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
	put_settings(&m, &s, kind->settings);
	if (kind->settings == vlan_settings)
		put_vlan_flags(&m, &s);
	if (kind->settings == bond_settings && is_lacp(&s))
		put_settings(&m, &s, lacp_settings);
	netlink_nest_end(&m, data);
	netlink_nest_end(&m, info);
	r = netlink_send(nl, &m);
	return r < 0 ? log_err(r, "cannot make interface %s (%s)%s", l->name, l->kind, nl->why) : 0;
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
	struct ifinfomsg ifi = { .ifi_index = (int)if_nametoindex(l->name) };
	const char *name = NULL;
	struct netlink_msg m;
	struct settings s;
	size_t info, data;

	if (parse(l, &s) < 0 || !nl_u32(s.tb[IFLA_BOND_PRIMARY]))
		return 0;
	for (size_t i = 0; i < e->manifest->n_links; i++)
		if (e->manifest->links[i].index == nl_u32(s.tb[IFLA_BOND_PRIMARY]))
			name = e->manifest->links[i].name;
	if (!name)
		return 0;
	netlink_begin(&m, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
	info = netlink_nest(&m, IFLA_LINKINFO);
	netlink_put(&m, IFLA_INFO_KIND, l->kind, strlen(l->kind));
	data = netlink_nest(&m, IFLA_INFO_DATA);
	netlink_put_u32(&m, IFLA_BOND_PRIMARY, if_nametoindex(name));
	netlink_nest_end(&m, data);
	netlink_nest_end(&m, info);
	return netlink_send(nl, &m);
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
		ret = r < 0 ? r : ret;
		if (r < 0 || !e->lock)
			continue;
		r = netlock_lock_ifindex(e->lock, (int)if_nametoindex(m->links[i].name));
		/* Without the lock nothing may come up. */
		if (r < 0)
			return -EACCES;
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
