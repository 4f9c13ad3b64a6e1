/*
 * A TCP socket whose connection is over, read to its end or not: state CLOSE, with data, end of
 * file or a reset to be read. The kernel cannot be told to make one, so it lives through a
 * whole life again, over loopback: connect, the data, both FINs (or a reset).
 *
 * The peer's address was forgotten with the state; getpeername(2) fails on such a socket in any
 * case. Our own address stays visible and is kept.
 */
#include <string.h>

#include "kind/sk_inet.h"

static void loopback(uint32_t family, const union inet_addr *like, union inet_addr *ret)
{
	*ret = (union inet_addr){ 0 };
	ret->sa.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		ret->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return;
	}
	ret->v6.sin6_addr = in6addr_loopback;
	if (IN6_IS_ADDR_V4MAPPED(&like->v6.sin6_addr)) {
		ret->v6.sin6_addr = like->v6.sin6_addr;
		ret->v6.sin6_addr.s6_addr32[3] = htonl(INADDR_LOOPBACK);
	}
}

static int listen_on_loopback(uint32_t family, const union inet_addr *like, union inet_addr *ret)
{
	struct timeval limit = { .tv_sec = 5 };	/* lo may be down: accept(2) must end */
	int one = 1, fd = socket((int)family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	socklen_t len = sizeof(*ret);
	int r;

	if (fd < 0)
		return neg_errno();
	loopback(family, like, ret);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    bind(fd, &ret->sa, inet_addr_len(ret)) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, &ret->sa, &len) < 0) {
		r = neg_errno();
		close(fd);
		return r;
	}
	return fd;
}

static bool same_address(const union inet_addr *a, const union inet_addr *b)
{
	return a->sa.sa_family == b->sa.sa_family && inet_addr_port(a) == inet_addr_port(b);
}

/* The caller's socket connects; someone else may do so in between. */
static int accept_from(int listener, int fd)
{
	union inet_addr own, peer;
	socklen_t len = sizeof(own);

	if (getsockname(fd, &own.sa, &len) < 0)
		return neg_errno();
	for (;;) {
		int conn;

		len = sizeof(peer);
		conn = accept4(listener, &peer.sa, &len, SOCK_CLOEXEC);
		if (conn < 0)
			return neg_errno();
		if (same_address(&own, &peer))
			return conn;
		close(conn);
	}
}

static int send_all(int fd, const uint8_t *data, size_t bytes)
{
	while (bytes) {
		ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return neg_errno();
		data += n;
		bytes -= (size_t)n;
	}
	return 0;
}

static int end_of_life(int fd, int conn, const uint8_t *inq, size_t bytes, bool reset)
{
	struct timeval second = { .tv_sec = 5 };
	struct linger at_once = { .l_onoff = 1 };
	int r;

	if (setsockopt(conn, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second)) < 0)
		return neg_errno();
	r = send_all(conn, inq, bytes);
	if (r < 0)
		return r;
	if (reset)
		return setsockopt(conn, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) < 0
			       ? neg_errno() : 0;
	if (shutdown(conn, SHUT_WR) < 0 || shutdown(fd, SHUT_RDWR) < 0)
		return neg_errno();
	return 0;
}

/*
 * The connection's remains (TIME_WAIT) may still be there, on the machine of the dump: repair
 * mode binds beside them.
 */
static int bind_beside(int fd, const union inet_addr *src)
{
	int r = SK_SET(fd, SOL_TCP, TCP_REPAIR, 1);

	if (!r)
		r = inet_bind(fd, src);
	return r < 0 ? r : SK_SET(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
}

int tcp_dead_make(int fd, uint32_t family, const union inet_addr *src, const uint8_t *inq,
		  size_t inq_bytes, bool reset)
{
	_cleanup_close_ int listener = -EBADF, conn = -EBADF;
	union inet_addr at;
	int r = sk_buffers_for(fd, inq_bytes + 1, 1);

	if (r < 0)
		return r;
	r = bind_beside(fd, src);
	if (r < 0)
		return r;
	listener = listen_on_loopback(family, src, &at);
	if (listener < 0)
		return log_err(listener, "cannot replay the end of a connection over lo");
	/* Non-blocking: over loopback the handshake is done when connect(2) returns. */
	if (connect(fd, &at.sa, inet_addr_len(&at)) < 0 && errno != EINPROGRESS)
		return log_err(neg_errno(), "cannot replay the end of a connection over lo");
	conn = accept_from(listener, fd);
	if (conn < 0)
		return log_err(conn, "cannot replay the end of a connection over lo");
	r = end_of_life(fd, conn, inq, inq_bytes, reset);
	return r < 0 ? log_err(r, "cannot replay the end of a connection over lo") : 0;
}
