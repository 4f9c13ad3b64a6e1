/* Policy rules, ip-rule(8): those the kernel lists (RTM_GETRULE) as messages that add them again. */
#ifndef CR_KERNEL_POLICY_RULE_H
#define CR_KERNEL_POLICY_RULE_H

#include "kernel/netlink.h"

/* As the kernel listed it: message, family (IPv4, IPv6) and attributes within bounds. Else -EBADMSG. */
int policy_rule_check(const struct nlmsghdr *h) _must_check_;
/* Of a checked one: made by the kernel itself, with the namespace or its first VRF. */
bool policy_rule_is_kernels(const struct nlmsghdr *h);
uint32_t policy_rule_priority(const struct nlmsghdr *h);
/* RTM_NEWRULE with NLM_F_CREATE that makes a checked one. */
void policy_rule_to_add(const struct nlmsghdr *h, struct netlink_msg *ret);

#endif
