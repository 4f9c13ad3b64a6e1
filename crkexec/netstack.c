/*
 * Bonds, VLANs and bridges over links that are carried: what the early program needs to make them again,
 * with the settings as the kernel tells them. The network service of the new boot finds them there.
 *
 * The traps: a bond's slaves all show its hardware address, so devices are known by their permanent one; a
 * bridge that filters VLANs has a table for each port, which is not carried.
 */
#include <net/if.h>	/* before the kernel's, which know it */

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "crkexec/machine.h"
#include "crkexec/manifest_desc.h"
#include "kernel/netlink.h"
#include "util/hex.h"
#include "util/io.h"
#include "util/log.h"

#define TRIES	3u

struct seen_link {
	uint32_t index, lower, master, mtu;
	bool up, filters_vlans, carried;
	char name[IF_NAMESIZE], kind[16], address[20], permanent[20];
	char *settings;			/* hex */
};

struct seen {
	struct seen_link *v;
	size_t n;
};

static void address_text(const struct nlattr *a, char text[20])
{
	const uint8_t *b = a && nl_bytes(a) == 6 ? nl_data(a) : NULL;
	static const uint8_t none[6];

	text[0] = '\0';
	if (b && memcmp(b, none, sizeof(none)))
		snprintf(text, 20, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
}

static bool filters_vlans(const struct nlattr *data)
{
	const struct nlattr *tb[IFLA_BR_VLAN_FILTERING + 1];

	return netlink_nested_attrs(data, tb, IFLA_BR_VLAN_FILTERING) == 0 && tb[IFLA_BR_VLAN_FILTERING] &&
	       nl_bytes(tb[IFLA_BR_VLAN_FILTERING]) && *(const uint8_t *)nl_data(tb[IFLA_BR_VLAN_FILTERING]);
}

static int add_link(void *arg, const struct nlmsghdr *h)
{
	const struct nlattr *tb[IFLA_PERM_ADDRESS + 1], *info[IFLA_INFO_DATA + 1];
	const struct ifinfomsg *ifi = NLMSG_DATA(h);
	const struct nlattr *data;
	struct seen *s = arg;
	struct seen_link *l;
	const char *name, *kind;

	if (h->nlmsg_type != RTM_NEWLINK || netlink_msg_attrs(h, sizeof(*ifi), tb, IFLA_PERM_ADDRESS) < 0 ||
	    netlink_nested_attrs(tb[IFLA_LINKINFO], info, IFLA_INFO_DATA) < 0)
		return -EBADMSG;
	name = nl_text(tb[IFLA_IFNAME]);
	kind = nl_text(info[IFLA_INFO_KIND]);
	data = info[IFLA_INFO_DATA];
	l = reallocarray(s->v, s->n + 1, sizeof(*l));
	if (!l || !name)
		return l ? -EBADMSG : -ENOMEM;
	s->v = l;
	l += s->n;
	*l = (struct seen_link){ .index = (uint32_t)ifi->ifi_index, .lower = nl_u32(tb[IFLA_LINK]),
				 .master = nl_u32(tb[IFLA_MASTER]), .mtu = nl_u32(tb[IFLA_MTU]),
				 .up = ifi->ifi_flags & IFF_UP,
				 .settings = data ? hex_text(nl_data(data), nl_bytes(data)) : strdup("") };
	if (!l->settings)
		return -ENOMEM;
	s->n++;
	snprintf(l->name, sizeof(l->name), "%s", name);
	snprintf(l->kind, sizeof(l->kind), "%s", kind ? kind : "");
	address_text(tb[IFLA_ADDRESS], l->address);
	address_text(tb[IFLA_PERM_ADDRESS], l->permanent);
	l->filters_vlans = !strcmp(l->kind, "bridge") && filters_vlans(data);
	return 0;
}

static struct seen_link *by_index(const struct seen *s, uint32_t index)
{
	for (size_t i = 0; index && i < s->n; i++)
		if (s->v[i].index == index)
			return &s->v[i];
	return NULL;
}

static bool has_carried_port(const struct seen *s, const struct seen_link *l)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i].master == l->index && s->v[i].carried)
			return true;
	return false;
}

