/*
 * The trap: the kernel does not tell a priority of 0, and one that is not told it chooses itself, before the
 * rules that are there.
 */
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "kernel/policy_rule.h"

int policy_rule_check(const struct nlmsghdr *h)
{
	const struct nlattr *tb[FRA_MAX + 1];
	const struct fib_rule_hdr *rule = NLMSG_DATA(h);
	int r = h->nlmsg_type == RTM_NEWRULE ? netlink_msg_attrs(h, sizeof(*rule), tb, FRA_MAX) : -EBADMSG;

	if (r < 0)
		return r;
	return rule->family == AF_INET || rule->family == AF_INET6 ? 0 : -EBADMSG;
}

/* NULL: it has none. */
static const struct nlattr *attr_of(const struct nlmsghdr *h, unsigned int type)
{
	const struct nlattr *tb[FRA_MAX + 1];

	return netlink_msg_attrs(h, sizeof(struct fib_rule_hdr), tb, FRA_MAX) < 0 ? NULL : tb[type];
}

bool policy_rule_is_kernels(const struct nlmsghdr *h)
{
	const struct nlattr *by = attr_of(h, FRA_PROTOCOL);

	return by && nl_bytes(by) && *(const uint8_t *)nl_data(by) == RTPROT_KERNEL;
}

uint32_t policy_rule_priority(const struct nlmsghdr *h)
{
	return nl_u32(attr_of(h, FRA_PRIORITY));
}

void policy_rule_to_add(const struct nlmsghdr *h, struct netlink_msg *ret)
{
	struct fib_rule_hdr rule = *(const struct fib_rule_hdr *)NLMSG_DATA(h);
	size_t skip = NLMSG_SPACE(sizeof(rule));

	/* The others tell a state: interfaces that are not there. */
	rule.flags &= FIB_RULE_INVERT;
	netlink_begin(ret, RTM_NEWRULE, NLM_F_CREATE, &rule, sizeof(rule));
	if (h->nlmsg_len > skip)
		netlink_put_raw(ret, (const char *)h + skip, h->nlmsg_len - skip);
	if (!attr_of(h, FRA_PRIORITY))
		netlink_put_u32(ret, FRA_PRIORITY, 0);
}
