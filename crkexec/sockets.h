/* The sockets that a unit's processes hold, as far as the orchestrator cares. */
#ifndef CRKEXEC_SOCKETS_H
#define CRKEXEC_SOCKETS_H

#include <netinet/in.h>

#include "crkexec/unit.h"

struct socket_info {
	uint64_t ino;
	enum { SOCKET_TCP_LISTEN, SOCKET_TCP_OPEN, SOCKET_JOURNAL } kind;
	int fd;			/* LISTEN: a duplicate, else -1 */
};

struct socket_list {
	struct socket_info *v;
	size_t n;
};

/* Of a descriptor's link, "socket:[INO]"; -ENOENT: it is another. */
int socket_inode(const char *link, uint64_t *ret) _must_check_;

/*
 * Where the socket behind fd of pid is bound, as inet_ntop(3) writes it; IPv4 in IPv6 as IPv4. -ENOENT: not
 * bound to one IP address, or gone.
 */
int socket_address(pid_t pid, int fd, char ret[INET6_ADDRSTRLEN]) _must_check_;

/*
 * TCP sockets that listen or have a connection, and streams to journald. Each inode once,
 * however many processes share it.
 */
int sockets_find(const struct unit *un, struct socket_list *ret) _must_check_;
void socket_list_done(struct socket_list *l);
size_t sockets_count(const struct socket_list *l, int kind);
/* Connections that wait in the accept queues of the listening ones. */
uint32_t sockets_unaccepted(const struct socket_list *l);

#endif