static bool can_be_made(const struct seen *s, const struct seen_link *l)
{
	const struct seen_link *lower;

	if (!l->up || l->carried || !*l->address || strlen(l->settings) >= TEXT_MAX)
		return false;
	if (!strcmp(l->kind, "vlan")) {
		lower = by_index(s, l->lower);
		return lower && lower->carried;
	}
	return (!strcmp(l->kind, "bond") || (!strcmp(l->kind, "bridge") && !l->filters_vlans)) &&
	       has_carried_port(s, l);
}

static int carry(struct manifest *m, const struct seen *s, struct seen_link *l)
{
	struct manifest_link *v = reallocarray(m->links, m->n_links + 1, sizeof(*v));
	const struct seen_link *lower = by_index(s, l->lower);
	bool on = !strcmp(l->kind, "vlan");

	if (!v)
		return -ENOMEM;
	m->links = v;
	v += m->n_links++;
	*v = (struct manifest_link){
		.name = strdup(l->name), .mac = strdup(l->address), .mtu = l->mtu, .index = l->index,
		.kind = strdup(l->kind), .lower = on ? strdup(lower->name) : NULL, .settings = strdup(l->settings),
	};
	l->carried = true;
	return v->name && v->mac && v->kind && v->settings && (!on || v->lower) ? 0 : -ENOMEM;
}

static struct manifest_link *find(struct manifest *m, const char *name)
{
	for (size_t i = 0; i < m->n_links; i++)
		if (!strcmp(m->links[i].name, name))
			return &m->links[i];
	return NULL;
}

static int note_devices(struct manifest *m, struct seen *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct manifest_link *l = find(m, s->v[i].name);

		if (!l)
			continue;
		s->v[i].carried = true;
		l->index = s->v[i].index;
		if (!*s->v[i].permanent)
			continue;
		free(l->mac);
		l->mac = strdup(s->v[i].permanent);
		if (!l->mac)
			return -ENOMEM;
	}
	return 0;
}

static int note_masters(struct manifest *m, const struct seen *s)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct seen_link *master = by_index(s, s->v[i].master);
		struct manifest_link *l = s->v[i].carried ? find(m, s->v[i].name) : NULL;

		if (!l || !master || !master->carried)
			continue;
		l->master = strdup(master->name);
		if (!l->master)
			return -ENOMEM;
	}
	return 0;
}

/* What is on top of others comes after them. */
static int carry_all(struct manifest *m, struct seen *s)
{
	bool more = true;
	int r = 0;

	while (more && r == 0) {
		more = false;
		for (size_t i = 0; i < s->n && r == 0; i++) {
			if (!can_be_made(s, &s->v[i]))
				continue;
			r = carry(m, s, &s->v[i]);
			more = true;
		}
	}
	return r;
}

static void forget(struct seen *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].settings);
	free(s->v);
	*s = (struct seen){ 0 };
}

/* Where containers come and go, others may do so while it is asked. */
static int list_links(struct netlink *nl, struct seen *s)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	int r = -EAGAIN;

	for (unsigned int i = 0; r == -EAGAIN && i < TRIES; i++) {
		forget(s);
		r = netlink_list(nl, RTM_GETLINK, &ifi, sizeof(ifi), add_link, s);
	}
	return r;
}

int netstack_read(struct manifest *m)
{
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	struct seen s = { 0 };
	int r = netlink_open(NETLINK_ROUTE, &nl);

	if (r == 0)
		r = list_links(&nl, &s);
	if (r >= 0)
		r = note_devices(m, &s);
	if (r == 0)
		r = carry_all(m, &s);
	if (r == 0)
		r = note_masters(m, &s);
	forget(&s);
	return r < 0 ? log_err(r, "cannot read the network's interfaces") : 0;
}
