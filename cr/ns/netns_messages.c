/* Images that are rtnetlink messages as the kernel gave them: the form of `ip ... save`. */
#include <string.h>

#include "ns/netns.h"

#define MESSAGES_MAX	(1u << 20)

struct listing {
	struct arena *a;
	netns_wants_fn wants;
	struct netns_messages *to;
};

static int keep(void *arg, const struct nlmsghdr *h)
{
	struct listing *l = arg;
	const struct nlmsghdr *copy;
	const struct nlmsghdr **slot;

	if (l->wants && !l->wants(h))
		return 0;
	if (l->to->n >= MESSAGES_MAX)
		return -E2BIG;
	copy = arena_memdup(l->a, h, h->nlmsg_len);
	slot = ARENA_PUSH(l->a, l->to->msgs, l->to->n);
	if (!copy || !slot)
		return -ENOMEM;
	*slot = copy;
	return 0;
}

int netns_messages_list(struct arena *a, struct netlink *nl, uint16_t type, const void *head,
			size_t head_bytes, netns_wants_fn wants, struct netns_messages *ret)
{
	struct listing l = { a, wants, ret };
	size_t before = ret->n;
	int r = -EAGAIN;

	/* Nobody changes them but the kernel's own timers. */
	for (unsigned int try = 0; r == -EAGAIN && try < 10; try++) {
		ret->n = before;
		r = netlink_list(nl, type, head, head_bytes, keep, &l);
	}
	return r;
}

int netns_messages_write(struct image_store *s, const struct image_type *type, uint32_t id,
			 uint32_t magic, const struct netns_messages *m)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r = image_create(s, type, &w, id);

	if (r >= 0)
		r = image_put_raw(w, &magic, sizeof(magic));
	for (size_t i = 0; r >= 0 && i < m->n; i++) {
		static const char pad[NLMSG_ALIGNTO];
		size_t bytes = m->msgs[i]->nlmsg_len;

		r = image_put_raw(w, m->msgs[i], bytes);
		if (r >= 0 && bytes % NLMSG_ALIGNTO)
			r = image_put_raw(w, pad, NLMSG_ALIGN(bytes) - bytes);
	}
	return r < 0 ? r : image_close(take_ptr(w));
}

static int split(struct arena *a, const struct image_reader *rd, uint16_t msg_type,
		 size_t head_bytes, struct netns_messages *ret)
{
	size_t at = sizeof(uint32_t);

	while (at < rd->bytes) {
		const struct nlmsghdr **slot, *copy;
		struct nlmsghdr h;

		if (rd->bytes - at < sizeof(h))
			return log_fail(-EBADMSG, "%s: ends inside a message", rd->name);
		memcpy(&h, rd->data + at, sizeof(h));
		if (h.nlmsg_len < NLMSG_LENGTH(head_bytes) || h.nlmsg_len > rd->bytes - at ||
		    h.nlmsg_type != msg_type || ret->n >= MESSAGES_MAX)
			return log_fail(-EBADMSG, "%s: bad message of type %u and %u bytes at %zu",
					rd->name, h.nlmsg_type, h.nlmsg_len, at);
		copy = arena_memdup(a, rd->data + at, h.nlmsg_len);
		slot = ARENA_PUSH(a, ret->msgs, ret->n);
		if (!copy || !slot)
			return -ENOMEM;
		*slot = copy;
		at += MIN((size_t)NLMSG_ALIGN(h.nlmsg_len), rd->bytes - at);
	}
	return 0;
}

int netns_messages_read(struct image_store *s, struct arena *a, const struct image_type *type,
			uint32_t id, uint32_t magic, uint16_t msg_type, size_t head_bytes,
			struct netns_messages *ret)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	uint32_t is;
	int r = image_open_optional(s, type, &rd, id);

	*ret = (struct netns_messages){ 0 };
	if (r < 0 || !rd.bytes)
		return r;
	if (rd.bytes < sizeof(is))
		return log_fail(-EBADMSG, "%s: %zu bytes", rd.name, rd.bytes);
	memcpy(&is, rd.data, sizeof(is));
	if (is != magic)
		return log_fail(-EBADMSG, "%s: begins with 0x%08x, not 0x%08x", rd.name, is, magic);
	return split(a, &rd, msg_type, head_bytes, ret);
}
