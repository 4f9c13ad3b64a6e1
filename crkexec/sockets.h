/* The sockets that a unit's processes hold, as far as the orchestrator cares. */
#ifndef CRKEXEC_SOCKETS_H
#define CRKEXEC_SOCKETS_H

#include <net/if.h>
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

/* What a socket of the network stands on. */
struct socket_place {
	uint64_t netns;			/* SO_NETNS_COOKIE; 0: the kernel does not tell (before Linux 5.14) */
	/* The one IP address it is bound to, as inet_ntop(3) writes it; IPv4 in IPv6 as IPv4. "": none */
	char address[INET6_ADDRSTRLEN];
	char interface[IF_NAMESIZE];	/* that it is bound to; "": none, or none of our namespace's */
};
/* Of the socket behind fd of pid. -ENOENT: it is gone. */
int socket_place(pid_t pid, int fd, struct socket_place *ret) _must_check_;
/* The same of a descriptor of ours. */
void socket_place_of(int fd, struct socket_place *ret);
/* The caller's own network namespace, as in socket_place. */
uint64_t socket_netns(void);

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
