/*
 * Multicast memberships: joined by interface number and by its address, with sources shut out, only
 * some let in; IPv6, an IPv6 socket in an IPv4 group, a raw socket; packet sockets joined twice.
 * What was joined is received, and can be left in the way it was joined.
 */
#include "sock_common.h"

#include <linux/if_packet.h>
#include <net/if.h>

#define G1 "239.77.1.1"
#define G2 "239.77.1.2"
#define G3 "232.77.1.3"
#define G6 "ff15::7701"
#define G7 "ff35::7702"
#define LINK_HEX "01005e070707"

static unsigned int lo;

static void put4(struct sockaddr_storage *s, const char *ip)
{
	memset(s, 0, sizeof(*s));
	sock_in((struct sockaddr_in *)s, ip, 0);
}

static void put6(struct sockaddr_storage *s, const char *ip)
{
	memset(s, 0, sizeof(*s));
	sock_in6((struct sockaddr_in6 *)s, ip, 0);
}

/* -1: no member; else the number of sources, with the mode in bit 8. */
static int member(int fd, int level, const char *ip, struct sockaddr_storage *sources)
{
	static _Alignas(8) char room[GROUP_FILTER_SIZE(8)];
	struct group_filter *f = (void *)room;
	socklen_t len = sizeof(room);

	memset(room, 0, sizeof(room));
	f->gf_interface = lo;
	(level == SOL_IP ? put4 : put6)(&f->gf_group, ip);
	f->gf_numsrc = 8;
	if (getsockopt(fd, level, MCAST_MSFILTER, f, &len) < 0)
		return -1;
	memcpy(sources, f->gf_slist, f->gf_numsrc * sizeof(*sources));
	return (int)(f->gf_numsrc | f->gf_fmode << 8);
}

static void join_source(int fd, int level, int how, const char *group, const char *source)
{
	struct group_source_req q = { .gsr_interface = lo };

	(level == SOL_IP ? put4 : put6)(&q.gsr_group, group);
	(level == SOL_IP ? put4 : put6)(&q.gsr_source, source);
	MAKER_MUST(!setsockopt(fd, level, how, &q, sizeof(q)));
}

static int bound4(int port)
{
	struct sockaddr_in a;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	sock_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	sock_in(&a, "0.0.0.0", port);
	MAKER_MUST(!bind(fd, (struct sockaddr *)&a, sizeof(a)));
	sock_set(fd, SOL_IP, IP_MULTICAST_ALL, 0);
	return fd;
}

static void send4(const char *group, int port, const char *text)
{
	struct in_addr via = { htonl(INADDR_LOOPBACK) };
	struct sockaddr_in a;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	sock_in(&a, group, port);
	MAKER_MUST(!setsockopt(fd, SOL_IP, IP_MULTICAST_IF, &via, sizeof(via)));
	MAKER_MUST(sendto(fd, text, strlen(text), 0, (struct sockaddr *)&a, sizeof(a)) ==
		   (ssize_t)strlen(text));
	close(fd);
}

static int port_of(int fd)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	MAKER_MUST(!getsockname(fd, (struct sockaddr *)&a, &len));
	return ntohs(a.sin_port);
}

static void is_source(const char *what, const struct sockaddr_storage *s, int n, const char *ip)
{
	char text[INET6_ADDRSTRLEN];

	for (int i = 0; i < n; i++) {
		inet_ntop(s[i].ss_family, s[i].ss_family == AF_INET
			  ? (const void *)&((const struct sockaddr_in *)&s[i])->sin_addr
			  : &((const struct sockaddr_in6 *)&s[i])->sin6_addr, text, sizeof(text));
		if (!strcmp(text, ip))
			return;
	}
	maker_fail("%s: source %s is missing", what, ip);
}

static bool is_on_device(void)
{
	char line[256];
	bool found = false;
	FILE *f = fopen("/proc/net/dev_mcast", "r");

	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f))
		found |= strstr(line, LINK_HEX) != NULL;
	fclose(f);
	return found;
}

