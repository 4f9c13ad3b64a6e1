/*
 * TCP connections with peers outside the tree that never stop sending and receiving: through
 * dump, end and restore every byte arrives once, nothing is reset, new clients are served.
 * cr-options: --tcp-established --network-lock nftables
 */
#include "sock_common.h"

#include <sys/signalfd.h>

struct talk {
	int fd;
	uint64_t out, in;
	bool ended;		/* we have read the other's end */
	const char *who;
};

static uint8_t buf[1 << 16];

/* One way has even, the other odd seeds. */
static uint8_t byte_of(uint64_t n, int seed)
{
	return (uint8_t)(sock_byte(n) + seed);
}

static void send_some(struct talk *t, int seed)
{
	ssize_t n;

	for (size_t i = 0; i < sizeof(buf) / 4; i++)
		buf[i] = byte_of(t->out + i, seed);
	n = send(t->fd, buf, sizeof(buf) / 4, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		maker_fail("%s: send: %s", t->who, strerror(errno));
	t->out += n > 0 ? (uint64_t)n : 0;
}

static void recv_some(struct talk *t, int seed)
{
	ssize_t n = recv(t->fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN)
		maker_fail("%s: recv after %llu bytes: %s", t->who, (unsigned long long)t->in,
			   strerror(errno));
	t->ended |= !n;
	for (ssize_t i = 0; i < n; i++)
		if (buf[i] != byte_of(t->in + (uint64_t)i, seed))
			maker_fail("%s: wrong byte at %llu", t->who,
				   (unsigned long long)t->in + (unsigned long long)i);
	t->in += n > 0 ? (uint64_t)n : 0;
}

/* The peer: as fast as it goes until the server ends, then says how much it got. */
static void peer(const char *name, int fd)
{
	struct talk t = { .fd = fd, .who = name };

	alarm(120);
	while (!t.ended) {
		struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

		if (poll(&p, 1, 60000) != 1)
			maker_fail("%s: stuck", name);
		recv_some(&t, 1);
		if (p.revents & POLLOUT && !t.ended)
			send_some(&t, 0);
		/* Slow enough for queues on both sides. */
		usleep(t.in % 7 * 100);
	}
	MAKER_MUST(send(fd, &t.in, sizeof(t.in), MSG_NOSIGNAL) == sizeof(t.in));
	_exit(0);
}

static int serve(int family, const struct sockaddr *a, socklen_t len, int *ret_listener,
		 const char *name)
{
	struct sockaddr_in6 at;
	socklen_t n = sizeof(at);
	int l = socket(family, SOCK_STREAM, 0), s, c;

	MAKER_MUST(!bind(l, a, len) && !listen(l, 5));
	MAKER_MUST(!getsockname(l, (struct sockaddr *)&at, &n));
	if (!sock_fork_outside(-1)) {
		c = socket(family, SOCK_STREAM, 0);
		MAKER_MUST(!connect(c, (struct sockaddr *)&at, n));
		peer(name, c);
	}
	s = accept(l, NULL, NULL);
	MAKER_MUST(s >= 0);
	*ret_listener = l;
	return s;
}

/* All streams until SIGUSR1 and for a while after it. */
static void run(struct talk *t, size_t n, int sig)
{
	struct pollfd p[3];
	int left = -1;

	while (left) {
		for (size_t i = 0; i < n; i++)
			p[i] = (struct pollfd){ .fd = t[i].fd, .events = POLLIN | POLLOUT };
		p[n] = (struct pollfd){ .fd = sig, .events = POLLIN };
		MAKER_MUST(poll(p, n + 1, -1) > 0);
		for (size_t i = 0; i < n; i++) {
			if (p[i].revents & (POLLIN | POLLERR | POLLHUP))
				recv_some(&t[i], 0);
			if (p[i].revents & POLLOUT)
				send_some(&t[i], 1);
			if (t[i].ended)
				maker_fail("%s: the peer went away", t[i].who);
		}
		if (left < 0 && p[n].revents)
			left = 300;
		usleep(1000);
		left -= left > 0;
	}
}

/* What the peer has sent, then how much it got from us. */
static void finish(struct talk *t)
{
	uint64_t told;
	size_t have = 0;
	uint8_t last[sizeof(told)];

	MAKER_MUST(!shutdown(t->fd, SHUT_WR));
	for (;;) {
		ssize_t n = recv(t->fd, buf, sizeof(buf), 0);

		if (n < 0)
			maker_fail("%s: at the end: %s", t->who, strerror(errno));
		if (!n)
			break;
		/* The last eight bytes are the count; what was before them is the stream. */
		for (ssize_t i = 0; i < n; i++) {
			if (have == sizeof(last)) {
				if (last[0] != byte_of(t->in, 0))
					maker_fail("%s: wrong byte at %llu", t->who,
						   (unsigned long long)t->in);
				t->in++;
				memmove(last, last + 1, sizeof(last) - 1);
				have--;
			}
			last[have++] = buf[i];
		}
	}
	MAKER_SAME("bytes of the count", have, sizeof(last));
	memcpy(&told, last, sizeof(told));
	MAKER_SAME(t->who, told, t->out);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a4;
	struct sockaddr_in6 a6;
	struct talk t[2];
	int l[2], sig, c, s;
	socklen_t len = sizeof(a4);
	sigset_t set;

	maker_begin(argc, argv);
	sock_in(&a4, "127.0.0.1", 0);
	sock_in6(&a6, "::1", 0);
	t[0] = (struct talk){ .who = "IPv4" };
	t[1] = (struct talk){ .who = "IPv6" };
	t[0].fd = serve(AF_INET, (struct sockaddr *)&a4, sizeof(a4), &l[0], "IPv4 peer");
	t[1].fd = serve(AF_INET6, (struct sockaddr *)&a6, sizeof(a6), &l[1], "IPv6 peer");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sig = signalfd(-1, &set, SFD_CLOEXEC);
	MAKER_MUST(sig >= 0);

	maker_ready();
	run(t, 2, sig);

	for (size_t i = 0; i < 2; i++)
		finish(&t[i]);
	MAKER_MUST(!getsockname(l[0], (struct sockaddr *)&a4, &len));
	c = socket(AF_INET, SOCK_STREAM, 0);
	MAKER_MUST(!connect(c, (struct sockaddr *)&a4, sizeof(a4)));
	s = accept(l[0], NULL, NULL);
	MAKER_MUST(s >= 0);
	sock_talk("a new client", c, s);
	maker_ok();
}
