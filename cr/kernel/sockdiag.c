/* See sockdiag.h. Requests and answers: linux/{sock,unix,inet,packet}_diag.h, sock_diag(7). */
#include "kernel/sockdiag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/packet_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <string.h>
#include <sys/socket.h>

/* TIME_WAIT and the kernel's own SYN_RECV entries have no descriptor. */
#define INET_STATES	(~((1u << 6) | (1u << 12)))

const char *sockdiag_module(enum sockdiag_sort sort)
{
	switch (sort) {
	case SOCKDIAG_UNIX:
		return "unix_diag (CONFIG_UNIX_DIAG)";
	case SOCKDIAG_TCP:
		return "tcp_diag (CONFIG_INET_TCP_DIAG)";
	case SOCKDIAG_UDP:
		return "udp_diag (CONFIG_INET_UDP_DIAG)";
	default:
		return "af_packet_diag (CONFIG_PACKET_DIAG)";
	}
}

/* Attributes, one at a time; *pos moves. 1: got one, 0: end, -EBADMSG. */
static int attr_next(const uint8_t *data, size_t bytes, size_t *pos, uint16_t *ret_type,
		     const uint8_t **ret, size_t *ret_len)
{
	struct nlattr a;

	if (*pos >= bytes || bytes - *pos < sizeof(a))
		return 0;
	memcpy(&a, data + *pos, sizeof(a));
	if (a.nla_len < sizeof(a) || a.nla_len > bytes - *pos)
		return -EBADMSG;
	*ret_type = a.nla_type & NLA_TYPE_MASK;
	*ret = data + *pos + sizeof(a);
	*ret_len = a.nla_len - sizeof(a);
	*pos += NLA_ALIGN((size_t)a.nla_len);
	return 1;
}

static uint32_t get_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static int unix_attr(struct sockdiag *s, struct arena *a, uint16_t type, const uint8_t *p,
		     size_t len)
{
	switch (type) {
	case UNIX_DIAG_NAME:
		/* A path comes with its NUL or without, as it was given to bind(2). */
		while (len && p[0] && !p[len - 1])
			len--;
		s->name = arena_memdup(a, p, len);
		s->name_len = len;
		return s->name || !len ? 0 : -ENOMEM;
	case UNIX_DIAG_VFS:
		if (len < 8)
			return -EBADMSG;
		s->vfs_ino = get_u32(p);
		s->vfs_dev = get_u32(p + 4);
		s->has_vfs = true;
		return 0;
	case UNIX_DIAG_PEER:
		if (len < 4)
			return -EBADMSG;
		s->peer = get_u32(p);
		return 0;
	case UNIX_DIAG_ICONS:
		s->n_waiting = len / 4;
		s->waiting = arena_memdup(a, p, s->n_waiting * 4);
		return s->waiting || !s->n_waiting ? 0 : -ENOMEM;
	case UNIX_DIAG_RQLEN:
		if (len < 8)
			return -EBADMSG;
		s->rqueue = get_u32(p);
		s->wqueue = get_u32(p + 4);
		return 0;
	case UNIX_DIAG_SHUTDOWN:
		if (!len)
			return -EBADMSG;
		s->shutdown = p[0];
		return 0;
	}
	return 0;
}

static int inet_attr(struct sockdiag *s, uint16_t type, const uint8_t *p, size_t len)
{
	switch (type) {
	case INET_DIAG_SHUTDOWN:
		if (!len)
			return -EBADMSG;
		s->shutdown = p[0];
		return 0;
	case INET_DIAG_CGROUP_ID:
		if (len < sizeof(s->cgroup))
			return -EBADMSG;
		memcpy(&s->cgroup, p, sizeof(s->cgroup));
		return 0;
	case INET_DIAG_MD5SIG:
		s->md5 = len > 0;
		return 0;
	case INET_DIAG_ULP_INFO: {
		size_t pos = 0;
		const uint8_t *q;
		size_t n;
		uint16_t t;

		while (attr_next(p, len, &pos, &t, &q, &n) > 0)
			if (t == INET_ULP_INFO_NAME) {
				n = MIN(n, sizeof(s->ulp) - 1);
				memcpy(s->ulp, q, n);
				s->ulp[n] = '\0';
			}
		return 0;
	}
	}
	return 0;
}

