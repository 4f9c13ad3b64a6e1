/*
 * A service for tests of the hand-over: counts aloud on stdout (main thread), on stderr (a
 * second thread) and in a child, "WHO PID N" with N without gaps, so a lost or doubled line
 * shows. SIGHUP: "reloaded"; SIGTERM: ends with 0; SIGUSR1: ends with 3. Pings the watchdog.
 *
 *   standin-service        started by systemd, says READY=1
 *   standin-service PID    started by the stand-in engine as if restored
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* A restored process has the path of the last boot: it is the same. */
	strncpy(a.sun_path, path ? path : "/run/systemd/notify", sizeof(a.sun_path) - 1);
	if (fd >= 0)
		(void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
			      offsetof(struct sockaddr_un, sun_path) + strlen(a.sun_path));
	close(fd);
}

static void say(int fd, const char *who, unsigned int n)
{
	char line[64];
	int len = snprintf(line, sizeof(line), "%s %d %u\n", who, getpid(), n);

	(void)!write(fd, line, len);
}

static void *thread_main(void *arg)
{
	(void)arg;
	for (unsigned int n = 0;; n++) {
		say(2, "thread", n);
		usleep(230000);
	}
	return NULL;
}

static void child_main(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned int n = 0;; n++) {
		say(1, "child", n);
		usleep(150000);
	}
}

static void on_signal(int fd, unsigned int *n)
{
	struct signalfd_siginfo s;

	if (read(fd, &s, sizeof(s)) != sizeof(s))
		exit(9);
	if (s.ssi_signo == SIGHUP) {
		printf("reloaded\n");
		return;
	}
	printf("main ends after %u\n", *n);
	exit(s.ssi_signo == SIGUSR1 ? 3 : 0);
}

int main(int argc, char **argv)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC), fd;
	pthread_t thread;
	sigset_t s;

	(void)argv;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%s %d\n", argc > 1 ? "restored" : "fresh", getpid());
	sigemptyset(&s);
	sigaddset(&s, SIGHUP);
	sigaddset(&s, SIGTERM);
	sigaddset(&s, SIGUSR1);
	sigprocmask(SIG_BLOCK, &s, NULL);
	fd = signalfd(-1, &s, SFD_CLOEXEC);
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	if (fork() == 0)
		child_main();
	pthread_create(&thread, NULL, thread_main, NULL);
	if (argc == 1)
		notify("READY=1");
	for (unsigned int n = 0;; n++) {
		/* EINTR would be the stop's doing, not a signal's: all are blocked. */
		int r = epoll_wait(ep, &ev, 1, 100);

		if (r < 0)
			printf("epoll_wait failed\n");
		if (r > 0)
			on_signal(fd, &n);
		say(1, "main", n);
		if (n % 5 == 0)
			notify("WATCHDOG=1");
	}
}
