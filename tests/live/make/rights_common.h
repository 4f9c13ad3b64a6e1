/* Descriptors sent through a unix socket. */
#ifndef TESTS_LIVE_RIGHTS_COMMON_H
#define TESTS_LIVE_RIGHTS_COMMON_H

#include "maker.h"

#include <sys/socket.h>

__attribute__((unused)) static void send_fd(int sock, const char *text, int fd)
{
	union {
		struct cmsghdr c;
		char room[CMSG_SPACE(sizeof(int))];
	} u = { 0 };
	struct iovec io = { (void *)text, strlen(text) };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &u,
			    .msg_controllen = sizeof(u) };

	u.c.cmsg_level = SOL_SOCKET;
	u.c.cmsg_type = SCM_RIGHTS;
	u.c.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&u.c), &fd, sizeof(fd));
	MAKER_MUST(sendmsg(sock, &m, 0) == (ssize_t)strlen(text));
}

/* Reads at most n bytes; the descriptor that came with them or -1. */
__attribute__((unused)) static int recv_fd(int sock, char *buf, size_t n, ssize_t *got)
{
	union {
		struct cmsghdr c;
		char room[CMSG_SPACE(sizeof(int))];
	} u = { 0 };
	struct iovec io = { buf, n };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &u,
			    .msg_controllen = sizeof(u) };
	int fd = -1;

	*got = recvmsg(sock, &m, MSG_DONTWAIT);
	if (*got >= 0 && m.msg_controllen)
		memcpy(&fd, CMSG_DATA(&u.c), sizeof(fd));
	return fd;
}

#endif