static int packet_mcs(struct sockdiag *s, struct arena *a, const uint8_t *p, size_t len)
{
	struct packet_diag_mclist m;

	for (; len >= sizeof(m); p += sizeof(m), len -= sizeof(m)) {
		struct sockdiag_mc *mc = ARENA_PUSH(a, s->mc, s->n_mc);

		if (!mc)
			return -ENOMEM;
		memcpy(&m, p, sizeof(m));
		if (m.pdmc_alen > sizeof(mc->addr))
			return -EBADMSG;
		mc->ifindex = (int)m.pdmc_index;
		mc->count = m.pdmc_count;
		mc->type = m.pdmc_type;
		mc->addr_len = m.pdmc_alen;
		memcpy(mc->addr, m.pdmc_addr, m.pdmc_alen);
	}
	return 0;
}

static int packet_attr(struct sockdiag *s, struct arena *a, uint16_t type, const uint8_t *p,
		       size_t len)
{
	switch (type) {
	case PACKET_DIAG_MCLIST:
		return packet_mcs(s, a, p, len);
	case PACKET_DIAG_RX_RING:
		s->rx_ring = true;
		return 0;
	case PACKET_DIAG_TX_RING:
		s->tx_ring = true;
		return 0;
	case PACKET_DIAG_FANOUT:
		s->fanout = true;
		return 0;
	}
	return 0;
}

int sockdiag_parse(enum sockdiag_sort sort, const void *data, size_t bytes, struct arena *a,
		   struct sockdiag *s)
{
	const size_t heads[SOCKDIAG_SORTS] = {
		[SOCKDIAG_UNIX] = sizeof(struct unix_diag_msg),
		[SOCKDIAG_TCP] = sizeof(struct inet_diag_msg),
		[SOCKDIAG_UDP] = sizeof(struct inet_diag_msg),
		[SOCKDIAG_PACKET] = sizeof(struct packet_diag_msg),
	};
	size_t pos = NLA_ALIGN(heads[sort]), len;
	const uint8_t *p;
	uint16_t type;
	int r;

	*s = (struct sockdiag){ .sort = sort };
	if (bytes < heads[sort])
		return -EBADMSG;
	if (sort == SOCKDIAG_UNIX) {
		const struct unix_diag_msg *m = data;

		s->family = AF_UNIX;
		s->type = m->udiag_type;
		s->state = m->udiag_state;
		s->ino = m->udiag_ino;
	} else if (sort == SOCKDIAG_PACKET) {
		const struct packet_diag_msg *m = data;

		s->family = AF_PACKET;
		s->type = m->pdiag_type;
		s->ino = m->pdiag_ino;
	} else {
		const struct inet_diag_msg *m = data;

		s->family = m->idiag_family;
		s->type = sort == SOCKDIAG_TCP ? SOCK_STREAM : SOCK_DGRAM;
		s->state = m->idiag_state;
		s->ino = m->idiag_inode;
		s->rqueue = m->idiag_rqueue;
		s->wqueue = m->idiag_wqueue;
		memcpy(s->src, m->id.idiag_src, sizeof(s->src));
		s->src_port = ntohs(m->id.idiag_sport);
		memcpy(s->dst, m->id.idiag_dst, sizeof(s->dst));
		s->dst_port = ntohs(m->id.idiag_dport);
	}
	while ((r = attr_next(data, bytes, &pos, &type, &p, &len)) > 0) {
		if (sort == SOCKDIAG_UNIX)
			r = unix_attr(s, a, type, p, len);
		else if (sort == SOCKDIAG_PACKET)
			r = packet_attr(s, a, type, p, len);
		else
			r = inet_attr(s, type, p, len);
		if (r < 0)
			return r;
	}
	return r;
}

struct sweep {
	enum sockdiag_sort sort;
	struct arena *a;
	struct map *by_ino;
	struct sockdiag **listeners;	/* unix, with waiting clients */
	size_t n_listeners;
	int error;
};

static int sweep_valid(struct nl_msg *msg, void *arg)
{
	struct sweep *w = arg;
	struct nlmsghdr *h = nlmsg_hdr(msg);
	struct sockdiag *s;

	if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return NL_OK;
	s = ARENA_NEW(w->a, struct sockdiag);
	w->error = s ? sockdiag_parse(w->sort, NLMSG_DATA(h), (size_t)nlmsg_datalen(h), w->a, s)
		     : -ENOMEM;
	if (!w->error && s->ino)
		w->error = map_put(w->by_ino, s->ino, s);
	if (!w->error && s->n_waiting) {
		struct sockdiag **l = ARENA_PUSH(w->a, w->listeners, w->n_listeners);

		if (l)
			*l = s;
		else
			w->error = -ENOMEM;
	}
	return w->error ? NL_STOP : NL_OK;
}

