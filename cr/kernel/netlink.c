/* See netlink.h; netlink(7), rtnetlink(7). */
#include "kernel/netlink.h"

#include <string.h>
#include <sys/socket.h>

#define ANSWER_BYTES	(64u << 10)

int netlink_open(int protocol, struct netlink *ret)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), on = 1;

	if (fd < 0)
		return neg_errno();
	/* Nice to have: words with errors, without the request repeated. */
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	*ret = (struct netlink){ .fd = fd };
	return 0;
}

void netlink_close(struct netlink *nl)
{
	close_fdp(&nl->fd);
	nl->fd = -EBADF;
}

static int send_all(struct netlink *nl, const void *p, size_t bytes)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	ssize_t n = sendto(nl->fd, p, bytes, 0, (struct sockaddr *)&kernel, sizeof(kernel));

	if (n < 0)
		return neg_errno();
	return (size_t)n == bytes ? 0 : -EIO;
}

/* The kernel's own words only; bytes, or negative errno. */
static ssize_t receive(struct netlink *nl, void *buf, size_t size)
{
	for (;;) {
		struct sockaddr_nl from = { 0 };
		struct iovec iov = { buf, size };
		struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from),
				    .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n = recvmsg(nl->fd, &m, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return neg_errno();
		if (m.msg_flags & MSG_TRUNC)
			return -EMSGSIZE;
		if (!from.nl_pid)
			return n;
	}
}

static int error_of(struct netlink *nl, const struct nlmsghdr *h)
{
	const struct nlattr *tb[NLMSGERR_ATTR_MAX + 1];
	size_t head = h->nlmsg_type == NLMSG_ERROR ? sizeof(struct nlmsgerr) : sizeof(int);
	int code = 0;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(code)))
		return -EBADMSG;
	memcpy(&code, NLMSG_DATA(h), sizeof(code));
	nl->why[0] = '\0';
	if (h->nlmsg_flags & NLM_F_ACK_TLVS && h->nlmsg_flags & NLM_F_CAPPED &&
	    netlink_msg_attrs(h, head, tb, NLMSGERR_ATTR_MAX) >= 0 && nl_text(tb[NLMSGERR_ATTR_MSG]))
		snprintf(nl->why, sizeof(nl->why), " (%s)", nl_text(tb[NLMSGERR_ATTR_MSG]));
	return code > 0 ? -EBADMSG : code;
}

/* 1: go on, 0: the end. *interrupted: NLM_F_DUMP_INTR was seen. */
static int take(struct netlink *nl, const struct nlmsghdr *h, netlink_fn fn, void *arg,
		bool *interrupted)
{
	int r;

	*interrupted |= h->nlmsg_flags & NLM_F_DUMP_INTR;
	if (h->nlmsg_type == NLMSG_ERROR)
		return error_of(nl, h);
	if (h->nlmsg_type == NLMSG_DONE)
		return h->nlmsg_len >= NLMSG_LENGTH(sizeof(int)) ? error_of(nl, h) : 0;
	if (h->nlmsg_type < NLMSG_MIN_TYPE)
		return 1;
	r = fn ? fn(arg, h) : 0;
	return r < 0 ? r : 1;
}

static int answers(struct netlink *nl, netlink_fn fn, void *arg)
{
	_cleanup_free_ char *buf = malloc(ANSWER_BYTES);
	bool interrupted = false;

	if (!buf)
		return -ENOMEM;
	for (;;) {
		ssize_t n = receive(nl, buf, ANSWER_BYTES);
		struct nlmsghdr *h = (void *)buf;

		if (n < 0)
			return (int)n;
		for (int left = (int)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			int r = h->nlmsg_seq == nl->seq ? take(nl, h, fn, arg, &interrupted) : 1;

			if (r <= 0)
				return r || !interrupted ? r : -EAGAIN;
		}
	}
}

