/*
 * Unix sockets with peers outside the tree: a datagram client stays connected to the name, a
 * stream comes back as closed by its peer.
 * cr-options: --ext-unix-sk --external unix[*]
 */
#include "sock_common.h"

/* Answers datagrams; accepts one stream and keeps it. */
static void outside(const char *dgram_name, const char *stream_name, int told)
{
	int d = sock_un_bound(SOCK_DGRAM, dgram_name), l = sock_un_bound(SOCK_STREAM, stream_name);
	char buf[64];
	ssize_t n;

	MAKER_MUST(!listen(l, 3));
	MAKER_MUST(write(told, "x", 1) == 1);
	MAKER_MUST(accept(l, NULL, NULL) >= 0);
	alarm(120);
	while ((n = recv(d, buf, sizeof(buf), 0)) > 0 && memcmp(buf, "end", 3))
		maker_log("outside got %.*s", (int)n, buf);
	unlink(dgram_name);
	unlink(stream_name);
	_exit(0);
}

int main(int argc, char **argv)
{
	char dgram_name[64], stream_name[64], text[4096], c;
	int told[2], d, s, l;
	ssize_t n;

	maker_begin(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	snprintf(dgram_name, sizeof(dgram_name), "/tmp/maker-unix-dgram-%d", maker_number());
	snprintf(stream_name, sizeof(stream_name), "/tmp/maker-unix-stream-%d", maker_number());
	MAKER_MUST(!pipe(told));
	if (!sock_fork_outside(told[1]))
		outside(dgram_name, stream_name, told[1]);
	MAKER_MUST(read(told[0], &c, 1) == 1);
	close(told[0]);
	close(told[1]);
	d = sock_un_connected(SOCK_DGRAM, dgram_name, -1);
	MAKER_MUST(send(d, "before", 6, 0) == 6);
	s = sock_un_connected(SOCK_STREAM, stream_name, -1);

	maker_ready();
	maker_wait();

	MAKER_MUST(send(d, "after", 5, 0) == 5);
	/* A dump that left us running: the stream still has its peer. */
	n = recv(s, &c, 1, MSG_DONTWAIT);
	if (n > 0 || (n < 0 && errno != EAGAIN))
		maker_fail("stream: recv gives %zd", n);
	if (!n)
		MAKER_MUST(send(s, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
	MAKER_MUST(send(d, "end", 3, 0) == 3);
	for (int i = 0; i < 2000; i++) {
		l = open(argv[1], O_RDONLY);
		n = read(l, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		close(l);
		if (strstr(text, "outside got after"))
			maker_ok();
		usleep(10000);
	}
	maker_fail("the outside peer got nothing after the restore");
}
