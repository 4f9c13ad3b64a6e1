/*
 * TCP connections whose ends are both in the tree, over IPv4, IPv6 and IPv4 mapped into IPv6:
 * queues in both directions, bytes the window held back, every state a descriptor can have.
 * cr-options: --tcp-established
 */
#include "sock_common.h"

static struct pair {
	const char *name;
	int c, s;
	uint64_t sent, got;
} pairs[32];
static size_t n_pairs;

enum way { V4, V6, MAPPED };

/* As on a link with a small MTU: lo's own is larger than most windows. */
static int segment_limit;

static struct pair *make(const char *name, enum way way)
{
	struct sockaddr_in6 a6;
	struct sockaddr_in a4;
	socklen_t len = sizeof(a6);
	int l = socket(way == V4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
	struct pair *p = &pairs[n_pairs++];

	p->name = name;
	if (segment_limit)
		sock_set(l, SOL_TCP, TCP_MAXSEG, segment_limit);
	if (way == V4) {
		sock_in(&a4, "127.0.0.1", 0);
		MAKER_MUST(!bind(l, (struct sockaddr *)&a4, sizeof(a4)));
	} else {
		sock_in6(&a6, way == V6 ? "::1" : "::ffff:127.0.0.1", 0);
		MAKER_MUST(!bind(l, (struct sockaddr *)&a6, sizeof(a6)));
	}
	MAKER_MUST(!listen(l, 1) && !getsockname(l, (struct sockaddr *)&a6, &len));
	p->c = socket(way == V4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
	if (segment_limit)
		sock_set(p->c, SOL_TCP, TCP_MAXSEG, segment_limit + 100);
	MAKER_MUST(!connect(p->c, (struct sockaddr *)&a6, len));
	p->s = accept(l, NULL, NULL);
	MAKER_MUST(p->s >= 0 && !close(l));
	return p;
}

/* Until nothing more is taken; then p->s has a queue and p->c one that waits for it. */
static void stuff(struct pair *p)
{
	static uint8_t buf[65536];
	int still = 0;

	while (still < 20) {
		ssize_t n;

		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = sock_byte(p->sent + i);
		n = send(p->c, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0) {
			p->sent += (uint64_t)n;
			still = 0;
		} else {
			MAKER_MUST(errno == EAGAIN);
			usleep(5000);
			still++;
		}
	}
}

static void receive_all(struct pair *p)
{
	static uint8_t buf[65536];

	while (p->got < p->sent) {
		struct pollfd pf = { .fd = p->s, .events = POLLIN };
		ssize_t n;

		if (poll(&pf, 1, 15000) != 1)
			maker_fail("%s: stuck after %llu of %llu bytes", p->name,
				   (unsigned long long)p->got, (unsigned long long)p->sent);
		n = recv(p->s, buf, sizeof(buf), 0);
		if (n <= 0)
			maker_fail("%s: recv gives %zd (%s)", p->name, n, strerror(errno));
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != sock_byte(p->got + (uint64_t)i))
				maker_fail("%s: wrong byte at %llu", p->name,
					   (unsigned long long)p->got + (unsigned long long)i);
		p->got += (uint64_t)n;
	}
}

static int state(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	MAKER_MUST(!getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len));
	return info.tcpi_state;
}

static void expect_state(const char *what, int fd, int should)
{
	for (int i = 0; i < 6000 && state(fd) != should; i++)
		usleep(5000);
	MAKER_SAME(what, state(fd), should);
}

static void say(int fd, const char *text)
{
	MAKER_MUST(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

static struct tcp_info before[2];

static void look(int fd, struct tcp_info *i)
{
	socklen_t len = sizeof(*i);

	MAKER_MUST(!getsockopt(fd, SOL_TCP, TCP_INFO, i, &len));
}

static int reset_errno(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_DONTWAIT) < 0 ? errno : 0;
}

static struct pair *dead, *rst;
static int refused, refused_read;

static int make_refused_at(const struct sockaddr_in *a)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	MAKER_MUST(connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 && errno == EINPROGRESS);
	expect_state("refused", fd, TCP_CLOSE);
	return fd;
}