int netlink_list(struct netlink *nl, uint16_t type, const void *head, size_t head_bytes,
		 netlink_fn fn, void *arg)
{
	union {
		struct nlmsghdr h;
		char room[256];
	} m = { .h = { .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };
	int r;

	if (head_bytes > sizeof(m) - NLMSG_HDRLEN)
		return -EMSGSIZE;
	m.h.nlmsg_len = (uint32_t)NLMSG_LENGTH(head_bytes);
	m.h.nlmsg_seq = ++nl->seq;
	memcpy(NLMSG_DATA(&m.h), head, head_bytes);
	r = send_all(nl, &m, m.h.nlmsg_len);
	return r < 0 ? r : answers(nl, fn, arg);
}

int netlink_do(struct netlink *nl, struct nlmsghdr *h)
{
	int r;

	h->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	h->nlmsg_seq = ++nl->seq;
	h->nlmsg_pid = 0;
	r = send_all(nl, h, h->nlmsg_len);
	return r < 0 ? r : answers(nl, NULL, NULL);
}

int netlink_attrs(const void *data, size_t bytes, const struct nlattr **tb, unsigned int max)
{
	const char *p = data;

	memset(tb, 0, (max + 1) * sizeof(*tb));
	while (bytes >= NLA_HDRLEN) {
		const struct nlattr *a = (const void *)p;
		unsigned int type = a->nla_type & NLA_TYPE_MASK;
		size_t step;

		if (a->nla_len < NLA_HDRLEN || a->nla_len > bytes)
			return -EBADMSG;
		if (type <= max)
			tb[type] = a;
		step = MIN((size_t)NLA_ALIGN(a->nla_len), bytes);
		p += step;
		bytes -= step;
	}
	return bytes ? -EBADMSG : 0;
}

int netlink_msg_attrs(const struct nlmsghdr *h, size_t head_bytes, const struct nlattr **tb,
		      unsigned int max)
{
	size_t skip = NLMSG_SPACE(head_bytes);

	if (h->nlmsg_len < NLMSG_LENGTH(head_bytes))
		return -EBADMSG;
	return netlink_attrs((const char *)h + skip, h->nlmsg_len > skip ? h->nlmsg_len - skip : 0,
			     tb, max);
}

int netlink_nested_attrs(const struct nlattr *a, const struct nlattr **tb, unsigned int max)
{
	return netlink_attrs(a ? nl_data(a) : NULL, a ? nl_bytes(a) : 0, tb, max);
}

uint32_t nl_u32(const struct nlattr *a)
{
	uint32_t v = 0;

	if (a && nl_bytes(a) >= sizeof(v))
		memcpy(&v, nl_data(a), sizeof(v));
	return v;
}

const char *nl_text(const struct nlattr *a)
{
	return a && memchr(nl_data(a), '\0', nl_bytes(a)) ? nl_data(a) : NULL;
}

void netlink_begin(struct netlink_msg *m, uint16_t type, uint16_t flags, const void *head,
		   size_t head_bytes)
{
	memset(m, 0, sizeof(*m));
	m->u.h.nlmsg_type = type;
	m->u.h.nlmsg_flags = flags;
	m->u.h.nlmsg_len = NLMSG_HDRLEN;
	netlink_put_raw(m, head, head_bytes);
}

void netlink_put_raw(struct netlink_msg *m, const void *data, size_t bytes)
{
	size_t at = NLMSG_ALIGN(m->u.h.nlmsg_len);

	if (m->full || bytes > sizeof(m->u.bytes) - at) {
		m->full = true;
		return;
	}
	memcpy(m->u.bytes + at, data, bytes);
	m->u.h.nlmsg_len = (uint32_t)(at + bytes);
}

void netlink_put(struct netlink_msg *m, uint16_t type, const void *data, size_t bytes)
{
	struct nlattr a = { .nla_type = type };

	if (bytes > UINT16_MAX - NLA_HDRLEN) {
		m->full = true;
		return;
	}
	a.nla_len = (uint16_t)(NLA_HDRLEN + bytes);
	netlink_put_raw(m, &a, sizeof(a));
	if (bytes)
		netlink_put_raw(m, data, bytes);
}

void netlink_put_listed(struct netlink_msg *m, const struct nlattr *const *tb, const uint16_t *types)
{
	for (; *types; types++)
		if (tb[*types])
			netlink_put(m, *types, nl_data(tb[*types]), nl_bytes(tb[*types]));
}

size_t netlink_nest(struct netlink_msg *m, uint16_t type)
{
	size_t at = NLMSG_ALIGN(m->u.h.nlmsg_len);

	netlink_put(m, type, NULL, 0);
	return at;
}

void netlink_nest_end(struct netlink_msg *m, size_t at)
{
	struct nlattr a;

	if (m->full)
		return;
	memcpy(&a, m->u.bytes + at, sizeof(a));
	a.nla_len = (uint16_t)(m->u.h.nlmsg_len - at);
	memcpy(m->u.bytes + at, &a, sizeof(a));
}

int netlink_send(struct netlink *nl, struct netlink_msg *m)
{
	return m->full ? -EMSGSIZE : netlink_do(nl, &m->u.h);
}
