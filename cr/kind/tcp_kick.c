/*
 * Waking a peer that has been retransmitting into the blackout.
 *
 * Its timer has doubled with every try: after four seconds of silence it may wait four more.
 * RFC 6069 lets "destination unreachable" undo those doublings (the loss was no congestion),
 * and Linux retransmits at once when the shortened timer has run out. So a restored
 * connection that has heard nothing sends its peer a few of those, about the segment it waits
 * for, and an ACK, which clears the soft error they leave behind. Peers that do not know the
 * RFC go on waiting as they would have.
 *
 * Only numbers that the connection really has are used; a peer that has moved on since
 * ignores all of it (RFC 5927 has it check them).
 */
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <string.h>

#include "kind/sk_inet.h"

#define UNREACHABLES	8	/* 0.2 s doubled eight times: 51 s */

/* The beginning of the segment the peer sends again and again: as it was quoted by a router. */
static size_t quote(const struct tcp_put *p, uint8_t *to, size_t room)
{
	struct tcp_segment s = { .from = p->dst, .to = p->src, .seq = p->e->inq_seq,
				 .ack = p->e->outq_seq };

	return tcp_forge_build(&s, to, room);
}

static uint16_t checksum(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (uint32_t)p[i] << (i % 2 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* Both families have 8 bytes: type, code, checksum, nothing. */
static size_t unreachable(const struct tcp_put *p, bool v4, uint8_t *to, size_t room)
{
	size_t n = 8 + quote(p, to + 8, room - 8);
	uint16_t sum;

	memset(to, 0, 8);
	to[0] = v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH;
	to[1] = v4 ? ICMP_HOST_UNREACH : ICMP6_DST_UNREACH_NOROUTE;
	if (v4) {	/* the kernel does it for ICMPv6 */
		sum = checksum(to, n);
		memcpy(to + 2, &sum, sizeof(sum));
	}
	return n;
}

static int raw_socket(const struct tcp_put *p, bool v4, int proto)
{
	union inet_addr from = p->src;
	_cleanup_close_ int fd = socket(v4 ? AF_INET : AF_INET6,
					SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, proto);
	int r;

	if (fd < 0)
		return neg_errno();
	r = sk_set_int(fd, SOL_SOCKET, SO_MARK, TCP_FORGE_MARK);
	if (r < 0)
		return r;
	if (p->device && p->device[0] &&
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, p->device,
		       (socklen_t)strlen(p->device)) < 0)
		return neg_errno();
	inet_addr_unmap(&from);
	from.v4.sin_port = 0;
	if (bind(fd, &from.sa, inet_addr_len(&from)) < 0)
		return neg_errno();
	return take_fd(&fd);
}

/* What is left of the window we had granted; never more. */
static uint16_t window(const TcpStreamEntry *e)
{
	uint32_t used = e->inq_seq - e->rcv_wup;
	uint32_t left = e->has_rcv_wnd && used < e->rcv_wnd ? e->rcv_wnd - used : 0;

	left >>= MIN(e->rcv_wscale, 14u);
	return (uint16_t)MIN(left, 65535u);
}

static int send_to_peer(const struct tcp_put *p, bool v4, int proto, const uint8_t *data,
			size_t n, int times)
{
	_cleanup_close_ int fd = raw_socket(p, v4, proto);
	union inet_addr to = p->dst;

	if (fd < 0)
		return fd;
	inet_addr_unmap(&to);
	to.v4.sin_port = 0;
	while (times--)
		if (sendto(fd, data, n, 0, &to.sa, inet_addr_len(&to)) < 0)
			return neg_errno();
	return 0;
}

int tcp_kick(const struct tcp_put *p)
{
	const bool v4 = inet_addr_is_v4(&p->src);
	struct tcp_segment ack = { .from = p->src, .to = p->dst, .seq = p->e->outq_seq,
				   .ack = p->e->inq_seq, .window = window(p->e) };
	uint8_t b[128];
	size_t n = unreachable(p, v4, b, sizeof(b));
	int r = send_to_peer(p, v4, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, b, n, UNREACHABLES);

	if (r < 0)
		return r;
	n = tcp_forge_build(&ack, b, sizeof(b));
	return send_to_peer(p, v4, IPPROTO_RAW, b, n, 1);
}
