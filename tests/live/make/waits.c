/*
 * Signals against waits that only a signal ends: pause, sigsuspend, epoll_wait without limit,
 * each in a process of its own. A signal sent right after the restore must end the wait: one
 * that is swallowed while the call is being repeated would leave it waiting for ever. One more
 * child is stopped and must come back stopped.
 */
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "maker.h"

static volatile sig_atomic_t hits;

static void on_signal(int sig)
{
	(void)sig;
	hits++;
}

static void in_pause(void)
{
	pause();
}

static void in_sigsuspend(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigsuspend(&none);
}

static void in_epoll(void)
{
	struct epoll_event ev;
	int ep = epoll_create1(0);

	do {
		if (epoll_wait(ep, &ev, 1, -1) != -1 || errno != EINTR)
			_exit(2);
	} while (maker_is_plain() && !hits);
}

static void in_stop(void)
{
	raise(SIGSTOP);
	while (!hits)
		usleep(1000);
}

int main(int argc, char **argv)
{
	void (*const waits[])(void) = { in_pause, in_sigsuspend, in_epoll, in_stop };
	enum { N = sizeof(waits) / sizeof(waits[0]), STOPPED = N - 1 };
	static const long calls[] = { SYS_pause, SYS_rt_sigsuspend, SYS_epoll_wait };
	struct sigaction sa = { .sa_handler = on_signal };
	pid_t child[N];

	maker_begin(argc, argv);
	for (int i = 0; i < N; i++) {
		child[i] = fork();
		if (!child[i]) {
			sigset_t none;

			sigemptyset(&none);
			sigprocmask(SIG_SETMASK, &none, NULL);
			sigaction(SIGUSR2, &sa, NULL);
			waits[i]();
			_exit(hits == 1 ? 0 : 1);
		}
	}
	for (int i = 0; i < STOPPED; i++)
		maker_await_call(child[i], calls[i]);
	maker_await_stop(child[STOPPED]);
	maker_ready();
	maker_wait();

	/* Its stop signal is the first thing it takes when it is let go. */
	maker_await_stop(child[STOPPED]);
	for (int i = 0; i < N; i++) {
		int status = -1, r = 0;

		kill(child[i], SIGUSR2);
		if (i == STOPPED)
			kill(child[i], SIGCONT);
		for (int t = 0; t < 500 && !r; t++) {
			r = waitpid(child[i], &status, WNOHANG);
			usleep(10000);
		}
		if (r != child[i])
			maker_fail("wait %d was not ended by its signal", i);
		if (status)
			maker_fail("wait %d ended with status 0x%x", i, status);
	}
	maker_ok();
}
