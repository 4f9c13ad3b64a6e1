/* UDP sockets, IPv4 and IPv6: bound, connected, shut down, options; raw sockets, connected too. */
#include "sock_common.h"

static int port_of(int fd)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);

	MAKER_MUST(!getsockname(fd, (struct sockaddr *)&a, &len));
	return ntohs(a.sin6_port);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a4, peer;
	struct sockaddr_in6 a6;
	int rx, tx, rx6, tx6, fresh, group[2], raw, raw_c, raw6_c, peek, peek_port, p, p6, pg, ptx;
	socklen_t len = sizeof(peer);
	uint32_t filter = ~(1u << 0), now = 0;
	char buf[64];

	maker_begin(argc, argv);
	rx = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	sock_in(&a4, "127.0.0.1", 0);
	MAKER_MUST(!bind(rx, (struct sockaddr *)&a4, sizeof(a4)));
	p = port_of(rx);
	sock_set(rx, SOL_SOCKET, SO_BROADCAST, 1);
	sock_set(rx, SOL_IP, IP_PKTINFO, 1);
	sock_set(rx, SOL_IP, IP_RECVERR, !maker_is_plain());
	sock_set(rx, SOL_IP, IP_MULTICAST_TTL, maker_is_plain() ? 1 : 9);
	sock_set(rx, SOL_IP, IP_FREEBIND, 1);
	tx = socket(AF_INET, SOCK_DGRAM, 0);
	sock_in(&a4, "127.0.0.1", p);
	MAKER_MUST(!connect(tx, (struct sockaddr *)&a4, sizeof(a4)));
	ptx = port_of(tx);

	rx6 = socket(AF_INET6, SOCK_DGRAM, 0);
	sock_in6(&a6, "::", 0);
	MAKER_MUST(!bind(rx6, (struct sockaddr *)&a6, sizeof(a6)));
	p6 = port_of(rx6);
	sock_set(rx6, SOL_IPV6, IPV6_RECVPKTINFO, 1);
	sock_set(rx6, SOL_IPV6, IPV6_UNICAST_HOPS, maker_is_plain() ? 64 : 33);
	tx6 = socket(AF_INET6, SOCK_DGRAM, 0);
	sock_in6(&a6, "::1", p6);
	MAKER_MUST(!connect(tx6, (struct sockaddr *)&a6, sizeof(a6)) && !shutdown(tx6, SHUT_RD));
	for (int i = 0; i < 2; i++) {
		group[i] = socket(AF_INET, SOCK_DGRAM, 0);
		sock_set(group[i], SOL_SOCKET, SO_REUSEPORT, 1);
		sock_in(&a4, "127.0.0.1", i ? pg : 0);
		MAKER_MUST(!bind(group[i], (struct sockaddr *)&a4, sizeof(a4)));
		pg = port_of(group[i]);
	}
	fresh = socket(AF_INET6, SOCK_DGRAM, 0);
	raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	MAKER_MUST(fresh >= 0 && raw >= 0);
	MAKER_MUST(!setsockopt(raw, SOL_RAW, 1 /* ICMP_FILTER */, &filter, sizeof(filter)));

	raw_c = socket(AF_INET, SOCK_RAW, 253);
	sock_in(&a4, "127.0.0.1", 0);
	MAKER_MUST(raw_c >= 0 && (maker_is_plain() ||
				  !connect(raw_c, (struct sockaddr *)&a4, sizeof(a4))));
	raw6_c = socket(AF_INET6, SOCK_RAW, 253);
	sock_in6(&a6, "::1", 0);
	MAKER_MUST(raw6_c >= 0 && (maker_is_plain() ||
				   !connect(raw6_c, (struct sockaddr *)&a6, sizeof(a6))));

	/* Its datagram is lost, as the network may lose any; the next one is seen from its first byte. */
	peek = socket(AF_INET, SOCK_DGRAM, 0);
	sock_in(&a4, "127.0.0.1", 0);
	MAKER_MUST(!bind(peek, (struct sockaddr *)&a4, sizeof(a4)));
	peek_port = port_of(peek);
	sock_set(peek, SOL_SOCKET, SO_PEEK_OFF, 3);

	maker_ready();
	maker_wait();

	MAKER_SAME("port", port_of(rx), p);
	MAKER_SAME("client's port", port_of(tx), ptx);
	MAKER_MUST(!getpeername(tx, (struct sockaddr *)&peer, &len));
	MAKER_SAME("client's peer", ntohs(peer.sin_port), p);
	MAKER_MUST(send(tx, "v4", 2, 0) == 2);
	sock_expect("IPv4", rx, "v4", 2);
	MAKER_SAME("SO_BROADCAST", sock_int(rx, SOL_SOCKET, SO_BROADCAST), 1);
	MAKER_SAME("IP_PKTINFO", sock_int(rx, SOL_IP, IP_PKTINFO), 1);
	MAKER_SAME("IP_RECVERR", sock_int(rx, SOL_IP, IP_RECVERR), !maker_is_plain());
	MAKER_SAME("IP_MULTICAST_TTL", sock_int(rx, SOL_IP, IP_MULTICAST_TTL),
		   maker_is_plain() ? 1 : 9);
	MAKER_SAME("IP_FREEBIND", sock_int(rx, SOL_IP, IP_FREEBIND), 1);
	MAKER_SAME("IP_FREEBIND of the other", sock_int(tx, SOL_IP, IP_FREEBIND), 0);
	MAKER_SAME("SO_REUSEADDR", sock_int(rx, SOL_SOCKET, SO_REUSEADDR), 0);
	MAKER_SAME("O_NONBLOCK", fcntl(rx, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	MAKER_SAME("O_NONBLOCK of the other", fcntl(tx, F_GETFL) & O_NONBLOCK, 0);
	MAKER_MUST(send(tx6, "v6", 2, 0) == 2);
	sock_expect("IPv6", rx6, "v6", 2);
	MAKER_SAME("IPv6 port", port_of(rx6), p6);
	MAKER_SAME("IPV6_RECVPKTINFO", sock_int(rx6, SOL_IPV6, IPV6_RECVPKTINFO), 1);
	MAKER_SAME("IPV6_UNICAST_HOPS", sock_int(rx6, SOL_IPV6, IPV6_UNICAST_HOPS),
		   maker_is_plain() ? 64 : 33);
	MAKER_SAME("shut down", recv(tx6, buf, sizeof(buf), 0), 0);
	MAKER_SAME("group", port_of(group[1]), pg);
	MAKER_SAME("SO_REUSEPORT", sock_int(group[0], SOL_SOCKET, SO_REUSEPORT), 1);
	MAKER_SAME("fresh", port_of(fresh), 0);
	len = sizeof(now);
	MAKER_MUST(!getsockopt(raw, SOL_RAW, 1, &now, &len));
	MAKER_SAME("ICMP filter", now, filter);
	if (maker_is_plain())
		maker_ok();
	MAKER_MUST(send(raw_c, "raw", 3, 0) == 3);
	MAKER_MUST(recv(raw_c, buf, sizeof(buf), 0) == 23 && !memcmp(buf + 20, "raw", 3));
	MAKER_MUST(send(raw6_c, "six", 3, 0) == 3);
	sock_expect("raw IPv6", raw6_c, "six", 3);
	if (sock_int(peek, SOL_SOCKET, SO_PEEK_OFF)) {
		MAKER_SAME("SO_PEEK_OFF of a dump that changes nothing",
			   sock_int(peek, SOL_SOCKET, SO_PEEK_OFF), 3);
		maker_ok();
	}
	sock_in(&a4, "127.0.0.1", peek_port);
	MAKER_MUST(sendto(group[0], "012345", 6, 0, (struct sockaddr *)&a4,
			  sizeof(a4)) == 6);
	MAKER_MUST(recv(peek, buf, 3, MSG_PEEK) == 3 && !memcmp(buf, "012", 3));
	maker_ok();
}
