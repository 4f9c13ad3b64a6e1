/*
 * A netlink socket in the network namespace of the calling thread, for messages that are kept and
 * replayed as the kernel wrote them. One request at a time.
 */
#ifndef CR_KERNEL_NETLINK_H
#define CR_KERNEL_NETLINK_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/macro.h"

struct netlink {
	int fd;
	uint32_t seq;
	char why[120];	/* what the kernel says besides the number of the last error, or "" */
};
#define NETLINK_INIT { .fd = -EBADF }

/* protocol: NETLINK_ROUTE ... It stays in the namespace it was made in. */
int netlink_open(int protocol, struct netlink *ret) _must_check_;
void netlink_close(struct netlink *nl);
#define _cleanup_netlink_ _cleanup_(netlink_close)

/* One message of an answer, whole within nlmsg_len. A negative return ends the listing. */
typedef int (*netlink_fn)(void *arg, const struct nlmsghdr *h);
/*
 * NLM_F_DUMP of type with this fixed header. -EAGAIN: the objects changed meanwhile, and what fn
 * was given is no consistent state. -EOPNOTSUPP, -EPROTONOSUPPORT: the kernel has none of it.
 */
int netlink_list(struct netlink *nl, uint16_t type, const void *head, size_t head_bytes,
		 netlink_fn fn, void *arg) _must_check_;
/* Sends a message (its flags are completed by REQUEST and ACK) and waits for the kernel's verdict. */
int netlink_do(struct netlink *nl, struct nlmsghdr *h) _must_check_;

/*
 * Attributes: tb[0..max] by type; those above max are left out. -EBADMSG when one reaches beyond
 * bytes. Nested flags in types are cut off.
 */
struct nlattr;
int netlink_attrs(const void *data, size_t bytes, const struct nlattr **tb, unsigned int max)
	_must_check_;
/* Of a message with a fixed header of head_bytes. */
int netlink_msg_attrs(const struct nlmsghdr *h, size_t head_bytes, const struct nlattr **tb,
		      unsigned int max) _must_check_;
/* Of an attribute; none when it is NULL. */
int netlink_nested_attrs(const struct nlattr *a, const struct nlattr **tb, unsigned int max)
	_must_check_;
static inline const void *nl_data(const struct nlattr *a)
{
	return (const char *)a + NLA_HDRLEN;
}
static inline size_t nl_bytes(const struct nlattr *a)
{
	return a->nla_len - (size_t)NLA_HDRLEN;
}
/* 0 when it is not there or too short. */
uint32_t nl_u32(const struct nlattr *a);
/* NULL when it is not there or no text with an end. */
const char *nl_text(const struct nlattr *a);

/* A message to be sent: header, fixed part, attributes. Too much is remembered: netlink_put_done(). */
struct netlink_msg {
	union {
		struct nlmsghdr h;
		char bytes[8192];
	} u;
	bool full;
};
void netlink_begin(struct netlink_msg *m, uint16_t type, uint16_t flags, const void *head,
		   size_t head_bytes);
void netlink_put(struct netlink_msg *m, uint16_t type, const void *data, size_t bytes);
static inline void netlink_put_u32(struct netlink_msg *m, uint16_t type, uint32_t v)
{
	netlink_put(m, type, &v, sizeof(v));
}
/* Those of tb whose types are listed, up to a 0. */
void netlink_put_listed(struct netlink_msg *m, const struct nlattr *const *tb, const uint16_t *types);
/* Returns where the nest begins, for netlink_nest_end(). */
size_t netlink_nest(struct netlink_msg *m, uint16_t type);
void netlink_nest_end(struct netlink_msg *m, size_t at);
/* Bytes as they are: fixed part of a nested message. */
void netlink_put_raw(struct netlink_msg *m, const void *data, size_t bytes);
/* netlink_do(), -EMSGSIZE when it did not fit. */
int netlink_send(struct netlink *nl, struct netlink_msg *m) _must_check_;

#endif
