/* cr/ns/netns*: images of a network namespace that an attacker wrote; nothing of ours is touched. */
#define _GNU_SOURCE
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "ns/netns.h"
#include "ns_fixture.h"

#define ROUTES	0x45311224u

struct net_images {
	struct ns_fixture f;
	NetnsEntry netns;
	NetDeviceEntry lo, other;
};

static void begin(struct net_images *n)
{
	ASSERT_EQ(geteuid(), 0);
	ns_fixture_begin(&n->f);
	netns_entry__init(&n->netns);
	net_device_entry__init(&n->lo);
	net_device_entry__init(&n->other);
	n->f.root_ids.has_net_ns_id = n->f.ids.has_net_ns_id = true;
	n->f.root_ids.net_ns_id = 2;
	n->f.ids.net_ns_id = NS_ID;
	n->lo.type = ND_TYPE__LOOPBACK;
	n->lo.ifindex = 1;
	n->lo.mtu = 65536;
	n->lo.name = (char *)"lo";
	n->other.type = ND_TYPE__VETH;
	n->other.ifindex = 9;
	n->other.mtu = 1500;
	n->other.name = (char *)"v0";
	n->other.has_peer_ifindex = n->other.has_peer_nsid = true;
	n->other.peer_nsid = NS_ID;
	n->other.peer_ifindex = 9;
}

static ino_t here(void)
{
	struct stat st;

	ASSERT(stat("/proc/thread-self/ns/net", &st) == 0);
	return st.st_ino;
}

/* A restore's preparation; with the second interface if asked for. */
static int build(struct net_images *n, bool with_other)
{
	ino_t before = here();
	struct image_writer *w;
	int r;

	ASSERT_OK(image_create(n->f.images.store, &image_netdev, &w, NS_ID));
	ASSERT_OK(image_put(w, &n->lo.base));
	if (with_other)
		ASSERT_OK(image_put(w, &n->other.base));
	ASSERT_OK(image_close(w));
	ASSERT_OK(image_write_one(n->f.images.store, &image_netns, &n->netns.base, NS_ID));
	r = prepare_all(&n->f.ctx);
	ASSERT_EQ(here(), before);
	ns_restore_done(&n->f.ctx);
	ns_fixture_end(&n->f);
	return r;
}

TEST("a network namespace with lo alone is made from its images")
{
	struct net_images n;

	begin(&n);
	ASSERT_OK(build(&n, false));
}

TEST("interfaces that are twice, misnamed, without their other end or of unknown kind are refused")
{
	struct net_images n;

	begin(&n);
	ASSERT_EQ(build(&n, true), -EBADMSG);	/* its own peer */
	begin(&n);
	n.other.peer_ifindex = 10;
	ASSERT_EQ(build(&n, true), -EBADMSG);
	begin(&n);
	n.other.ifindex = 1;
	ASSERT_EQ(build(&n, true), -EBADMSG);
	begin(&n);
	n.other.name = (char *)"a/b";
	ASSERT_EQ(build(&n, true), -EBADMSG);
	begin(&n);
	n.other.name = (char *)"longer-than-allowed";
	ASSERT_EQ(build(&n, true), -EBADMSG);
	begin(&n);
	n.other.type = ND_TYPE__EXTLINK;
	n.other.kind = (char *)"tun";
	ASSERT_EQ(build(&n, true), -EOPNOTSUPP);
	begin(&n);
	n.lo.ifindex = 2;
	ASSERT_EQ(build(&n, false), -EBADMSG);
	begin(&n);
	n.other.peer_nsid = 3;			/* outside, and nobody said what to do */
	ASSERT_EQ(build(&n, true), -EINVAL);
}

TEST("settings outside of /proc/sys/net, neighbours that are none, legacy rules are refused")
{
	NetnsSetting s = NETNS_SETTING__INIT, *settings[] = { &s };
	uint8_t junk[20] = { 0xff, 0xff, 0xff, 0xff };
	ProtobufCBinaryData d = { sizeof(junk), junk };
	struct image_writer *w;
	struct net_images n;

	begin(&n);
	s.name = (char *)"../kernel/hostname";
	s.value = (char *)"taken";
	n.netns.settings = settings;
	n.netns.n_settings = 1;
	ASSERT_EQ(build(&n, false), -EBADMSG);
	begin(&n);
	n.netns.neighbours = &d;
	n.netns.n_neighbours = 1;
	ASSERT_EQ(build(&n, false), -EBADMSG);
	begin(&n);
	d.len = 3;
	n.netns.neighbours = &d;
	n.netns.n_neighbours = 1;
	ASSERT_EQ(build(&n, false), -EBADMSG);
	begin(&n);
	ASSERT_OK(image_create(n.f.images.store, &image_iptables, &w, NS_ID));
	ASSERT_OK(image_put_raw(w, "*filter\n", 8));
	ASSERT_OK(image_close(w));
	ASSERT_EQ(build(&n, false), -EOPNOTSUPP);
}

