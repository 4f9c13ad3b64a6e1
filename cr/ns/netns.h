/* What the files of a network namespace share. All of them work from inside of it. */
#ifndef CR_NS_NETNS_H
#define CR_NS_NETNS_H

#include "kernel/netlink.h"
#include "ns/state.h"

/* An image of netlink messages: a magic number, then headers and payloads as the kernel wrote them. */
struct netns_messages {
	const struct nlmsghdr **msgs;	/* whole, aligned */
	size_t n;
};
typedef bool (*netns_wants_fn)(const struct nlmsghdr *h);
/* Those of a listing that wants() names, appended. Silent. */
int netns_messages_list(struct arena *a, struct netlink *nl, uint16_t type, const void *head,
			size_t head_bytes, netns_wants_fn wants, struct netns_messages *ret)
	_must_check_;
int netns_messages_write(struct image_store *s, const struct image_type *type, uint32_t id,
			 uint32_t magic, const struct netns_messages *m) _must_check_;
/* Every message is of the given type and longer than its fixed header. A missing file is empty. */
int netns_messages_read(struct image_store *s, struct arena *a, const struct image_type *type,
			uint32_t id, uint32_t magic, uint16_t msg_type, size_t head_bytes,
			struct netns_messages *ret) _must_check_;

/* netns_addr.c: addresses, routes, rules, permanent neighbours. */
int netns_addr_check(struct netlink *nl) _must_check_;
int netns_addr_dump(struct dump_ctx *ctx, struct netlink *nl, NetnsEntry *e, uint32_t id)
	_must_check_;
int netns_addr_restore(struct restore_ctx *ctx, struct netlink *nl, const NetnsEntry *e,
		       uint32_t id) _must_check_;

/* netns_lo.c: waits until what has been added to lo can be used. */
int netns_lo_settle(struct arena *a, struct netlink *nl) _must_check_;

/* netns_link.c, netns_link_make.c */
int netns_link_check(struct dump_ctx *ctx, struct netlink *nl) _must_check_;
int netns_link_dump(struct dump_ctx *ctx, struct netlink *nl, uint32_t id) _must_check_;
/* Kinds that need nothing but to be made. */
bool netns_link_is_plain(const char *kind);
/* The text after "veth[NAME]:" of --external, or NULL. */
const char *netns_veth_outside(const struct cr_opts *o, const char *name);
struct netns_links {
	uint32_t ns_id;
	NetDeviceEntry **links;
	size_t n;
};
int netns_link_read(struct restore_ctx *ctx, uint32_t id, struct netns_links *ret) _must_check_;
/* All of them, down. */
int netns_link_make(struct restore_ctx *ctx, struct netlink *nl, const struct netns_links *l)
	_must_check_;
int netns_link_up(struct restore_ctx *ctx, struct netlink *nl, const struct netns_links *l)
	_must_check_;

/* netns_filter.c: packet filter rules. */
/* What it finds netns_filter_dump() writes: nft takes a while, and the tree stands. */
int netns_filter_check(struct dump_ctx *ctx) _must_check_;
int netns_filter_dump(struct dump_ctx *ctx, uint32_t id) _must_check_;
int netns_filter_restore(struct restore_ctx *ctx, uint32_t id) _must_check_;
/* The rules of an image without CRIU's network lock, which its dump leaves in; heap. For tests. */
char *netns_filter_unlock(const char *rules, size_t bytes, size_t *ret_bytes);

/* netns_sysctl.c. Those of interfaces when these are there, and not up yet. */
int netns_conf_dump(struct arena *a, NetnsEntry *e) _must_check_;
int netns_conf_dump_link(struct arena *a, NetDeviceEntry *e) _must_check_;
int netns_conf_restore(const NetnsEntry *e) _must_check_;
int netns_conf_restore_link(const NetDeviceEntry *e) _must_check_;
int netns_conf_restore_links(const NetnsEntry *e) _must_check_;

#endif
