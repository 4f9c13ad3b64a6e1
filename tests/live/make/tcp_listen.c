/*
 * Listening TCP sockets, IPv4 and IPv6: addresses, backlog, options (also those CRIU's format
 * has no field for), SO_REUSEPORT groups, one without SO_REUSEADDR beside its connections;
 * sockets bound only, fresh ones; the owner.
 * cr-options: --tcp-established
 */
#include "sock_common.h"

static int listener(int family, const char *ip, int port, int flags)
{
	struct sockaddr_in a4;
	struct sockaddr_in6 a6;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	MAKER_MUST(fd >= 0);
	if (flags & 1)
		sock_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (flags & 2)
		sock_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (flags & 4)
		sock_set(fd, SOL_IPV6, IPV6_V6ONLY, 1);
	if (family == AF_INET) {
		sock_in(&a4, ip, port);
		MAKER_MUST(!bind(fd, (struct sockaddr *)&a4, sizeof(a4)));
	} else {
		sock_in6(&a6, ip, port);
		MAKER_MUST(!bind(fd, (struct sockaddr *)&a6, sizeof(a6)));
	}
	MAKER_MUST(!listen(fd, 33));
	return fd;
}

static int port_of(int fd)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);

	MAKER_MUST(!getsockname(fd, (struct sockaddr *)&a, &len));
	return ntohs(a.sin6_port);
}

static int connect4(int port)
{
	struct sockaddr_in a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	sock_in(&a, "127.0.0.1", port);
	MAKER_MUST(fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)));
	return fd;
}

static void expect_accepts(const char *what, int l, int port)
{
	int c, s;
	struct tcp_info info;
	socklen_t len = sizeof(info);

	MAKER_SAME(what, port_of(l), port);
	MAKER_MUST(!getsockopt(l, SOL_TCP, TCP_INFO, &info, &len));
	MAKER_SAME("backlog", info.tcpi_sacked, 33);
	c = connect4(port);
	s = accept(l, NULL, NULL);
	MAKER_MUST(s >= 0);
	sock_talk(what, c, s);
	close(c);
	close(s);
}

/* Options for which CRIU's images have no field. */
static void set_rarer(int fd)
{
	struct linger linger = { 1, 17 };

	sock_set(fd, SOL_TCP, TCP_DEFER_ACCEPT, 3);
	sock_set(fd, SOL_TCP, TCP_USER_TIMEOUT, 12345);
	sock_set(fd, SOL_TCP, TCP_FASTOPEN, 5);
	sock_set(fd, SOL_IPV6, IPV6_TCLASS, 0x28);
	MAKER_MUST(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
}

static void check_rarer(int fd)
{
	struct linger linger;
	socklen_t len = sizeof(linger);

	MAKER_SAME("TCP_DEFER_ACCEPT", sock_int(fd, SOL_TCP, TCP_DEFER_ACCEPT) > 0, 1);
	MAKER_SAME("TCP_USER_TIMEOUT", sock_int(fd, SOL_TCP, TCP_USER_TIMEOUT), 12345);
	MAKER_SAME("TCP_FASTOPEN", sock_int(fd, SOL_TCP, TCP_FASTOPEN), 5);
	MAKER_SAME("IPV6_TCLASS", sock_int(fd, SOL_IPV6, IPV6_TCLASS), 0x28);
	MAKER_MUST(!getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len));
	MAKER_SAME("SO_LINGER", linger.l_onoff * 100 + linger.l_linger, 117);
}

