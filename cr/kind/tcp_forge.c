/*
 * A TCP segment made by hand and sent to ourselves. It is routed to a local address, so it
 * comes back over lo without meeting a wire, and keeps the peer as its source: packets looped
 * back this way have their route already and are not checked for martian sources.
 */
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>

#include "kind/sk_inet.h"
#include "netlock/netlock.h"

static uint32_t sum16(const void *data, size_t bytes, uint32_t sum)
{
	const uint8_t *p = data;

	for (size_t i = 0; i + 1 < bytes; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static uint32_t v4_of(const union inet_addr *a)
{
	union inet_addr plain = *a;

	inet_addr_unmap(&plain);
	return plain.v4.sin_addr.s_addr;
}

static bool is_v4(const struct tcp_segment *s)
{
	return inet_addr_is_v4(&s->to);
}

static void put_tcp(const struct tcp_segment *s, struct tcphdr *t, uint32_t pseudo)
{
	*t = (struct tcphdr){
		.source = htons(inet_addr_port(&s->from)),
		.dest = htons(inet_addr_port(&s->to)),
		.seq = htonl(s->seq),
		.ack_seq = htonl(s->ack),
		.doff = sizeof(*t) / 4,
		.ack = 1,
		.fin = s->fin,
		.rst = s->rst,
		.window = htons(s->window),
		.urg_ptr = s->replay ? htons(NETLOCK_REPLAY) : 0,
	};
	t->check = fold(sum16(t, sizeof(*t), pseudo + IPPROTO_TCP + sizeof(*t)));
}

/* Returns the packet's length, 0 if it does not fit. */
size_t tcp_forge_build(const struct tcp_segment *s, uint8_t *packet, size_t room)
{
	struct tcphdr t;

	if (is_v4(s)) {
		struct iphdr ip = {
			.version = 4,
			.ihl = sizeof(ip) / 4,
			.tot_len = htons(sizeof(ip) + sizeof(t)),
			.ttl = 64,
			.protocol = IPPROTO_TCP,
			.saddr = v4_of(&s->from),
			.daddr = v4_of(&s->to),
		};

		if (room < sizeof(ip) + sizeof(t))
			return 0;
		put_tcp(s, &t, sum16(&ip.saddr, 8, 0));
		ip.check = fold(sum16(&ip, sizeof(ip), 0));
		memcpy(packet, &ip, sizeof(ip));
		memcpy(packet + sizeof(ip), &t, sizeof(t));
		return sizeof(ip) + sizeof(t);
	} else {
		struct ip6_hdr ip = {
			.ip6_flow = htonl(6u << 28),
			.ip6_plen = htons(sizeof(t)),
			.ip6_nxt = IPPROTO_TCP,
			.ip6_hlim = 64,
			.ip6_src = s->from.v6.sin6_addr,
			.ip6_dst = s->to.v6.sin6_addr,
		};

		if (room < sizeof(ip) + sizeof(t))
			return 0;
		put_tcp(s, &t, sum16(&ip.ip6_src, 32, 0));
		memcpy(packet, &ip, sizeof(ip));
		memcpy(packet + sizeof(ip), &t, sizeof(t));
		return sizeof(ip) + sizeof(t);
	}
}

int tcp_forge(const struct tcp_segment *segment)
{
	struct tcp_segment with_mark = *segment, *s = &with_mark;
	uint8_t packet[sizeof(struct ip6_hdr) + sizeof(struct tcphdr)];
	union inet_addr to = s->to;
	size_t n;
	_cleanup_close_ int fd = -EBADF;
	int r;

	with_mark.replay = true;
	n = tcp_forge_build(s, packet, sizeof(packet));
	inet_addr_unmap(&to);
	to.v4.sin_port = 0;	/* at the same place in both; a raw socket has none */
	/* IPPROTO_RAW: the header is ours, in both families. */
	fd = socket(to.sa.sa_family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (fd < 0)
		return neg_errno();
	r = sk_set_int(fd, SOL_SOCKET, SO_MARK, TCP_FORGE_MARK);
	if (r < 0)
		return r;
	return sendto(fd, packet, n, 0, &to.sa, inet_addr_len(&to)) < 0 ? neg_errno() : 0;
}

/* As a rule the segment is there when sendto(2) returns; under load the kernel may be late. */
int tcp_wait_state(int fd, uint32_t state, uint32_t *ret_last)
{
	for (int i = 0; i < 1000; i++) {
		struct tcp_info info;
		int r = tcp_get_info(fd, &info);

		if (r < 0)
			return r;
		*ret_last = info.tcpi_state;
		if (info.tcpi_state == state)
			return 0;
		usleep(1000);
	}
	return -ETIMEDOUT;
}
