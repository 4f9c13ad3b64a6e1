/*
 * What only sock_diag(7) tells about sockets: peers of unix sockets, their bound inodes and
 * waiting clients, shutdown flags, TCP-MD5 keys, packet socket rings. Everything else is read
 * from a duplicate of the descriptor.
 *
 * One sweep asks for all sockets of one sort in one network namespace: a sweep costs about a
 * microsecond a socket, a query for a single unix socket walks the whole table.
 */
#ifndef CR_KERNEL_SOCKDIAG_H
#define CR_KERNEL_SOCKDIAG_H

#include <stdbool.h>

#include "util/arena.h"
#include "util/map.h"

enum sockdiag_sort { SOCKDIAG_UNIX, SOCKDIAG_TCP, SOCKDIAG_UDP, SOCKDIAG_PACKET, SOCKDIAG_SORTS };

struct sockdiag_mc {
	int ifindex;
	uint32_t count;
	uint16_t type, addr_len;
	uint8_t addr[32];
};

struct sockdiag {
	enum sockdiag_sort sort;
	uint32_t ino;
	uint8_t family, type, state;
	uint8_t shutdown;		/* 1 receive, 2 send */

	/* unix */
	uint32_t peer;			/* inode, 0 none */
	uint32_t listener;		/* waits in the accept queue of this one, 0 none */
	const uint32_t *waiting;	/* a listener's waiting clients; 0 is one without inode */
	size_t n_waiting;
	const uint8_t *name;		/* sun_path, no terminating NUL for paths */
	size_t name_len;
	uint32_t vfs_ino, vfs_dev;	/* of the bound path; dev as the kernel encodes it */
	bool has_vfs;
	uint32_t rqueue, wqueue;

	/* tcp, udp */
	uint8_t src[16], dst[16];	/* network order; the first 4 bytes for IPv4 */
	uint16_t src_port, dst_port;	/* host order */
	uint64_t cgroup;		/* id of its control group; 0 not told */
	bool md5;
	char ulp[16];

	/* packet */
	bool rx_ring, tx_ring, fanout;
	struct sockdiag_mc *mc;
	size_t n_mc;
};

/*
 * Adds every socket of this sort in the caller's network namespace to by_ino (values: struct
 * sockdiag *), all in the arena. Silent. -ENOENT: this kernel has no such diag, see
 * sockdiag_module().
 */
int sockdiag_sweep(enum sockdiag_sort sort, struct arena *a, struct map *by_ino) _must_check_;
/* The kernel module (and option) that answers, for messages. */
const char *sockdiag_module(enum sockdiag_sort sort);

/* One netlink message's payload → s, filled in; for tests. -EBADMSG when it is damaged. */
int sockdiag_parse(enum sockdiag_sort sort, const void *data, size_t bytes, struct arena *a,
		   struct sockdiag *s) _must_check_;

#endif
