/* Packet sockets: interface, protocol, filter, options, multicast; they still receive. */
#include "sock_common.h"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>

int main(int argc, char **argv)
{
	/* Only UDP to port 47123 passes. */
	struct sock_filter code[] = {
		{ 0x28, 0, 0, 36 },		/* ldh [36]: the UDP destination port */
		{ 0x15, 0, 1, 47123 },
		{ 0x06, 0, 0, 65535 },
		{ 0x06, 0, 0, 0 },
	};
	struct sock_fprog prog = { 4, code };
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP),
				 .sll_ifindex = (int)if_nametoindex("lo") };
	struct packet_mreq m = { a.sll_ifindex, PACKET_MR_MULTICAST, 6, { 1, 0, 94, 1, 2, 3 } };
	struct sockaddr_ll now;
	struct sockaddr_in to;
	socklen_t len = sizeof(now);
	struct pollfd p;
	char buf[2048];
	int fd, udp;

	maker_begin(argc, argv);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	MAKER_MUST(fd >= 0);
	MAKER_MUST(!setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
	sock_set(fd, SOL_PACKET, PACKET_AUXDATA, 1);
	MAKER_MUST(!bind(fd, (struct sockaddr *)&a, sizeof(a)));
	MAKER_MUST(!setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof(m)));

	maker_ready();
	maker_wait();

	MAKER_MUST(!getsockname(fd, (struct sockaddr *)&now, &len));
	MAKER_SAME("interface", now.sll_ifindex, a.sll_ifindex);
	MAKER_SAME("protocol", now.sll_protocol, htons(ETH_P_IP));
	MAKER_SAME("PACKET_AUXDATA", sock_int(fd, SOL_PACKET, PACKET_AUXDATA), 1);
	MAKER_MUST(!setsockopt(fd, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &m, sizeof(m)));
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	for (int port = 47122; port <= 47123; port++) {
		sock_in(&to, "127.0.0.1", port);
		MAKER_MUST(sendto(udp, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)) == 1);
	}
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	MAKER_MUST(poll(&p, 1, 5000) == 1);
	MAKER_MUST(recv(fd, buf, sizeof(buf), 0) >= 43);
	MAKER_SAME("port of what the filter lets pass", (uint8_t)buf[36] << 8 | (uint8_t)buf[37],
		   47123);
	maker_ok();
}
