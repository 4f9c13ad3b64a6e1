/*
 * The network lock of CRIU's --network-lock iptables: two rules for each connection, in the
 * filter table of its family. Ours is never of this sort, but images that CRIU dumped leave it
 * behind, and whoever restores them has to remove it.
 */
#ifndef CR_NETLOCK_IPTABLES_H
#define CR_NETLOCK_IPTABLES_H

#include <stdbool.h>

#include "util/macro.h"

struct map;

/* connections: struct sockdiag *. Runs iptables-restore, as far as there is something to remove. */
int iptables_unlock(const char *run_id, const struct map *connections) _must_check_;

/* For tests: what it is given, NULL when no connection is of this family; heap. */
char *iptables_rules(const struct map *connections, bool v4);

#endif
