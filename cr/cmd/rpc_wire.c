/* Packets: whole messages or none, of a size that a request can have. */
#include <string.h>
#include <sys/socket.h>

#include "cmd/rpc.h"

/* Requests are options; the largest text among them is a path or a list of properties. */
#define REQUEST_BYTES_MAX (1u << 20)

static ssize_t receive(int sock, void *buf, size_t room, int flags)
{
	ssize_t n;

	do
		n = recv(sock, buf, room, flags);
	while (n < 0 && errno == EINTR);
	return n < 0 ? neg_errno() : n;
}

/* A connection that is closed and an empty packet look alike, and neither is a request. */
int rpc_receive(int sock, struct arena *a, CriuReq **ret)
{
	uint8_t none, *buf;
	ssize_t size = receive(sock, &none, sizeof(none), MSG_PEEK | MSG_TRUNC), n;

	*ret = NULL;
	if (size <= 0)
		return size == -ECONNRESET ? 0 : (int)size;
	if ((size_t)size > REQUEST_BYTES_MAX)
		return log_fail(-EBADMSG, "a request of %zd bytes", size);
	buf = arena_alloc(a, (size_t)size);
	if (!buf)
		return -ENOMEM;
	n = receive(sock, buf, (size_t)size, MSG_TRUNC);
	if (n < 0)
		return (int)n;
	if (n != size)
		return log_fail(-EBADMSG, "a request of %zd bytes, announced were %zd", n, size);
	*ret = criu_req__unpack(&a->pb, (size_t)n, buf);
	return *ret ? 1 : log_fail(-EBADMSG, "a packet of %zd bytes is no request", n);
}

static void attach_fd(struct msghdr *msg, int fd)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
}

int rpc_send(int sock, const CriuResp *resp, int fd)
{
	size_t size = criu_resp__get_packed_size(resp);
	_cleanup_free_ uint8_t *buf = malloc(size);
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec iov = { buf, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	criu_resp__pack(resp, buf);
	if (fd >= 0) {
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		attach_fd(&msg, fd);
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? neg_errno() : 0;
}
