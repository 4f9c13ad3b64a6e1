/*
 * --network-lock of the `cr` command: packet filter rules that drop everything of a tree's TCP
 * connections, in both directions, from its dump to its restore. A peer that sends meanwhile
 * gets no reset for a socket that is not there.
 *
 * The rules are a table of their own, `inet CRIU-<pid of the root>`, made through libnftables
 * (loaded when needed); "iptables" means the same table, its own rules are nftables underneath
 * on every system we know. Packets with the mark of TCP_FORGE_MARK pass.
 */
#ifndef CR_NETLOCK_HOSTLOCK_H
#define CR_NETLOCK_HOSTLOCK_H

#include <sys/types.h>

#include "util/macro.h"

/*
 * The tree must be stopped. 0 without doing anything when it has no connection. -ENOPKG: no
 * libnftables. Logs.
 */
int hostlock_lock(pid_t root) _must_check_;
/* Removes the table if there is one. */
int hostlock_unlock(pid_t root) _must_check_;

/* For tests: the rules as text; heap. *ret_n: connections in them. */
struct map;
char *hostlock_rules(pid_t root, const struct map *connections, size_t *ret_n);

#endif
