/* The interfaces of the caller's network namespace, as far as netlock needs to know them. */
#ifndef CR_NETLOCK_LINKS_H
#define CR_NETLOCK_LINKS_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#include "netlock/netlock.h"

struct net_link {
	int ifindex;
	char name[IF_NAMESIZE];
	enum netlock_link sort;
	/*
	 * Packets come to it through another interface of this namespace (a bridge, bond, VLAN):
	 * a program there is enough, and one here would forbid it there.
	 */
	bool upper;
};

/* *ret is heap, caller frees. */
int net_links_list(struct net_link **ret, size_t *ret_n) _must_check_;

#endif