/* route-N.img of these bytes. */
static int read_routes(const void *data, size_t bytes, size_t *ret_n)
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct netns_messages m;
	struct image_writer *w;
	struct arena a;
	int r;

	arena_init(&a);
	ASSERT_OK(image_create(f.store, &image_route, &w, NS_ID));
	ASSERT_OK(image_put_raw(w, data, bytes));
	ASSERT_OK(image_close(w));
	r = netns_messages_read(f.store, &a, &image_route, NS_ID, ROUTES, RTM_NEWROUTE,
				sizeof(struct rtmsg), &m);
	*ret_n = m.n;
	arena_done(&a);
	fixture_end(&f);
	return r;
}

TEST("saved routes are read whole or not at all")
{
	struct {
		uint32_t magic;
		struct nlmsghdr h;
		struct rtmsg rt;
	} one = { ROUTES, { .nlmsg_type = RTM_NEWROUTE }, { .rtm_family = AF_INET } };
	size_t n;

	one.h.nlmsg_len = sizeof(one.h) + sizeof(one.rt);
	ASSERT_OK(read_routes(&one, sizeof(one), &n));
	ASSERT_EQ(n, 1);
	ASSERT_OK(read_routes(&one, 4, &n));
	ASSERT_EQ(n, 0);
	for (size_t bytes = 1; bytes < sizeof(one); bytes++)
		if (bytes != 4)
			ASSERT_EQ(read_routes(&one, bytes, &n), -EBADMSG);
	one.h.nlmsg_len = sizeof(one.h);
	ASSERT_EQ(read_routes(&one, sizeof(one), &n), -EBADMSG);
	one.h.nlmsg_len = UINT32_MAX;
	ASSERT_EQ(read_routes(&one, sizeof(one), &n), -EBADMSG);
	one.h.nlmsg_len = sizeof(one.h) + sizeof(one.rt);
	one.h.nlmsg_type = RTM_DELLINK;
	ASSERT_EQ(read_routes(&one, sizeof(one), &n), -EBADMSG);
	one.magic++;
	ASSERT_EQ(read_routes(&one, sizeof(one), &n), -EBADMSG);
}

TEST("attributes that reach beyond their message are refused, texts without an end are none")
{
	const struct nlattr *tb[5];
	union {
		struct nlattr a;
		char bytes[16];
	} m = { { .nla_len = 8, .nla_type = 3 } };

	memcpy(m.bytes + 4, "abcd", 4);
	ASSERT_OK(netlink_attrs(&m, 8, tb, 4));
	ASSERT(tb[3] && !tb[4] && !nl_text(tb[3]));
	ASSERT_EQ(netlink_attrs(&m, 7, tb, 4), -EBADMSG);
	ASSERT_EQ(netlink_attrs(&m, 9, tb, 4), -EBADMSG);
	m.a.nla_len = 3;
	ASSERT_EQ(netlink_attrs(&m, 8, tb, 4), -EBADMSG);
	m.a.nla_len = 6;
	m.a.nla_type = 3 | NLA_F_NESTED;
	ASSERT_OK(netlink_attrs(&m, 6, tb, 4));
	ASSERT_EQ(nl_u32(tb[3]), 0);
	m.bytes[5] = '\0';
	ASSERT_STREQ(nl_text(tb[3]), "a");
}

static void unlocked_is(const char *rules, const char *should)
{
	size_t bytes;
	char *is = netns_filter_unlock(rules, strlen(rules), &bytes);

	ASSERT(is);
	ASSERT_EQ(bytes, strlen(should));
	ASSERT_MEM_EQ(is, should, bytes);
	free(is);
}

TEST("CRIU's network lock is taken out of saved packet filter rules, and nothing else")
{
	const char *users = "table ip filter {\n\tchain CRIUS {\n\t\tjump CRIUSER\n\t}\n\tchain INPUT {\n"
			    "\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n";

	unlocked_is(users, users);
	unlocked_is("", "");
	unlocked_is("}", "}");
	unlocked_is("table ip filter {\n\tchain CRIU {\n\t\tcounter drop\n\t}\n\n\tchain INPUT {\n"
		    "\t\tcounter packets 0 bytes 0 jump CRIU\n\t\taccept\n\t}\n}\n",
		    "table ip filter {\n\n\tchain INPUT {\n\t\taccept\n\t}\n}\n");
	unlocked_is("table inet CRIU-7 {\n\tchain a {\n\t}\n}\ntable inet b {\n}\n", "table inet b {\n}\n");
	unlocked_is("\tchain CRIU {\n\t\tcut", "");
	unlocked_is("table inet CRIU-7 {", "");
}
