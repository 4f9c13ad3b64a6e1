/* Network of the old kernel, put back by netlink. Private to early_net*.c and early_guard.c. */
#ifndef INITRAMFS_EARLY_NET_H
#define INITRAMFS_EARLY_NET_H

#include <netlink/route/link.h>

#include "initramfs/early.h"

#define NET_LO	1	/* lo's index, in every namespace */

struct nl_sock *net_open(void);
/* Interface index of a real device (not VLAN, bridge, …) by its address; 0: not there. */
int net_find_mac(struct nl_sock *sk, const char *mac) _must_check_;
int net_set_name(struct nl_sock *sk, int ifindex, const char *name) _must_check_;
/* Loopback as well: trees talk to themselves. */
int net_up(struct nl_sock *sk, int ifindex, uint32_t mtu) _must_check_;
int net_add_address(struct nl_sock *sk, int ifindex, const struct manifest_address *a)
	_must_check_;
/*
 * early_netstack.c: all that the manifest has over devices, which have their names and are down. -EACCES: one
 * could not be locked, nothing may come up; other errors: some are missing.
 */
int early_netstack_make(struct early *e) _must_check_;
/* early_policy_rules.c: what cannot be added is said. */
void early_policy_rules_add(const struct manifest *m);
/* ifindex is that of route->dev, 0 if it has none. */
int net_add_route(struct nl_sock *sk, const struct manifest_route *route, int ifindex)
	_must_check_;

#endif
