/* What the socket makers share. */
#ifndef TESTS_LIVE_SOCK_COMMON_H
#define TESTS_LIVE_SOCK_COMMON_H

#include "maker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

__attribute__((unused)) static int sock_int(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	MAKER_MUST(!getsockopt(fd, level, name, &v, &len));
	return v;
}

__attribute__((unused)) static void sock_set(int fd, int level, int name, int v)
{
	MAKER_MUST(!setsockopt(fd, level, name, &v, sizeof(v)));
}

/* Byte n of a stream that never repeats early. */
__attribute__((unused)) static uint8_t sock_byte(uint64_t n)
{
	return (uint8_t)(n * 2654435761u >> 13 ^ n >> 8);
}

__attribute__((unused)) static void sock_expect(const char *what, int fd, const void *data,
						size_t n)
{
	static char buf[1 << 20];
	size_t got = 0;

	while (got < n) {
		ssize_t k = recv(fd, buf + got, n - got, 0);

		if (k <= 0)
			maker_fail("%s: recv gives %zd (%s) after %zu of %zu bytes", what, k,
				   strerror(errno), got, n);
		got += (size_t)k;
	}
	if (memcmp(buf, data, n))
		maker_fail("%s: other bytes", what);
}

__attribute__((unused)) static void sock_empty(const char *what, int fd)
{
	char c;

	if (recv(fd, &c, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
		maker_fail("%s: not empty", what);
}

__attribute__((unused)) static void sock_eof(const char *what, int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

	if (n)
		maker_fail("%s: recv gives %zd (%s) instead of the end", what, n, strerror(errno));
}

__attribute__((unused)) static void sock_talk(const char *what, int a, int b)
{
	MAKER_MUST(send(a, "ping", 4, MSG_NOSIGNAL) == 4);
	sock_expect(what, b, "ping", 4);
	MAKER_MUST(send(b, "pong", 4, MSG_NOSIGNAL) == 4);
	sock_expect(what, a, "pong", 4);
}

__attribute__((unused)) static void sock_in(struct sockaddr_in *a, const char *ip, int port)
{
	memset(a, 0, sizeof(*a));
	a->sin_family = AF_INET;
	a->sin_port = htons((uint16_t)port);
	MAKER_MUST(inet_pton(AF_INET, ip, &a->sin_addr) == 1);
}

__attribute__((unused)) static void sock_in6(struct sockaddr_in6 *a, const char *ip, int port)
{
	memset(a, 0, sizeof(*a));
	a->sin6_family = AF_INET6;
	a->sin6_port = htons((uint16_t)port);
	MAKER_MUST(inet_pton(AF_INET6, ip, &a->sin6_addr) == 1);
}

/* A name that begins with '@' is an abstract one. */
__attribute__((unused)) static socklen_t sock_un(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	memcpy(a->sun_path, name, strlen(name));
	if (name[0] == '@')
		a->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) +
			   (name[0] == '@' ? 0 : 1));
}

__attribute__((unused)) static int sock_un_bound(int type, const char *name)
{
	struct sockaddr_un a;
	socklen_t len = sock_un(&a, name);
	int fd = socket(AF_UNIX, type, 0);

	/* What a failed test left, whose pid is ours now. */
	unlink(a.sun_path);
	MAKER_MUST(fd >= 0);
	if (bind(fd, (struct sockaddr *)&a, len) < 0)
		maker_fail("bind to %s: %s", name, strerror(errno));
	return fd;
}

/* fd: -1 for a new one. */
__attribute__((unused)) static int sock_un_connected(int type, const char *name, int fd)
{
	struct sockaddr_un a;
	socklen_t len = sock_un(&a, name);

	if (fd < 0)
		fd = socket(AF_UNIX, type, 0);
	MAKER_MUST(fd >= 0);
	if (connect(fd, (struct sockaddr *)&a, len) < 0)
		maker_fail("connect to %s: %s", name, strerror(errno));
	return fd;
}

/* A process that is no descendant of the dumped tree; 0 in it. Of our files it has keep. */
__attribute__((unused)) static pid_t sock_fork_outside(int keep)
{
	int told[2];
	pid_t pid, child;

	MAKER_MUST(!pipe(told));
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child) {
		pid = fork();
		if (pid) {
			if (write(told[1], &pid, sizeof(pid)) != sizeof(pid))
				_exit(1);
			_exit(0);
		}
		setsid();
		/* Nothing of the tree's may live on here. */
		for (int fd = 3; fd < 256; fd++)
			if (fd != maker_log_fd && fd != keep)
				close(fd);
		return 0;
	}
	MAKER_MUST(waitpid(child, NULL, 0) == child);
	MAKER_MUST(read(told[0], &pid, sizeof(pid)) == sizeof(pid));
	close(told[0]);
	close(told[1]);
	return pid;
}

#endif
