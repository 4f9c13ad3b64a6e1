/*
 * Keeping the network's hands off the trees, by XDP programs on every interface but lo. No
 * netfilter module is needed, so it works in an initramfs, before any address exists; the
 * kernel takes the programs off when the process that holds them ends, however it ends.
 *
 *   gate   drops TCP connection requests (SYN without ACK): the peer's kernel repeats them
 *   lock   drops all IPv4 and IPv6 but neighbour discovery; ARP and others pass: nothing
 *          reaches a socket, so nothing answers in place of one that is not there. On lo the
 *          segments pass by which a restore replays a connection's end (NETLOCK_REPLAY).
 *
 * Only what comes in is dropped. Generic ("skb") XDP: any driver, no link bounce.
 */
#ifndef CR_NETLOCK_NETLOCK_H
#define CR_NETLOCK_NETLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/macro.h"

struct netlock;

/* Loads the programs into the kernel: what can be refused is refused here. Logs. */
int netlock_open(struct netlock **ret) _must_check_;
/*
 * On every interface of the caller's network namespace but lo; one switches to the other
 * without a gap. -EBUSY when an interface has an XDP program of its own (logged by name);
 * what this call attached is taken off again then.
 */
int netlock_gate(struct netlock *nl) _must_check_;
int netlock_lock(struct netlock *nl) _must_check_;
/*
 * One more interface, best before it is up. Also for lo (index 1), which the others leave out:
 * connections between two trees that are dumped one after the other need it.
 */
int netlock_lock_ifindex(struct netlock *nl, int ifindex) _must_check_;
/* Everything passes. May be gated or locked again. */
int netlock_unlock(struct netlock *nl);
void netlock_close(struct netlock *nl);
static inline void netlock_closep(struct netlock **nl)
{
	if (*nl)
		netlock_close(*nl);
}

/* Connections that wait to be accepted on a listening TCP socket; negative errno. */
int accept_queue_len(int listen_fd) _must_check_;

/* Urgent pointer of a TCP segment without URG: means nothing, and nobody sends it. */
#define NETLOCK_REPLAY	0xc114

/* For tests: the instructions of a program; the count. */
enum netlock_mode { NETLOCK_GATE, NETLOCK_LOCK, NETLOCK_MODES };
enum netlock_link { NETLOCK_BARE, NETLOCK_ETHER, NETLOCK_LOOPBACK, NETLOCK_LINKS };
#define NETLOCK_INSNS_MAX	96
struct bpf_insn;
size_t netlock_program(enum netlock_mode mode, enum netlock_link link, struct bpf_insn *insns);

#endif