int main(int argc, char **argv)
{
	int l4, l6, only6, dual, multi, group[2], c, s, dc, ds, bound, fresh;
	int p4, p6, po, pd, pg, pb;
	char name[32] = "";
	socklen_t len = sizeof(name);
	struct sockaddr_in6 a6;
	struct stat st;

	maker_begin(argc, argv);
	l4 = listener(AF_INET, "127.0.0.1", 0, 0);
	p4 = port_of(l4);
	c = connect4(p4);
	s = accept4(l4, NULL, NULL, SOCK_NONBLOCK);
	MAKER_MUST(s >= 0 && fcntl(l4, F_SETFL, O_NONBLOCK) == 0);
	l6 = listener(AF_INET6, "::", 0, 2);
	p6 = port_of(l6);
	only6 = listener(AF_INET6, "::1", 0, 4);
	po = port_of(only6);
	/* IPv4 connections of an IPv6 listener, on its port. */
	dual = listener(AF_INET6, "::", 0, 0);
	pd = port_of(dual);
	dc = connect4(pd);
	ds = accept(dual, NULL, NULL);
	MAKER_MUST(ds >= 0);
	/* Multipath TCP, where the kernel has it. */
	multi = maker_is_plain() ? -1 : socket(AF_INET, SOCK_STREAM, 262);
	if (multi >= 0) {
		struct sockaddr_in a;

		sock_in(&a, "127.0.0.1", 0);
		MAKER_MUST(!bind(multi, (struct sockaddr *)&a, sizeof(a)) && !listen(multi, 33));
	}
	group[0] = listener(AF_INET, "0.0.0.0", 0, 1);
	pg = port_of(group[0]);
	group[1] = listener(AF_INET, "0.0.0.0", pg, 1);
	sock_set(l6, SOL_SOCKET, SO_KEEPALIVE, 1);
	sock_set(l6, SOL_TCP, TCP_KEEPIDLE, 77);
	sock_set(l6, SOL_TCP, TCP_KEEPINTVL, 11);
	sock_set(l6, SOL_TCP, TCP_KEEPCNT, 3);
	sock_set(l6, SOL_TCP, TCP_NODELAY, 1);
	if (!maker_is_plain())
		set_rarer(l6);
	sock_set(l6, SOL_SOCKET, SO_RCVBUF, 60000);
	sock_set(l6, SOL_SOCKET, SO_MARK, 99);
	sock_set(l6, SOL_SOCKET, SO_RCVLOWAT, 3);
	sock_set(l4, SOL_IP, IP_TOS, 0x10);
	sock_set(l4, SOL_IP, IP_TTL, 7);
	MAKER_MUST(!setsockopt(l4, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2));
	bound = socket(AF_INET6, SOCK_STREAM, 0);
	sock_in6(&a6, "::1", 0);
	MAKER_MUST(!bind(bound, (struct sockaddr *)&a6, sizeof(a6)));
	pb = port_of(bound);
	fresh = socket(AF_INET, SOCK_STREAM, 0);
	MAKER_MUST(fresh >= 0);

	maker_ready();
	maker_wait();

	expect_accepts("127.0.0.1", l4, p4);
	sock_talk("accepted before", c, s);
	sock_talk("mapped, accepted before", dc, ds);
	expect_accepts("::", dual, pd);
	if (multi >= 0) {
		MAKER_SAME("protocol", sock_int(multi, SOL_SOCKET, SO_PROTOCOL), 262);
		expect_accepts("Multipath TCP", multi, port_of(multi));
	}
	MAKER_SAME("SO_REUSEADDR of a plain listener", sock_int(l4, SOL_SOCKET, SO_REUSEADDR), 0);
	MAKER_SAME("SO_REUSEADDR of its connection", sock_int(s, SOL_SOCKET, SO_REUSEADDR), 0);
	MAKER_SAME("SO_REUSEADDR", sock_int(l6, SOL_SOCKET, SO_REUSEADDR), 1);
	MAKER_SAME("IP_FREEBIND", sock_int(l4, SOL_IP, IP_FREEBIND), 0);
	MAKER_SAME("O_NONBLOCK", fcntl(l4, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	MAKER_SAME("O_NONBLOCK of a connection", fcntl(s, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	MAKER_SAME("O_NONBLOCK of a client", fcntl(c, F_GETFL) & O_NONBLOCK, 0);
	MAKER_SAME("TOS", sock_int(l4, SOL_IP, IP_TOS), 0x10);
	MAKER_SAME("TTL", sock_int(l4, SOL_IP, IP_TTL), 7);
	MAKER_MUST(!getsockopt(l4, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
	MAKER_SAME("SO_BINDTODEVICE", strcmp(name, "lo"), 0);
	MAKER_SAME("SO_KEEPALIVE", sock_int(l6, SOL_SOCKET, SO_KEEPALIVE), 1);
	MAKER_SAME("TCP_KEEPIDLE", sock_int(l6, SOL_TCP, TCP_KEEPIDLE), 77);
	MAKER_SAME("TCP_KEEPINTVL", sock_int(l6, SOL_TCP, TCP_KEEPINTVL), 11);
	MAKER_SAME("TCP_KEEPCNT", sock_int(l6, SOL_TCP, TCP_KEEPCNT), 3);
	MAKER_SAME("TCP_NODELAY", sock_int(l6, SOL_TCP, TCP_NODELAY), 1);
	if (!maker_is_plain())
		check_rarer(l6);
	MAKER_SAME("SO_RCVBUF", sock_int(l6, SOL_SOCKET, SO_RCVBUF), 120000);
	MAKER_SAME("SO_MARK", sock_int(l6, SOL_SOCKET, SO_MARK), 99);
	MAKER_SAME("SO_RCVLOWAT", sock_int(l6, SOL_SOCKET, SO_RCVLOWAT), 3);
	MAKER_SAME("IPv6 port", port_of(l6), p6);
	MAKER_SAME("IPV6_V6ONLY off", sock_int(l6, SOL_IPV6, IPV6_V6ONLY), 0);
	MAKER_SAME("IPV6_V6ONLY on", sock_int(only6, SOL_IPV6, IPV6_V6ONLY), 1);
	MAKER_SAME("::1 port", port_of(only6), po);
	MAKER_SAME("group", port_of(group[1]), pg);
	MAKER_SAME("SO_REUSEPORT", sock_int(group[1], SOL_SOCKET, SO_REUSEPORT), 1);
	close(group[0]);
	expect_accepts("SO_REUSEPORT", group[1], pg);
	MAKER_MUST(!fstat(l4, &st));
	MAKER_SAME("owner", st.st_uid, getuid());
	MAKER_SAME("bound only", port_of(bound), pb);
	MAKER_MUST(!listen(bound, 1));
	{
		struct sockaddr_in a;

		sock_in(&a, "127.0.0.1", pg);
		MAKER_MUST(!connect(fresh, (struct sockaddr *)&a, sizeof(a)));
	}
	maker_ok();
}
