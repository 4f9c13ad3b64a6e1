/*
 * Policy rules of the old kernel, as it listed them: without one of them packets take other routes until the
 * network service runs, so each is tried.
 */
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "initramfs/early_net.h"
#include "kernel/policy_rule.h"
#include "util/hex.h"
#include "util/log.h"

#define RULE_BYTES	2048u	/* what a string of the manifest can hold */

/* Of a manifest's text: nothing of it is believed. */
static int parse(const char *text, struct netlink_msg *ret)
{
	union {
		struct nlmsghdr h;
		char bytes[RULE_BYTES];
	} m;
	size_t n;
	int r = hex_bytes(text, &m, sizeof(m), &n);

	if (r < 0)
		return r;
	if (n < sizeof(m.h) || m.h.nlmsg_len != n)
		return -EBADMSG;
	r = policy_rule_check(&m.h);
	if (r == 0)
		policy_rule_to_add(&m.h, ret);
	return r;
}

static void add(struct netlink *nl, const char *text)
{
	struct netlink_msg m;
	int r = parse(text, &m);

	if (r < 0) {
		log_warn("going on without a policy rule that is none");
		return;
	}
	m.u.h.nlmsg_flags |= NLM_F_EXCL;
	r = netlink_send(nl, &m);
	if (r < 0 && r != -EEXIST)
		log_warn("going on without the %s policy rule of priority %u: %s%s",
			 ((const struct fib_rule_hdr *)NLMSG_DATA(&m.u.h))->family == AF_INET ? "IPv4" : "IPv6",
			 policy_rule_priority(&m.u.h), strerror(-r), nl->why);
}

void early_policy_rules_add(const struct manifest *m)
{
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;

	if (m->n_policy_rules && netlink_open(NETLINK_ROUTE, &nl) < 0) {
		log_warn("going on without the policy rules: no rtnetlink socket");
		return;
	}
	for (size_t i = 0; i < m->n_policy_rules; i++)
		add(&nl, m->policy_rules[i]);
}
