/*
 * A TCP connection whose handshake has not been answered (the peer's accept queue is full): it
 * goes on after the restore, with the same port, and a thread that waits in connect(2) gets its
 * answer.
 * cr-options: --tcp-established --network-lock nftables
 */
#include "sock_common.h"

#include <pthread.h>

static struct sockaddr_in at;

/* Connections in a listener's queue. */
static unsigned int waiting(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	MAKER_MUST(!getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len));
	return info.tcpi_unacked;
}

/* Fills its own accept queue; on SIGUSR1 serves whoever comes. */
static void outside(int told)
{
	int l = socket(AF_INET, SOCK_STREAM, 0), c;
	socklen_t len = sizeof(at);
	sigset_t set;
	char buf[8];

	alarm(120);
	sock_in(&at, "127.0.0.1", 0);
	MAKER_MUST(!bind(l, (struct sockaddr *)&at, sizeof(at)) && !listen(l, 0));
	MAKER_MUST(!getsockname(l, (struct sockaddr *)&at, &len));
	c = socket(AF_INET, SOCK_STREAM, 0);
	MAKER_MUST(!connect(c, (struct sockaddr *)&at, sizeof(at)));
	while (!waiting(l))
		usleep(1000);
	MAKER_MUST(write(told, &at, sizeof(at)) == sizeof(at));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MAKER_MUST(sigwaitinfo(&set, NULL) == SIGUSR1);
	listen(l, 10);
	for (;;) {
		c = accept(l, NULL, NULL);
		if (!fork()) {
			ssize_t n;

			alarm(60);	/* not inherited */
			n = recv(c, buf, sizeof(buf), 0);
			if (n > 0 && send(c, buf, (size_t)n, 0) != n)
				maker_fail("outside: send: %s", strerror(errno));
			_exit(0);
		}
		close(c);
	}
}

static int state(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	MAKER_MUST(!getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len));
	return info.tcpi_state;
}

static void *connect_thread(void *arg)
{
	return connect(*(int *)arg, (struct sockaddr *)&at, sizeof(at)) ? strerror(errno) : NULL;
}

static int port_of(int fd)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	MAKER_MUST(!getsockname(fd, (struct sockaddr *)&a, &len));
	return ntohs(a.sin_port);
}

int main(int argc, char **argv)
{
	int told[2], fd, blocking, port;
	struct pollfd p;
	pthread_t thread;
	void *failed;
	pid_t pid;

	maker_begin(argc, argv);
	MAKER_MUST(!pipe(told));
	pid = sock_fork_outside(told[1]);
	if (!pid)
		outside(told[1]);
	MAKER_MUST(read(told[0], &at, sizeof(at)) == sizeof(at));
	close(told[0]);
	close(told[1]);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	MAKER_MUST(connect(fd, (struct sockaddr *)&at, sizeof(at)) && errno == EINPROGRESS);
	blocking = socket(AF_INET, SOCK_STREAM, 0);
	MAKER_MUST(!pthread_create(&thread, NULL, connect_thread, &blocking));
	while (state(blocking) == TCP_CLOSE)
		usleep(1000);
	port = port_of(fd);
	MAKER_SAME("state", state(fd), TCP_SYN_SENT);
	MAKER_SAME("state of the blocking one", state(blocking), TCP_SYN_SENT);

	maker_ready();
	maker_wait();

	MAKER_SAME("port", port_of(fd), port);
	MAKER_SAME("state", state(fd), TCP_SYN_SENT);
	MAKER_MUST(!kill(pid, SIGUSR1));
	p = (struct pollfd){ .fd = fd, .events = POLLOUT };
	MAKER_MUST(poll(&p, 1, 25000) == 1);
	MAKER_SAME("SO_ERROR", sock_int(fd, SOL_SOCKET, SO_ERROR), 0);
	MAKER_MUST(send(fd, "hello", 5, MSG_NOSIGNAL) == 5 && !fcntl(fd, F_SETFL, 0));
	sock_expect("echo", fd, "hello", 5);
	MAKER_MUST(!pthread_join(thread, &failed));
	if (failed)
		maker_fail("blocking connect: %s", (char *)failed);
	MAKER_MUST(send(blocking, "there", 5, MSG_NOSIGNAL) == 5);
	sock_expect("echo of the blocking one", blocking, "there", 5);
	kill(-pid, SIGKILL);	/* it leads a session */
	maker_ok();
}
