/*
 * Looked at through duplicates (pidfd_getfd(2)): works without any diag module, and before as
 * well as during the freeze. The duplicates of listening sockets stay open while accept
 * queues drain, so that asking again costs one call.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netpacket/packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "crkexec/sockets.h"
#include "crkexec/tree.h"
#include "util/io.h"
#include "util/log.h"
#include "util/map.h"

#define JOURNAL_STREAM	"/run/systemd/journal/stdout"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE	71
#endif

int socket_inode(const char *link, uint64_t *ret)
{
	unsigned long long ino;
	int end = 0;

	if (sscanf(link, "socket:[%llu]%n", &ino, &end) != 1 || !end || link[end])
		return -ENOENT;
	*ret = ino;
	return 0;
}

static int get_int(int fd, int level, int name)
{
	int v = -1;
	socklen_t n = sizeof(v);

	return getsockopt(fd, level, name, &v, &n) < 0 ? -1 : v;
}

static int tcp_kind(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t n = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0)
		return -1;
	switch (info.tcpi_state) {
	case TCP_LISTEN:
		return SOCKET_TCP_LISTEN;
	case TCP_ESTABLISHED:
	case TCP_SYN_SENT:
	case TCP_FIN_WAIT1:
	case TCP_FIN_WAIT2:
	case TCP_CLOSE_WAIT:
	case TCP_LAST_ACK:
	case TCP_CLOSING:
		return SOCKET_TCP_OPEN;
	}
	return -1;
}

static int unix_kind(int fd)
{
	struct sockaddr_un sa = { 0 };
	socklen_t n = sizeof(sa);

	if (get_int(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM ||
	    getpeername(fd, (struct sockaddr *)&sa, &n) < 0)
		return -1;
	return strncmp(sa.sun_path, JOURNAL_STREAM, sizeof(sa.sun_path)) ? -1 : SOCKET_JOURNAL;
}

static int socket_kind(int fd)
{
	switch (get_int(fd, SOL_SOCKET, SO_DOMAIN)) {
	case AF_INET:
	case AF_INET6:
		return get_int(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP ? tcp_kind(fd) : -1;
	case AF_UNIX:
		return unix_kind(fd);
	}
	return -1;
}

struct finder {
	struct socket_list *list;
	struct map seen;		/* inodes */
	pid_t pid;			/* whose pidfd is open */
	int pidfd;
};

static int duplicate(struct finder *f, pid_t pid, int t_fd)
{
	if (f->pid != pid) {
		close_fdp(&f->pidfd);
		f->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		f->pid = pid;
	}
	return f->pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, f->pidfd, t_fd, 0);
}

static int add(struct finder *f, uint64_t ino, int kind, int fd)
{
	struct socket_info *v = reallocarray(f->list->v, f->list->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	f->list->v = v;
	v[f->list->n++] = (struct socket_info){ .ino = ino, .kind = kind, .fd = fd };
	return 0;
}

static int find_one(void *arg, pid_t pid, int t_fd, const char *link)
{
	_cleanup_close_ int fd = -EBADF;
	struct finder *f = arg;
	uint64_t ino;
	int kind, r;

	if (socket_inode(link, &ino) < 0 || map_get(&f->seen, ino))
		return 0;
	r = map_put(&f->seen, ino, f);
	if (r < 0)
		return r;
	fd = duplicate(f, pid, t_fd);
	/* Closed, or its process ended, since it was listed. */
	if (fd < 0)
		return errno == ESRCH || errno == EBADF ? 0 : neg_errno();
	kind = socket_kind(fd);
	if (kind < 0)
		return 0;
	r = add(f, ino, kind, kind == SOCKET_TCP_LISTEN ? fd : -1);
	if (r == 0 && kind == SOCKET_TCP_LISTEN)
		take_fd(&fd);
	return r;
}

static uint64_t netns_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &n) < 0 ? 0 : cookie;
}

static void address_of(const struct sockaddr_in6 *sa, char ret[INET6_ADDRSTRLEN])
{
	const struct sockaddr_in *v4 = (const void *)sa;
	const void *addr = NULL;
	int family = AF_INET;

	if (sa->sin6_family == AF_INET && v4->sin_addr.s_addr != htonl(INADDR_ANY)) {
		addr = &v4->sin_addr;
	} else if (sa->sin6_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&sa->sin6_addr)) {
		addr = &sa->sin6_addr.s6_addr[12];
	} else if (sa->sin6_family == AF_INET6 && !IN6_IS_ADDR_UNSPECIFIED(&sa->sin6_addr)) {
		addr = &sa->sin6_addr;
		family = AF_INET6;
	}
	if (!addr || !inet_ntop(family, addr, ret, INET6_ADDRSTRLEN))
		ret[0] = '\0';
}

void socket_place_of(int fd, struct socket_place *ret)
{
	union {
		struct sockaddr any;
		struct sockaddr_in6 in;
		struct sockaddr_ll packet;
	} sa = { 0 };
	socklen_t n = sizeof(sa), bytes = sizeof(ret->interface);

	*ret = (struct socket_place){ .netns = netns_of(fd) };
	if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, ret->interface, &bytes) < 0)
		ret->interface[0] = '\0';
	if (getsockname(fd, &sa.any, &n) < 0)
		return;
	address_of(&sa.in, ret->address);
	if (sa.any.sa_family == AF_PACKET && sa.packet.sll_ifindex && !if_indextoname(
			(unsigned int)sa.packet.sll_ifindex, ret->interface))
		ret->interface[0] = '\0';
}

int socket_place(pid_t pid, int t_fd, struct socket_place *ret)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	_cleanup_close_ int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, t_fd, 0);

	if (fd < 0)
		return -ENOENT;
	socket_place_of(fd, ret);
	return 0;
}

uint64_t socket_netns(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? 0 : netns_of(fd);
}

int sockets_find(const struct unit *un, struct socket_list *ret)
{
	struct finder f = { .list = ret, .pidfd = -EBADF };
	int r;

	*ret = (struct socket_list){ 0 };
	r = tree_each_fd(&un->tree, find_one, &f);
	map_done(&f.seen);
	close_fdp(&f.pidfd);
	if (r < 0) {
		socket_list_done(ret);
		return log_err(r, "cannot look through the sockets of %s", un->name);
	}
	return 0;
}

void socket_list_done(struct socket_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		close_fdp(&l->v[i].fd);
	free(l->v);
	*l = (struct socket_list){ 0 };
}

size_t sockets_count(const struct socket_list *l, int kind)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += (int)l->v[i].kind == kind;
	return n;
}

uint32_t sockets_unaccepted(const struct socket_list *l)
{
	uint32_t total = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct tcp_info info = { 0 };
		socklen_t n = sizeof(info);

		/* For a listening socket tcpi_unacked is the length of its accept queue. */
		if (l->v[i].kind == SOCKET_TCP_LISTEN &&
		    getsockopt(l->v[i].fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0)
			total += info.tcpi_unacked;
	}
	return total;
}
