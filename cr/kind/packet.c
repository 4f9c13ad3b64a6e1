/*
 * Packet sockets (tcpdump, DHCP clients).
 *
 *   dump     protocol and interface by getsockname(2), options; multicast and rings by sock_diag
 *   restore  socket without protocol (receives nothing yet), options, then bind(2)
 *
 * Rings are shared memory with the kernel and are refused. Packets that wait are lost, as the
 * network may lose any.
 */
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>

#include "kind/kinds.h"
#include "kind/sk_common.h"

static bool packet_match(const struct dump_file *f)
{
	return sk_family(f) == AF_PACKET;
}

#define JOINS_MAX	1024u	/* of one address */
#define ADDR_MAX	32u	/* MAX_ADDR_LEN of the kernel */

/* Numbers of interfaces are this kernel's. */
static int name_of(struct dump_ctx *ctx, int ifindex, char **ret)
{
	char name[IF_NAMESIZE];

	if (ifindex <= 0)
		return 0;
	if (!if_indextoname((unsigned int)ifindex, name))
		return log_err(neg_errno(), "no name for interface %d", ifindex);
	*ret = arena_strdup(&ctx->arena, name);
	return *ret ? 0 : log_err(-ENOMEM, "packet socket");
}

static int dump_membership(struct dump_ctx *ctx, const struct sockdiag_mc *mc, PacketSockEntry *e)
{
	PacketMclist *m = ARENA_MSG(&ctx->arena, PacketMclist, packet_mclist), **slot;

	if (!m)
		return log_err(-ENOMEM, "packet socket");
	m->index = (uint32_t)mc->ifindex;
	m->type = mc->type;
	m->addr.data = arena_memdup(&ctx->arena, mc->addr, sizeof(mc->addr));
	m->addr.len = mc->addr_len;
	if (!m->addr.data)
		return log_err(-ENOMEM, "packet socket");
	/* It ends when it was left as often as it was joined. */
	for (uint32_t i = 0; i < MAX(1u, MIN(mc->count, JOINS_MAX)); i++) {
		slot = ARENA_PUSH(&ctx->arena, e->mclist, e->n_mclist);
		if (!slot)
			return log_err(-ENOMEM, "packet socket");
		*slot = m;
	}
	return name_of(ctx, mc->ifindex, &m->ifname);
}

static int dump_mclist(struct dump_ctx *ctx, const struct sockdiag *d, PacketSockEntry *e)
{
	int r = 0;

	for (size_t i = 0; !r && i < d->n_mc; i++)
		r = dump_membership(ctx, &d->mc[i], e);
	return r;
}

static uint32_t get(int fd, int name)
{
	int v;

	return sk_get_int(fd, SOL_PACKET, name, &v) < 0 ? 0 : (uint32_t)v;
}

static void dump_options(int fd, PacketSockEntry *e)
{
	e->version = get(fd, PACKET_VERSION);
	e->reserve = get(fd, PACKET_RESERVE);
	e->aux_data = get(fd, PACKET_AUXDATA) != 0;
	e->orig_dev = get(fd, PACKET_ORIGDEV) != 0;
	e->vnet_hdr = get(fd, PACKET_VNET_HDR) != 0;
	e->loss = get(fd, PACKET_LOSS) != 0;
	e->timestamp = get(fd, PACKET_TIMESTAMP);
	e->copy_thresh = get(fd, PACKET_COPY_THRESH);
}

static int packet_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	PacketSockEntry *e = ARENA_MSG(&ctx->arena, PacketSockEntry, packet_sock_entry);
	struct sockaddr_ll own = { 0 };
	socklen_t len = sizeof(own);
	const struct sockdiag *d;
	int type, r;

	if (!e)
		return log_err(-ENOMEM, "packet socket");
	r = sk_diag(ctx, f, SOCKDIAG_PACKET, false, &d);
	if (r < 0)
		return r;
	if (!d)
		return log_fail(-ENOENT, "sock_diag does not list packet socket %llu",
				(unsigned long long)f->st.st_ino);
	if (d->rx_ring || d->tx_ring)
		return log_obstacle("let the program capture without a ring, or stop it",
				    "packet socket with a memory ring (PACKET_%s_RING)",
				    d->rx_ring ? "RX" : "TX");
	if (d->fanout)
		return log_obstacle("stop the program that captures", "packet socket in a fanout "
				    "group");
	r = sk_get_int(f->fd, SOL_SOCKET, SO_TYPE, &type);
	if (r < 0)
		return log_err(r, "cannot read the socket's type");
	if (getsockname(f->fd, (struct sockaddr *)&own, &len) < 0)
		return log_err(neg_errno(), "cannot read the packet socket's address");
	e->id = f->id;
	e->type = (uint32_t)type;
	e->protocol = own.sll_protocol;
	e->flags = f->flags;
	e->ifindex = (uint32_t)own.sll_ifindex;
	e->ns_id = sk_ns_id(f);
	e->has_ns_id = e->ns_id != 0;
	dump_options(f->fd, e);
	f->fe->psk = e;
	r = name_of(ctx, own.sll_ifindex, &e->ifname);
	if (!r)
		r = dump_mclist(ctx, d, e);
	if (!r)
		r = dump_fown(ctx, f, &e->fown);
	return r < 0 ? r : sk_opts_dump(ctx, f, &e->opts);
}

