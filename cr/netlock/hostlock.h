/*
 * --network-lock of the `cr` command: packet filter rules that drop everything of a tree's TCP
 * connections, in both directions, from its dump to its restore. A peer that sends meanwhile
 * gets no reset for a socket that is not there. A root with a network namespace of its own has them in
 * that one, too.
 *
 * The rules are a table of their own, made through libnftables (loaded when needed) and named as
 * CRIU 4.1 names its own, by the id of the dump's run: each engine removes the other's lock.
 * "iptables" means the same table; only locks that CRIU made are iptables rules. Packets with
 * the mark of TCP_FORGE_MARK pass.
 */
#ifndef CR_NETLOCK_HOSTLOCK_H
#define CR_NETLOCK_HOSTLOCK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>

#include "util/macro.h"

#define LOCK_MARK	"0xc114"

struct map;
struct sockdiag;

/*
 * The tree must be stopped. 0 without doing anything when it has no connection. -ENOPKG: no
 * libnftables. Logs.
 */
int hostlock_lock(const char *run_id, pid_t root) _must_check_;
/* Removes the run's table, and the one older dumps named by the root's pid, if they are there. */
int hostlock_unlock(const char *run_id, pid_t root) _must_check_;
/* Removes the rules that CRIU made with iptables for the connections the restored tree has. */
int hostlock_unlock_iptables(pid_t root) _must_check_;

/* The packets of this connection are IPv4, its socket may be of the other family. */
bool hostlock_is_v4(const struct sockdiag *d);
/* One of its addresses as the packets have it; returns text. */
const char *hostlock_address(const struct sockdiag *d, const uint8_t *addr,
			     char text[INET6_ADDRSTRLEN]);
/* For tests: the rules as text; heap. *ret_n: connections in them. */
char *hostlock_rules(const char *table, const struct map *connections, size_t *ret_n);

#endif