/* Nobody listens there; one's error is not read yet. */
static void make_refused(void)
{
	int port = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	sock_in(&a, "127.0.0.1", 0);
	MAKER_MUST(!bind(port, (struct sockaddr *)&a, sizeof(a)));
	MAKER_MUST(!getsockname(port, (struct sockaddr *)&a, &len));
	refused = make_refused_at(&a);
	refused_read = make_refused_at(&a);
	MAKER_SAME("refused", sock_int(refused_read, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
	close(port);
}

/* It can connect again: the first call says what became of the other connect. */
static void check_refused_read(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	int port = socket(AF_INET, SOCK_STREAM, 0);

	MAKER_SAME("the error that was read", sock_int(refused_read, SOL_SOCKET, SO_ERROR), 0);
	sock_in(&a, "127.0.0.1", 0);
	MAKER_MUST(!bind(port, (struct sockaddr *)&a, sizeof(a)) && !listen(port, 1));
	MAKER_MUST(!getsockname(port, (struct sockaddr *)&a, &len));
	MAKER_MUST(connect(refused_read, (struct sockaddr *)&a, len) < 0);
	MAKER_SAME("to connect again", errno, ECONNABORTED);
	MAKER_MUST(connect(refused_read, (struct sockaddr *)&a, len) < 0);
	MAKER_SAME("to connect at last", errno, EINPROGRESS);
	expect_state("connected at last", refused_read, TCP_ESTABLISHED);
	close(port);
}

static void make_dead(void)
{
	struct linger at_once = { 1, 0 };

	/* s: CLOSE after both FINs, bytes unread. */
	dead = make("closed", V4);
	say(dead->c, "last");
	MAKER_MUST(!shutdown(dead->c, SHUT_WR));
	expect_state("closing server", dead->s, TCP_CLOSE_WAIT);
	MAKER_MUST(!shutdown(dead->s, SHUT_WR));
	expect_state("closed server", dead->s, TCP_CLOSE);
	if (maker_is_plain())
		return;
	/* s: CLOSE by a reset. */
	rst = make("reset", V6);
	MAKER_MUST(!setsockopt(rst->c, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)));
	close(rst->c);
	expect_state("reset server", rst->s, TCP_CLOSE);
	make_refused();
}

static void check_dead(void)
{
	MAKER_SAME("closed", state(dead->s), TCP_CLOSE);
	sock_expect("closed", dead->s, "last", 4);
	sock_eof("closed", dead->s);
	/* On a busy machine CRIU's forged end may meet a reset of the restored peer's. */
	MAKER_MUST(send(dead->s, "x", 1, MSG_NOSIGNAL) == -1 && (errno == EPIPE || maker_is_plain()));
	if (maker_is_plain())
		return;
	MAKER_SAME("reset", reset_errno(rst->s), ECONNRESET);
	sock_eof("reset", rst->s);
	MAKER_SAME("refused", sock_int(refused, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
	MAKER_SAME("O_NONBLOCK", fcntl(refused, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	check_refused_read();
}

int main(int argc, char **argv)
{
	struct pair *full[3], *half, *both, *last, *unread, *opts, *cork;
	struct tcp_info now;
	char c;

	maker_begin(argc, argv);
	for (int w = V4; w <= MAPPED; w++) {
		static const char *const names[] = { "IPv4", "IPv6", "mapped" };

		full[w] = make(names[w], (enum way)w);
		stuff(full[w]);
		say(full[w]->s, "the other way");
	}
	/* c: FIN_WAIT2, s: CLOSE_WAIT with bytes to read and the end behind them. */
	half = make("half closed", V4);
	say(half->c, "bye");
	say(half->s, "wait");
	MAKER_MUST(!shutdown(half->c, SHUT_WR));
	/* c: FIN_WAIT1, its FIN behind bytes that do not fit the window. */
	both = make("FIN behind data", V6);
	stuff(both);
	MAKER_MUST(!shutdown(both->c, SHUT_WR));
	/* c: LAST_ACK, s: FIN_WAIT2 with a full queue. */
	last = make("last bytes", V4);
	MAKER_MUST(!shutdown(last->s, SHUT_WR));
	expect_state("last bytes", last->c, TCP_CLOSE_WAIT);
	stuff(last);
	MAKER_MUST(!shutdown(last->c, SHUT_WR));
	expect_state("last bytes", last->c, TCP_LAST_ACK);
	make_dead();
	unread = make("read side shut", V4);
	MAKER_MUST(!shutdown(unread->s, SHUT_RD));
	segment_limit = 1000;
	opts = make("options", V4);
	segment_limit = 0;
	sock_set(opts->s, SOL_TCP, TCP_NODELAY, 1);
	sock_set(opts->s, SOL_SOCKET, SO_KEEPALIVE, 1);
	sock_set(opts->s, SOL_TCP, TCP_KEEPIDLE, 55);
	sock_set(opts->s, SOL_TCP, TCP_USER_TIMEOUT, maker_is_plain() ? 0 : 4242);
	sock_set(opts->s, SOL_SOCKET, SO_SNDBUF, 50000);
	look(opts->c, &before[0]);
	look(opts->s, &before[1]);
	cork = make("corked", V4);
	sock_set(cork->c, SOL_TCP, TCP_CORK, 1);
	say(cork->c, "held back");
	expect_state("half closed client", half->c, TCP_FIN_WAIT2);
	expect_state("FIN behind data", both->c, TCP_FIN_WAIT1);

	maker_ready();
	maker_wait();

	for (int w = V4; w <= MAPPED; w++) {
		MAKER_SAME("state", state(full[w]->c), TCP_ESTABLISHED);
		receive_all(full[w]);
		sock_expect(full[w]->name, full[w]->c, "the other way", 13);
		sock_empty(full[w]->name, full[w]->s);
		sock_talk(full[w]->name, full[w]->c, full[w]->s);
		full[w]->sent = full[w]->got = 0;
		stuff(full[w]);
		receive_all(full[w]);
	}
	expect_state("half closed client", half->c, TCP_FIN_WAIT2);
	expect_state("half closed server", half->s, TCP_CLOSE_WAIT);
	sock_expect("half closed", half->s, "bye", 3);
	sock_eof("half closed", half->s);
	sock_expect("half closed", half->c, "wait", 4);
	say(half->s, "more");
	sock_expect("half closed", half->c, "more", 4);
	close(half->s);
	MAKER_SAME("half closed, end", recv(half->c, &c, 1, 0), 0);
	receive_all(both);
	MAKER_SAME("FIN behind data", recv(both->s, &c, 1, 0), 0);
	say(both->s, "still");
	sock_expect("FIN behind data", both->c, "still", 5);
	MAKER_SAME("last bytes", state(last->c), TCP_LAST_ACK);
	receive_all(last);
	MAKER_SAME("last bytes, end", recv(last->s, &c, 1, 0), 0);
	expect_state("last bytes acknowledged", last->c, TCP_CLOSE);
	check_dead();
	sock_eof("read side shut", unread->s);
	say(unread->s, "writes");
	sock_expect("read side shut", unread->c, "writes", 6);
	/* The kernel holds it back for 200 ms only; the option itself must still be there. */
	MAKER_SAME("TCP_CORK", sock_int(cork->c, SOL_TCP, TCP_CORK), 1);
	sock_set(cork->c, SOL_TCP, TCP_CORK, 0);
	sock_expect("corked", cork->s, "held back", 9);

	MAKER_SAME("TCP_NODELAY", sock_int(opts->s, SOL_TCP, TCP_NODELAY), 1);
	MAKER_SAME("TCP_KEEPIDLE", sock_int(opts->s, SOL_TCP, TCP_KEEPIDLE), 55);
	MAKER_SAME("TCP_USER_TIMEOUT", sock_int(opts->s, SOL_TCP, TCP_USER_TIMEOUT),
		   maker_is_plain() ? 0 : 4242);
	MAKER_SAME("SO_SNDBUF", sock_int(opts->s, SOL_SOCKET, SO_SNDBUF), 100000);
	look(opts->c, &now);
	MAKER_SAME("options", now.tcpi_options & 7, before[0].tcpi_options & 7);
	MAKER_SAME("send scale", now.tcpi_snd_wscale, before[0].tcpi_snd_wscale);
	MAKER_SAME("receive scale", now.tcpi_rcv_wscale, before[0].tcpi_rcv_wscale);
	MAKER_SAME("segment size", now.tcpi_snd_mss, before[0].tcpi_snd_mss);
	look(opts->s, &now);
	if (!maker_is_plain())
		MAKER_SAME("segment size of the server", now.tcpi_snd_mss,
			   before[1].tcpi_snd_mss);
	sock_talk("options", opts->c, opts->s);
	maker_ok();
}