static int sweep_error(struct sockaddr_nl *from _unused_, struct nlmsgerr *e, void *arg)
{
	struct sweep *w = arg;

	w->error = e->error < 0 ? e->error : -EIO;
	return NL_STOP;
}

static int sweep_ask(struct nl_sock *nl, struct sweep *w, int family, int protocol)
{
	union {
		struct unix_diag_req u;
		struct inet_diag_req_v2 i;
		struct packet_diag_req p;
	} req = { 0 };
	size_t len;
	struct nl_msg *msg;
	int r;

	if (w->sort == SOCKDIAG_UNIX) {
		len = sizeof(req.u);
		req.u.sdiag_family = AF_UNIX;
		req.u.udiag_states = ~0u;
		req.u.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER |
				   UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN;
	} else if (w->sort == SOCKDIAG_PACKET) {
		len = sizeof(req.p);
		req.p.sdiag_family = AF_PACKET;
		req.p.pdiag_show = PACKET_SHOW_INFO | PACKET_SHOW_MCLIST |
				   PACKET_SHOW_RING_CFG | PACKET_SHOW_FANOUT;
	} else {
		len = sizeof(req.i);
		req.i.sdiag_family = (uint8_t)family;
		req.i.sdiag_protocol = (uint8_t)protocol;
		req.i.idiag_states = INET_STATES;
		/* Keys and upper layers are told only to those who ask for TCP_INFO as well. */
		if (w->sort == SOCKDIAG_TCP)
			req.i.idiag_ext = 1 << (INET_DIAG_INFO - 1);
	}
	msg = nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP);
	if (!msg)
		return -ENOMEM;
	r = nlmsg_append(msg, &req, len, NLMSG_ALIGNTO);
	if (r >= 0)
		r = nl_send_auto(nl, msg);
	nlmsg_free(msg);
	if (r < 0)
		return -EIO;
	r = nl_recvmsgs_default(nl);
	if (w->error)
		return w->error;
	return r < 0 ? -EIO : 0;
}

static int sweep_socket(struct nl_sock *nl, struct sweep *w)
{
	struct nl_cb *cb = nl_socket_get_cb(nl);
	int proto = w->sort == SOCKDIAG_TCP ? IPPROTO_TCP : IPPROTO_UDP, r;

	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, sweep_valid, w);
	nl_cb_err(cb, NL_CB_CUSTOM, sweep_error, w);
	nl_cb_put(cb);
	if (w->sort == SOCKDIAG_UNIX || w->sort == SOCKDIAG_PACKET)
		return sweep_ask(nl, w, 0, 0);
	r = sweep_ask(nl, w, AF_INET, proto);
	if (r < 0)
		return r;
	r = sweep_ask(nl, w, AF_INET6, proto);
	/* A kernel without IPv6 has no such sockets. */
	return r == -ENOENT ? 0 : r;
}

/* A client in a listener's accept queue has no peer yet; the listener knows it. */
static void mark_waiting(struct sweep *w)
{
	for (size_t i = 0; i < w->n_listeners; i++) {
		const struct sockdiag *l = w->listeners[i];

		for (size_t j = 0; j < l->n_waiting; j++) {
			struct sockdiag *c = map_get(w->by_ino, l->waiting[j]);

			if (l->waiting[j] && c && c->sort == SOCKDIAG_UNIX)
				c->listener = l->ino;
		}
	}
}

int sockdiag_sweep(enum sockdiag_sort sort, struct arena *a, struct map *by_ino)
{
	struct sweep w = { .sort = sort, .a = a, .by_ino = by_ino };
	struct nl_sock *nl = nl_socket_alloc();
	int r;

	if (!nl)
		return -ENOMEM;
	r = nl_connect(nl, NETLINK_SOCK_DIAG) < 0 ? -EPROTONOSUPPORT : 0;
	if (!r) {
		(void)nl_socket_set_msg_buf_size(nl, 64 << 10);
		r = sweep_socket(nl, &w);
	}
	nl_socket_free(nl);
	if (!r)
		mark_waiting(&w);
	return r;
}