int main(int argc, char **argv)
{
	struct ip_mreqn by_index = { .imr_ifindex = 0 };
	struct ip_mreq by_address = { .imr_interface = { htonl(INADDR_LOOPBACK) } };
	struct group_req six = { 0 };
	struct sockaddr_storage s[8];
	struct packet_mreq link = { 0, PACKET_MR_MULTICAST, 6, { 1, 0, 94, 7, 7, 7 } };
	int u1, u2, ssm, v6, raw, none, pkt, port;

	maker_begin(argc, argv);
	lo = if_nametoindex("lo");
	link.mr_ifindex = (int)lo;
	u1 = bound4(0);
	port = port_of(u1);
	by_index.imr_ifindex = (int)lo;
	inet_pton(AF_INET, G1, &by_index.imr_multiaddr);
	MAKER_MUST(!setsockopt(u1, SOL_IP, IP_ADD_MEMBERSHIP, &by_index, sizeof(by_index)));
	u2 = bound4(port);
	inet_pton(AF_INET, G2, &by_address.imr_multiaddr);
	MAKER_MUST(!setsockopt(u2, SOL_IP, IP_ADD_MEMBERSHIP, &by_address, sizeof(by_address)));
	join_source(u2, SOL_IP, MCAST_BLOCK_SOURCE, G2, "10.9.8.7");
	ssm = bound4(port);
	join_source(ssm, SOL_IP, MCAST_JOIN_SOURCE_GROUP, G3, "127.0.0.1");
	join_source(ssm, SOL_IP, MCAST_JOIN_SOURCE_GROUP, G3, "10.9.8.6");
	none = bound4(port);
	v6 = socket(AF_INET6, SOCK_DGRAM, 0);
	six.gr_interface = lo;
	put6(&six.gr_group, G6);
	MAKER_MUST(!setsockopt(v6, SOL_IPV6, MCAST_JOIN_GROUP, &six, sizeof(six)));
	join_source(v6, SOL_IPV6, MCAST_JOIN_SOURCE_GROUP, G7, "2001:db8::5");
	MAKER_MUST(!setsockopt(v6, SOL_IP, IP_ADD_MEMBERSHIP, &by_index, sizeof(by_index)));
	raw = socket(AF_INET, SOCK_RAW, 253);
	MAKER_MUST(!setsockopt(raw, SOL_IP, IP_ADD_MEMBERSHIP, &by_index, sizeof(by_index)));
	pkt = socket(AF_PACKET, SOCK_RAW, 0);
	for (int i = 0; i < 2; i++)
		MAKER_MUST(!setsockopt(pkt, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &link, sizeof(link)));
	MAKER_SAME("members before", member(u1, SOL_IP, G1, s), 0);

	maker_ready();
	maker_wait();

	MAKER_SAME("by number", member(u1, SOL_IP, G1, s), 0);
	MAKER_SAME("by number, another group", member(u1, SOL_IP, G2, s), -1);
	MAKER_SAME("by address", member(u2, SOL_IP, G2, s), 1);
	is_source("by address", s, 1, "10.9.8.7");
	MAKER_SAME("only two sources", member(ssm, SOL_IP, G3, s), 2 | MCAST_INCLUDE << 8);
	is_source("only two sources", s, 2, "127.0.0.1");
	is_source("only two sources", s, 2, "10.9.8.6");
	MAKER_SAME("no member", member(none, SOL_IP, G1, s), -1);
	MAKER_SAME("IPv6", member(v6, SOL_IPV6, G6, s), 0);
	MAKER_SAME("IPv6, one source", member(v6, SOL_IPV6, G7, s), 1 | MCAST_INCLUDE << 8);
	is_source("IPv6", s, 1, "2001:db8::5");
	MAKER_SAME("IPv6 socket in an IPv4 group", member(v6, SOL_IP, G1, s), 0);
	MAKER_SAME("raw", member(raw, SOL_IP, G1, s), 0);
	send4(G1, port, "to 1");
	send4(G2, port, "to 2");
	send4(G3, port, "to 3");
	sock_expect("by number", u1, "to 1", 4);
	sock_expect("by address", u2, "to 2", 4);
	sock_expect("one source", ssm, "to 3", 4);
	sock_empty("no member", none);
	MAKER_MUST(!setsockopt(u1, SOL_IP, IP_DROP_MEMBERSHIP, &by_index, sizeof(by_index)));
	MAKER_MUST(!setsockopt(u2, SOL_IP, IP_DROP_MEMBERSHIP, &by_address, sizeof(by_address)));
	MAKER_SAME("left", member(u1, SOL_IP, G1, s), -1);
	MAKER_SAME("left by address", member(u2, SOL_IP, G2, s), -1);
	for (int i = 2; i >= 0; i--) {
		MAKER_SAME("packet socket's address on the device", is_on_device(), i > 0);
		MAKER_MUST(!setsockopt(pkt, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &link,
				       sizeof(link)));
	}
	maker_ok();
}