static int set_options(int fd, const PacketSockEntry *e)
{
	const struct {
		uint32_t value;
		int name;
		const char *what;
	} options[] = {
		{ e->version, PACKET_VERSION, "PACKET_VERSION" },
		{ e->reserve, PACKET_RESERVE, "PACKET_RESERVE" },
		{ e->aux_data, PACKET_AUXDATA, "PACKET_AUXDATA" },
		{ e->orig_dev, PACKET_ORIGDEV, "PACKET_ORIGDEV" },
		{ e->vnet_hdr, PACKET_VNET_HDR, "PACKET_VNET_HDR" },
		{ e->loss, PACKET_LOSS, "PACKET_LOSS" },
		{ e->timestamp, PACKET_TIMESTAMP, "PACKET_TIMESTAMP" },
		{ e->copy_thresh, PACKET_COPY_THRESH, "PACKET_COPY_THRESH" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		int r = options[i].value ? sk_set_int_log(fd, SOL_PACKET, options[i].name,
							  (int)options[i].value, options[i].what)
					 : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* By name, where the image has one: CRIU's do not. */
static int index_of(uint32_t index, const char *name, int *ret)
{
	*ret = name && name[0] ? (int)if_nametoindex(name) : (int)index;
	if (name && name[0] && !*ret)
		return log_err(neg_errno(), "interface %s of a packet socket", name);
	return 0;
}

static int join_multicast(int fd, const PacketSockEntry *e)
{
	for (size_t i = 0; i < e->n_mclist; i++) {
		const PacketMclist *m = e->mclist[i];
		struct {
			int ifindex;
			unsigned short type, alen;
			uint8_t addr[ADDR_MAX];
		} mreq = { 0, (unsigned short)m->type, (unsigned short)m->addr.len, { 0 } };
		int r = index_of(m->index, m->ifname, &mreq.ifindex);

		if (r < 0)
			return r;
		if (m->addr.len)
			memcpy(mreq.addr, m->addr.data, m->addr.len);
		/* A long address is taken with the structure's real length only. */
		if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq,
			       (socklen_t)MAX(offsetof(typeof(mreq), addr) + m->addr.len,
					      sizeof(struct packet_mreq))) < 0)
			return log_err(neg_errno(), "cannot join multicast on interface %u",
				       m->index);
	}
	return 0;
}

static int bind_to(int fd, const PacketSockEntry *e)
{
	struct sockaddr_ll a = { .sll_family = AF_PACKET,
				 .sll_protocol = (uint16_t)e->protocol };
	int r = index_of(e->ifindex, e->ifname, &a.sll_ifindex);

	if (r < 0 || (!e->protocol && !e->ifindex))
		return r;
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return log_err(neg_errno(), "cannot bind a packet socket to interface %u",
			       e->ifindex);
	return 0;
}

/* The kernel's own interface numbers and names. */
static int check_interface(const char *what, uint32_t index, const char *name)
{
	if (index > INT32_MAX)
		return log_fail(-EBADMSG, "%s: interface number %u", what, index);
	if (name && strlen(name) >= IF_NAMESIZE)
		return log_fail(-EBADMSG, "%s: interface name \"%s\"", what, name);
	return 0;
}

/* The kernel takes a membership of any type and does nothing for one that it does not know. */
static int check_membership(const PacketMclist *m)
{
	if (m->type > PACKET_MR_UNICAST)
		return log_fail(-EBADMSG, "packet socket: membership of type %u", m->type);
	if (m->addr.len > ADDR_MAX)
		return log_fail(-EBADMSG, "packet socket: multicast address of %zu bytes", m->addr.len);
	return check_interface("packet socket's membership", m->index, m->ifname);
}

int packet_check_entry(const PacketSockEntry *e)
{
	int r = check_interface("packet socket", e->ifindex, e->ifname);

	if (r < 0)
		return r;
	if (e->type != SOCK_RAW && e->type != SOCK_DGRAM)
		return log_fail(-EBADMSG, "packet socket of type %u", e->type);
	if (e->protocol > UINT16_MAX)
		return log_fail(-EBADMSG, "packet socket of protocol %u", e->protocol);
	if (e->rx_ring || e->tx_ring || (e->has_fanout && e->fanout != UINT32_MAX))
		return log_fail(-EOPNOTSUPP, "a packet socket with a memory ring or fanout group");
	for (size_t i = 0; !r && i < e->n_mclist; i++)
		r = check_membership(e->mclist[i]);
	return r < 0 ? r : sk_opts_check(e->opts);
}

static int packet_sort(struct restore_ctx *ctx _unused_, const struct restore_file *f,
		       struct sk_sort *ret, const char **ret_cgroup _unused_)
{
	const PacketSockEntry *e = f->fe->psk;
	int r = packet_check_entry(e);

	if (r < 0)
		return r;
	*ret = (struct sk_sort){ AF_PACKET, (int)e->type, 0 };
	return 1;
}

static int packet_begin(struct restore_ctx *ctx)
{
	return sk_make(ctx, FD_TYPES__PACKETSK, packet_sort);
}

static int packet_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const PacketSockEntry *e = f->fe->psk;
	_cleanup_close_ int fd = -EBADF;
	int r = sk_take(ctx, f, &fd);

	if (!r)
		r = set_options(fd, e);
	if (!r)
		r = sk_opts_restore(fd, e->opts);
	/* The filter before the first packet. */
	if (!r)
		r = sk_opts_restore_late(fd, e->opts);
	if (!r)
		r = bind_to(fd, e);
	if (!r)
		r = join_multicast(fd, e);
	if (!r) {
		r = restore_flags_fown(fd, e->flags, e->fown);
		if (r < 0)
			log_err(r, "cannot set the socket's flags or owner");
	}
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct kind kind_packet = {
	.name = "packet socket",
	.type = FD_TYPES__PACKETSK,
	.match = packet_match,
	.dump = packet_dump,
	.begin = packet_begin,
	.restore = packet_restore,
};
