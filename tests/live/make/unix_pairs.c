/*
 * Unix socket pairs: queued bytes both ways, message boundaries, descriptors in the queue and
 * their place in the stream, ends shut down or closed, buffers and options.
 */
#include "rights_common.h"
#include "sock_common.h"

static void expect_no_fd(int sock, const char *text)
{
	char buf[64];
	ssize_t n;
	int fd = recv_fd(sock, buf, strlen(text), &n);

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, strlen(text)) || fd >= 0)
		maker_fail("\"%s\": %zd bytes, descriptor %d", text, n, fd);
}

static int expect_fd(int sock, const char *text)
{
	char buf[64];
	ssize_t n;
	int fd = recv_fd(sock, buf, sizeof(buf), &n);

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, strlen(text)) || fd < 0)
		maker_fail("\"%s\": %zd bytes, descriptor %d", text, n, fd);
	return fd;
}

static void expect_message(const char *what, int fd, const char *text)
{
	char buf[64];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, strlen(text)))
		maker_fail("%s: message of %zd bytes instead of \"%s\"", what, n, text);
}

static char big[150000];

int main(int argc, char **argv)
{
	int stream[2], seq[2], dgram[2], rights[2], shut[2], half[2], dead[2], inner[2], p[2], fd;
	int peek[2];
	struct timeval tmo = { 3, 500000 };
	socklen_t len = sizeof(tmo);
	char c;

	maker_begin(argc, argv);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)sock_byte(i);
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	sock_set(stream[0], SOL_SOCKET, SO_SNDBUFFORCE, 300000);
	sock_set(stream[1], SOL_SOCKET, SO_RCVBUF, 77777);
	sock_set(stream[1], SOL_SOCKET, SO_PRIORITY, 5);
	MAKER_MUST(!setsockopt(stream[1], SOL_SOCKET, SO_RCVTIMEO, &tmo, sizeof(tmo)));
	MAKER_MUST(fcntl(stream[0], F_SETFL, O_NONBLOCK) == 0);
	MAKER_MUST(send(stream[0], big, sizeof(big), 0) == sizeof(big));
	MAKER_MUST(send(stream[1], "back", 4, 0) == 4);

	MAKER_MUST(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, seq));
	MAKER_MUST(send(seq[0], "one", 3, 0) == 3 && send(seq[0], "second", 6, 0) == 6);
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram));
	MAKER_MUST(send(dgram[0], "a", 1, 0) == 1 &&
		   (maker_is_plain() || send(dgram[0], "", 0, 0) == 0) &&
		   send(dgram[0], "ccc", 3, 0) == 3);

	/* A pipe that exists only in the queue, a socket with a queue of its own in it. */
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, rights));
	MAKER_MUST(!pipe(p) && write(p[1], "in the pipe", 11) == 11);
	MAKER_MUST(maker_is_plain() || send(rights[0], "plain,", 6, 0) == 6);
	send_fd(rights[0], "with pipe", p[0]);
	MAKER_MUST(maker_is_plain() || send(rights[0], "between", 7, 0) == 7);
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
	MAKER_MUST(send(inner[1], "deep", 4, 0) == 4);
	send_fd(rights[0], "with socket", inner[0]);
	close(p[0]);
	close(p[1]);
	close(inner[0]);

	MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, shut));
	MAKER_MUST(send(shut[0], "last words", 10, 0) == 10 && !shutdown(shut[0], SHUT_WR));
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, half));
	MAKER_MUST(send(half[1], "will", 4, 0) == 4 && !close(half[1]));
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, dead) && !close(dead[1]));
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, peek));
	MAKER_MUST(send(peek[0], "0123456789", 10, 0) == 10);
	if (!maker_is_plain())
		sock_set(peek[1], SOL_SOCKET, SO_PEEK_OFF, 4);

	maker_ready();
	maker_wait();

	MAKER_SAME("SO_SNDBUF", sock_int(stream[0], SOL_SOCKET, SO_SNDBUF), 600000);
	MAKER_SAME("SO_RCVBUF", sock_int(stream[1], SOL_SOCKET, SO_RCVBUF), 155554);
	MAKER_SAME("SO_PRIORITY", sock_int(stream[1], SOL_SOCKET, SO_PRIORITY), 5);
	MAKER_MUST(!getsockopt(stream[1], SOL_SOCKET, SO_RCVTIMEO, &tmo, &len));
	MAKER_SAME("SO_RCVTIMEO", tmo.tv_sec * 1000000 + tmo.tv_usec, 3500000);
	MAKER_SAME("O_NONBLOCK", fcntl(stream[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	MAKER_SAME("O_NONBLOCK of the other end", fcntl(stream[1], F_GETFL) & O_NONBLOCK, 0);
	sock_expect("stream", stream[1], big, sizeof(big));
	sock_expect("stream back", stream[0], "back", 4);
	sock_empty("stream", stream[1]);
	sock_talk("stream", stream[0], stream[1]);

	MAKER_SAME("close-on-exec", fcntl(seq[0], F_GETFD), FD_CLOEXEC);
	expect_message("seqpacket", seq[1], "one");
	expect_message("seqpacket", seq[1], "second");
	sock_empty("seqpacket", seq[1]);
	sock_talk("seqpacket", seq[0], seq[1]);
	expect_message("datagram", dgram[1], "a");
	if (!maker_is_plain())
		expect_message("datagram", dgram[1], "");
	expect_message("datagram", dgram[1], "ccc");
	sock_empty("datagram", dgram[1]);
	sock_talk("datagram", dgram[0], dgram[1]);

	if (!maker_is_plain())
		expect_no_fd(rights[1], "plain,");
	fd = expect_fd(rights[1], "with pipe");
	MAKER_MUST(read(fd, big, sizeof(big)) == 11 && !memcmp(big, "in the pipe", 11));
	MAKER_SAME("pipe's end", read(fd, &c, 1), 0);
	if (!maker_is_plain())
		expect_no_fd(rights[1], "between");
	fd = expect_fd(rights[1], "with socket");
	sock_expect("queued socket", fd, "deep", 4);
	sock_talk("queued socket", fd, inner[1]);

	sock_expect("shut down", shut[1], "last words", 10);
	sock_eof("shut down", shut[1]);
	MAKER_MUST(send(shut[1], "reply", 5, 0) == 5);
	sock_expect("shut down, back", shut[0], "reply", 5);
	MAKER_MUST(send(shut[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
	sock_expect("closed", half[0], "will", 4);
	sock_eof("closed", half[0]);
	MAKER_MUST(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
	sock_eof("closed seqpacket", dead[0]);
	if (!maker_is_plain()) {
		MAKER_SAME("SO_PEEK_OFF", sock_int(peek[1], SOL_SOCKET, SO_PEEK_OFF), 4);
		MAKER_MUST(recv(peek[1], big, 3, MSG_PEEK) == 3 && !memcmp(big, "456", 3));
	}
	maker_ok();
}
