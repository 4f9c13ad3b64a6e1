/*
 * A TCP socket whose connection is over, read to its end or not: state CLOSE, with data, end of
 * file or a reset to be read. The kernel cannot be told to make one, so its end is replayed: a
 * connection in repair mode with the data in its queue, then the peer's segments by hand.
 *
 * The peer's address comes back as one of loopback: getpeername(2) fails on such a socket in any
 * case, and the segments must reach nobody. Our own address stays visible and is kept. The
 * stand-in peer is a socket of ours, in repair mode too: it takes the ACKs, which would otherwise
 * be answered by resets.
 */
#include <fcntl.h>
#include <string.h>

#include "kind/sk_inet.h"

#define SEQ	1000u	/* any will do, both ways */

static void loopback(uint32_t family, const union inet_addr *like, union inet_addr *ret)
{
	*ret = (union inet_addr){ 0 };
	ret->sa.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		ret->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return;
	}
	ret->v6.sin6_addr = in6addr_loopback;
	if (inet_addr_is_v4(like)) {
		ret->v6.sin6_addr = like->v6.sin6_addr;
		ret->v6.sin6_addr.s6_addr32[3] = htonl(INADDR_LOOPBACK);
	}
}

/* A port of our own on loopback, for the peer; *ret_fd holds it. */
static int make_peer(uint32_t family, const union inet_addr *src, union inet_addr *ret,
		     int *ret_fd)
{
	_cleanup_close_ int fd = socket((int)family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	socklen_t len = sizeof(*ret);
	int r;

	if (fd < 0)
		return neg_errno();
	loopback(family, src, ret);
	if (bind(fd, &ret->sa, inet_addr_len(ret)) < 0 || getsockname(fd, &ret->sa, &len) < 0)
		return neg_errno();
	r = sk_set_int(fd, SOL_TCP, TCP_REPAIR, 1);
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int repaired_connect(int fd, const union inet_addr *to)
{
	int r = 0;

	for (int queue = REPAIR_RECV_QUEUE; !r && queue <= REPAIR_SEND_QUEUE; queue++) {
		r = sk_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);
		if (!r)
			r = sk_set_int(fd, SOL_TCP, TCP_QUEUE_SEQ, (int)SEQ);
	}
	if (r < 0)
		return r;
	return connect(fd, &to->sa, inet_addr_len(to)) < 0 ? neg_errno() : 0;
}

static int fill(int fd, const uint8_t *data, size_t bytes)
{
	int r = sk_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, REPAIR_RECV_QUEUE);

	while (!r && bytes) {
		ssize_t n = send(fd, data, MIN(bytes, (size_t)(64u << 10)),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return neg_errno();
		data += n;
		bytes -= (size_t)n;
	}
	return r < 0 ? r : sk_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, REPAIR_SEND_QUEUE);
}

/* The peer's FIN, our own, its acknowledgement; or the peer's reset. */
static int replay(int fd, struct tcp_segment *s, bool reset)
{
	uint32_t last;
	int r;

	s->rst = reset;
	s->fin = !reset;
	r = tcp_forge(s);
	if (!r && !reset) {
		r = tcp_wait_state(fd, TCP_CLOSE_WAIT, &last);
		if (!r && shutdown(fd, SHUT_RDWR) < 0)
			r = neg_errno();
		s->fin = false;
		s->seq++;
		s->ack++;
		if (!r)
			r = tcp_forge(s);
	}
	return r < 0 ? r : tcp_wait_state(fd, TCP_CLOSE, &last);
}

/* Nobody listens there. A network lock may keep that answer away: then it is forged. */
static int refuse(int fd, uint32_t family, const union inet_addr *src, bool is_read)
{
	_cleanup_close_ int peer_fd = -EBADF;
	struct tcp_segment s = { .to = *src, .rst = true };
	socklen_t len = sizeof(s.to);
	uint32_t last;
	int seq, error, r = make_peer(family, src, &s.from, &peer_fd);

	if (!r)
		r = sk_set_int(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
	if (!r && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		r = neg_errno();
	if (!r && connect(fd, &s.from.sa, inet_addr_len(&s.from)) < 0 && errno != EINPROGRESS)
		r = neg_errno();
	if (!r && getsockname(fd, &s.to.sa, &len) < 0)
		r = neg_errno();
	if (!r)
		r = sk_set_int(fd, SOL_TCP, TCP_REPAIR, 1);
	if (!r)
		r = sk_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, REPAIR_SEND_QUEUE);
	if (!r)
		r = sk_get_int(fd, SOL_TCP, TCP_QUEUE_SEQ, &seq);
	if (r < 0)
		return r;
	s.ack = (uint32_t)seq;
	r = tcp_forge(&s);
	if (!r)
		r = tcp_wait_state(fd, TCP_CLOSE, &last);
	if (!r && is_read)
		r = sk_get_int(fd, SOL_SOCKET, SO_ERROR, &error);
	return r < 0 ? r : sk_set_int(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
}

static int make(int fd, uint32_t family, union inet_addr *src, const uint8_t *inq, size_t bytes,
		bool reset)
{
	_cleanup_close_ int peer_fd = -EBADF;
	union inet_addr peer;
	socklen_t len = sizeof(*src);
	struct tcp_segment s;
	int r = make_peer(family, src, &peer, &peer_fd);

	if (!r)
		r = repaired_connect(fd, &peer);
	if (!r && getsockname(fd, &src->sa, &len) < 0)
		r = neg_errno();
	if (!r)
		r = repaired_connect(peer_fd, src);
	if (!r)
		r = fill(fd, inq, bytes);
	if (r < 0)
		return r;
	s = (struct tcp_segment){ .from = peer, .to = *src, .seq = SEQ + (uint32_t)bytes,
				  .ack = SEQ, .window = 1000 };
	r = replay(fd, &s, reset);
	return r < 0 ? r : sk_set_int(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
}

int tcp_dead_make(int fd, uint32_t family, const union inet_addr *src, const uint8_t *inq,
		  size_t inq_bytes, enum tcp_end end)
{
	union inet_addr own = *src;
	int r = sk_buffers_for(fd, inq_bytes + 1, 1);

	/* Repair mode binds beside the connection's remains (TIME_WAIT), where they still are. */
	if (!r)
		r = SK_SET(fd, SOL_TCP, TCP_REPAIR, 1);
	if (!r)
		r = inet_bind(fd, &own);
	if (r < 0)
		return r;
	r = end == TCP_END_REFUSED || end == TCP_END_REFUSED_READ
		    ? refuse(fd, family, &own, end == TCP_END_REFUSED_READ)
		    : make(fd, family, &own, inq, inq_bytes, end == TCP_END_RESET);
	return r < 0 ? log_err(r, "cannot replay the end of a connection over lo") : 0;
}
