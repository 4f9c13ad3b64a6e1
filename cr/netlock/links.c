/* See links.h: RTM_GETLINK, rtnetlink(7). */
#include <net/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <string.h>

#include "netlock/links.h"

struct raw_link {
	struct net_link l;
	int master, lower;		/* ifindex, 0 none */
	bool stacked;			/* its lower is what it receives through */
};

struct listing {
	struct raw_link *links;
	size_t n, room;
	int error;
};

/* veth and others name an IFLA_LINK, too, but receive by themselves. */
static bool kind_is_stacked(const struct nlattr *linkinfo)
{
	static const char *const kinds[] = { "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap" };
	struct nlattr *tb[IFLA_INFO_MAX + 1];

	if (nla_parse_nested(tb, IFLA_INFO_MAX, (struct nlattr *)linkinfo, NULL) < 0 ||
	    !tb[IFLA_INFO_KIND])
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!nla_strcmp(tb[IFLA_INFO_KIND], kinds[i]))
			return true;
	return false;
}

static int add_link(struct nl_msg *msg, void *arg)
{
	struct listing *s = arg;
	struct nlmsghdr *h = nlmsg_hdr(msg);
	const struct ifinfomsg *ifi = NLMSG_DATA(h);
	struct nlattr *tb[IFLA_MAX + 1];
	struct raw_link *r;

	if (h->nlmsg_type != RTM_NEWLINK || nlmsg_parse(h, sizeof(*ifi), tb, IFLA_MAX, NULL) < 0)
		return NL_OK;
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 16;
		struct raw_link *p = reallocarray(s->links, room, sizeof(*p));

		if (!p) {
			s->error = -ENOMEM;
			return NL_STOP;
		}
		s->links = p;
		s->room = room;
	}
	r = &s->links[s->n++];
	*r = (struct raw_link){ .l.ifindex = ifi->ifi_index };
	r->l.sort = ifi->ifi_type == ARPHRD_LOOPBACK ? NETLOCK_LOOPBACK :
		    ifi->ifi_type == ARPHRD_ETHER ? NETLOCK_ETHER : NETLOCK_BARE;
	if (tb[IFLA_IFNAME])
		nla_strlcpy(r->l.name, tb[IFLA_IFNAME], sizeof(r->l.name));
	if (tb[IFLA_MASTER])
		r->master = (int)nla_get_u32(tb[IFLA_MASTER]);
	if (tb[IFLA_LINK] && !tb[IFLA_LINK_NETNSID] && tb[IFLA_LINKINFO] &&
	    kind_is_stacked(tb[IFLA_LINKINFO]))
		r->lower = (int)nla_get_u32(tb[IFLA_LINK]);
	return NL_OK;
}

static int add_error(struct sockaddr_nl *from _unused_, struct nlmsgerr *e, void *arg)
{
	((struct listing *)arg)->error = e->error < 0 ? e->error : -EIO;
	return NL_STOP;
}

static int ask(struct nl_sock *nl, struct listing *s)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	struct nl_cb *cb = nl_socket_get_cb(nl);
	int r;

	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, add_link, s);
	nl_cb_err(cb, NL_CB_CUSTOM, add_error, s);
	nl_cb_put(cb);
	if (nl_connect(nl, NETLINK_ROUTE) < 0)
		return -EPROTONOSUPPORT;
	if (nl_send_simple(nl, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, &ifi, sizeof(ifi)) < 0)
		return -EIO;
	r = nl_recvmsgs_default(nl);
	return s->error ? s->error : r < 0 ? -EIO : 0;
}

static bool is_upper(const struct listing *s, const struct raw_link *r)
{
	bool upper = false;

	for (size_t i = 0; i < s->n; i++) {
		upper |= s->links[i].master == r->l.ifindex;
		upper |= r->lower == s->links[i].l.ifindex;
	}
	return upper;
}

int net_links_list(struct net_link **ret, size_t *ret_n)
{
	struct listing s = { 0 };
	struct nl_sock *nl = nl_socket_alloc();
	struct net_link *out = NULL;
	int r;

	if (!nl)
		return -ENOMEM;
	r = ask(nl, &s);
	nl_socket_free(nl);
	if (!r) {
		out = calloc(MAX(s.n, (size_t)1), sizeof(*out));
		r = out ? 0 : -ENOMEM;
	}
	for (size_t i = 0; !r && i < s.n; i++) {
		out[i] = s.links[i].l;
		out[i].upper = is_upper(&s, &s.links[i]);
	}
	free(s.links);
	if (r < 0)
		return r;
	*ret = out;
	*ret_n = s.n;
	return 0;
}
