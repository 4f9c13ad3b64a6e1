/*
 * Threads that wait for 1,000 seconds in the C library's epoll_wait() and epoll_pwait(). Looked at earlier they must still
 * wait; looked at when the time is up (test_clocks.py lets the clocks go on) they must have ended, then and not before.
 */
#include <pthread.h>
#include <sys/epoll.h>
#include <time.h>

#include "maker.h"

#define SECONDS		1000
#define LATE_SECONDS	100	/* less than the least that any interruption adds if time begins anew */
#define EARLY_SECONDS	10	/* looked at before that, nobody has ended */
#define N		2

struct waiter {
	pthread_t thread;
	volatile int tid, done, is;
	double begin, end;
};

static struct waiter waiters[N];
static sigset_t all;
static int epfd;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void *waits(void *p)
{
	struct waiter *w = p;
	struct epoll_event event;

	w->begin = now();
	w->tid = maker_tid();
	w->is = w == &waiters[0] ? epoll_wait(epfd, &event, 1, SECONDS * 1000) :
		epoll_pwait(epfd, &event, 1, SECONDS * 1000, &all);
	w->end = now();
	w->done = 1;
	return NULL;
}

int main(int argc, char **argv)
{
	maker_begin(argc, argv);
	if (access("/sys/kernel/btf/vmlinux", F_OK) < 0)
		maker_skip("the kernel does not describe itself (CONFIG_DEBUG_INFO_BTF)");
	sigfillset(&all);
	epfd = epoll_create1(0);
	for (int i = 0; i < N; i++)
		MAKER_MUST(pthread_create(&waiters[i].thread, NULL, waits, &waiters[i]) == 0);
	for (int i = 0; i < N; i++) {
		while (!waiters[i].tid)
			usleep(1000);
		maker_await_call(waiters[i].tid, i ? SYS_epoll_pwait : SYS_epoll_wait);
	}
	maker_ready();
	maker_wait();
	for (int i = 0; i < N; i++) {
		struct waiter *w = &waiters[i];

		if (now() > w->begin + SECONDS - EARLY_SECONDS) {
			pthread_join(w->thread, NULL);
			if (w->is || w->end < w->begin + SECONDS || w->end > w->begin + SECONDS + LATE_SECONDS)
				maker_fail("waiter %d lasted %.2f s and ended with %d", i, w->end - w->begin, w->is);
		} else if (w->done) {
			maker_fail("waiter %d ended after %.2f s with %d", i, w->end - w->begin, w->is);
		}
	}
	maker_ok();
}
