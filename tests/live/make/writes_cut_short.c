/*
 * Calls that have written a part and wait for room, one thread each: the stop ends them. They return that all is
 * written, and all of it can be read, once and in order, from whom it is.
 * cr-options: --tcp-established
 */
#include "sock_common.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/uio.h>

#define BYTES	(1u << 20)
#define SNDBUF	16384

enum call { WRITE, WRITEV, SEND, SENDMSG };

static void pipe_pair(int fd[2])
{
	MAKER_MUST(!pipe(fd));
}

static void unix_pair(int fd[2])
{
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
}

static void telling_pair(int fd[2])
{
	unix_pair(fd);
	sock_set(fd[0], SOL_SOCKET, SO_PASSCRED, 1);
}

static void tcp_pair(int fd[2])
{
	struct sockaddr_in at;
	socklen_t len = sizeof(at);
	int l = socket(AF_INET, SOCK_STREAM, 0);

	sock_in(&at, "127.0.0.1", 0);
	MAKER_MUST(!bind(l, (struct sockaddr *)&at, sizeof(at)) && !listen(l, 1));
	MAKER_MUST(!getsockname(l, (struct sockaddr *)&at, &len));
	fd[1] = socket(AF_INET, SOCK_STREAM, 0);
	sock_set(fd[1], SOL_SOCKET, SO_SNDBUF, SNDBUF);
	MAKER_MUST(!connect(fd[1], (struct sockaddr *)&at, sizeof(at)));
	fd[0] = accept(l, NULL, NULL);
	MAKER_MUST(fd[0] >= 0 && !close(l));
}

static struct writer {
	const char *name;
	enum call call;
	void (*pair)(int fd[2]);
	int from, to;
	ssize_t ret;
	sem_t returned;
} writers[] = {
	{ .name = "write to a pipe", .call = WRITE, .pair = pipe_pair },
	{ .name = "writev to a pipe", .call = WRITEV, .pair = pipe_pair },
	{ .name = "write to a unix stream", .call = WRITE, .pair = unix_pair },
	{ .name = "send to a unix stream", .call = SEND, .pair = unix_pair },
	{ .name = "sendmsg to a unix stream that tells of senders", .call = SENDMSG, .pair = telling_pair },
	{ .name = "writev to a TCP connection", .call = WRITEV, .pair = tcp_pair },
	{ .name = "send to a TCP connection", .call = SEND, .pair = tcp_pair },
};
static uint8_t data[BYTES];

static void *work(void *arg)
{
	struct writer *w = arg;
	/* An odd cut, which none of the queues makes. */
	struct iovec io[] = { { data, 0 }, { data, 1001 }, { data + 1001, BYTES - 1001 } };
	struct msghdr m = { .msg_iov = io, .msg_iovlen = 3 };

	switch (w->call) {
	case WRITE:
		w->ret = write(w->to, data, BYTES);
		break;
	case WRITEV:
		w->ret = writev(w->to, io, 3);
		break;
	case SEND:
		w->ret = send(w->to, data, BYTES, 0);
		break;
	case SENDMSG:
		w->ret = sendmsg(w->to, &m, 0);
		break;
	}
	sem_post(&w->returned);
	/* The same threads are there before and after. */
	for (;;)
		pause();
	return NULL;
}

static void begin(struct writer *w)
{
	pthread_t thread;
	int fd[2];

	w->pair(fd);
	w->from = fd[0];
	w->to = fd[1];
	MAKER_MUST(!sem_init(&w->returned, 0, 0) && !pthread_create(&thread, NULL, work, w));
}

/* Sender 0: nobody is named. */
static ssize_t take(int fd, void *buf, size_t bytes, pid_t *ret_sender)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec io = { buf, bytes };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	struct ucred who = { 0 };
	ssize_t n = recvmsg(fd, &m, 0);

	if (n < 0 && errno == ENOTSOCK)
		n = read(fd, buf, bytes);
	else if (n > 0 && m.msg_controllen && control.h.cmsg_type == SCM_CREDENTIALS)
		memcpy(&who, CMSG_DATA(&control.h), sizeof(who));
	*ret_sender = who.pid;
	return n;
}

static void verify(struct writer *w)
{
	static uint8_t buf[BYTES];
	pid_t sender, expected = w->pair == telling_pair ? getpid() : 0;
	size_t got = 0;

	if (w->pair == tcp_pair)
		MAKER_SAME("send buffer", sock_int(w->to, SOL_SOCKET, SO_SNDBUF), 2 * SNDBUF);
	while (got < BYTES) {
		ssize_t n = take(w->from, buf + got, BYTES - got, &sender);

		if (n <= 0 || sender != expected)
			maker_fail("%s: %zd (%s) after %zu bytes, of %d", w->name, n, strerror(errno), got,
				   sender);
		got += (size_t)n;
	}
	MAKER_MUST(!sem_wait(&w->returned));
	if (w->ret != BYTES)
		maker_fail("%s: the call says that %zd of %u bytes are written", w->name, w->ret, BYTES);
	if (memcmp(buf, data, BYTES))
		maker_fail("%s: other bytes", w->name);
	MAKER_MUST(!close(w->to) && read(w->from, buf, 1) == 0);
}

int main(int argc, char **argv)
{
	maker_begin(argc, argv);
	for (size_t i = 0; i < BYTES; i++)
		data[i] = sock_byte(i);
	for (size_t i = 0; i < sizeof(writers) / sizeof(*writers); i++)
		begin(&writers[i]);
	/* All have no more room. */
	usleep(300000);

	maker_ready();
	maker_wait();

	for (size_t i = 0; i < sizeof(writers) / sizeof(*writers); i++)
		verify(&writers[i]);
	maker_ok();
}
