/*
 * Policy rules (ip-rule(8)), which choose among the routing tables, as the kernel lists them. They name
 * interfaces, and wait for those that come late. What the kernel makes itself is left out; that some of it is
 * taken away is for the new boot's network service.
 */
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "crkexec/machine.h"
#include "crkexec/strv.h"
#include "kernel/policy_rule.h"
#include "util/hex.h"
#include "util/log.h"

#define TRIES	3u

static int add(void *arg, const struct nlmsghdr *h)
{
	struct strv *list = arg;
	int r = policy_rule_check(h);

	if (r < 0 || policy_rule_is_kernels(h))
		return r;
	return strv_add_take(list, hex_text(h, h->nlmsg_len));
}

static int list_family(struct netlink *nl, uint8_t family, struct strv *ret)
{
	struct fib_rule_hdr rule = { .family = family };
	int r = -EAGAIN;

	for (unsigned int i = 0; r == -EAGAIN && i < TRIES; i++) {
		strv_done(ret);
		r = netlink_list(nl, RTM_GETRULE, &rule, sizeof(rule), add, ret);
	}
	/* A kernel without them, or without this family. */
	return r == -EOPNOTSUPP || r == -EPROTONOSUPPORT || r == -EAFNOSUPPORT ? 0 : r;
}

int policy_rules_read(struct manifest *m)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	struct strv all = { m->policy_rules, m->n_policy_rules };
	int r = netlink_open(NETLINK_ROUTE, &nl);

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(families); i++) {
		_cleanup_strv_ struct strv some = { 0 };

		r = list_family(&nl, families[i], &some);
		for (size_t k = 0; r >= 0 && k < some.n; k++)
			r = strv_add(&all, some.v[k]);
	}
	m->policy_rules = all.v;
	m->n_policy_rules = all.n;
	return r < 0 ? log_err(r, "cannot read the policy rules of routing") : 0;
}
