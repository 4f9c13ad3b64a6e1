/*
 * Threads that wait for 1,000 seconds, in all calls that the kernel goes on with by restart_syscall(2) when they have
 * been interrupted, and in some others. Looked at earlier they must still wait; one that is signalled then
 * ends with EINTR and is told what is left. Looked at when the time is up (test_clocks.py lets the clocks go on)
 * the calls must end by themselves, then and not before. No register may change that a call leaves alone.
 */
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <time.h>

#include "maker.h"

#define SECONDS		1000
#define LATE_SECONDS	100	/* less than the least that any interruption adds if time begins anew */
#define EARLY_SECONDS	10	/* looked at before that, nobody has ended */

enum what {
	ENDS,		/* by restart_syscall(2), and in time */
	WALL,		/* the same, by the clock on the wall */
	PLAIN,		/* the kernel repeats the call by itself */
	SIGNALLED,	/* as ENDS, but there comes a signal */
};

struct waiter {
	const char *name;
	enum what what;
	long nr, result;		/* result: when the time is up */
	uint64_t arg[6];
	volatile long is;
	double begin, end;
	volatile int tid, done, changed;
	struct timespec left;
	pthread_t thread;
};

static struct pollfd never = { .events = POLLPRI };
static struct timespec whole = { .tv_sec = SECONDS }, until, wall, copies[2] = { { SECONDS, 0 }, { SECONDS, 0 } };
static struct timeval whole_val = { .tv_sec = SECONDS };
static uint32_t words[5];
static int epfd;

#define P(p) (uint64_t)(p)
#define CALL(n, w, call, r, ...) { .name = n, .what = w, .nr = SYS_##call, .result = r, .arg = { __VA_ARGS__ } }
static struct waiter waiters[] = {
	CALL("poll", ENDS, poll, 0, P(&never), 1, SECONDS * 1000),
	CALL("nanosleep", ENDS, nanosleep, 0, P(&whole), P(&waiters[1].left)),
	CALL("nanosleep without rest", ENDS, nanosleep, 0, P(&whole)),
	CALL("clock_nanosleep", ENDS, clock_nanosleep, 0, CLOCK_MONOTONIC, 0, P(&whole), P(&waiters[3].left)),
	CALL("sleep since boot", ENDS, clock_nanosleep, 0, CLOCK_BOOTTIME, 0, P(&whole)),
	CALL("sleep by the wall", ENDS, clock_nanosleep, 0, CLOCK_REALTIME, 0, P(&whole)),
	CALL("futex", ENDS, futex, -ETIMEDOUT, P(&words[0]), FUTEX_WAIT_PRIVATE, 0, P(&whole)),
	CALL("shared futex", ENDS, futex, -ETIMEDOUT, P(&words[1]), FUTEX_WAIT, 0, P(&whole)),
	CALL("futex until", ENDS, futex, -ETIMEDOUT, P(&words[2]), FUTEX_WAIT_BITSET_PRIVATE, 0, P(&until), 0,
	     FUTEX_BITSET_MATCH_ANY),
	CALL("futex by the wall", WALL, futex, -ETIMEDOUT, P(&words[3]),
	     FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, P(&wall), 0, 1),
	CALL("interrupted sleep", SIGNALLED, nanosleep, -EINTR, P(&whole), P(&waiters[10].left)),
	CALL("interrupted poll", SIGNALLED, poll, -EINTR, P(&never), 1, SECONDS * 1000),
	CALL("interrupted futex", SIGNALLED, futex, -EINTR, P(&words[4]), FUTEX_WAIT_PRIVATE, 0, P(&whole)),
	CALL("poll without end", PLAIN, poll, 0, P(&never), 1, (uint64_t)-1),
	CALL("ppoll", PLAIN, ppoll, 0, P(&never), 1, P(&copies[0])),
	CALL("pselect", PLAIN, pselect6, 0, 0, 0, 0, 0, P(&copies[1])),
	CALL("select", PLAIN, select, 0, 0, 0, 0, 0, P(&whole_val)),
	CALL("epoll_wait", PLAIN, epoll_wait, 0, 0, 0, 1, SECONDS * 1000),
};
#define N (int)(sizeof(waiters) / sizeof(waiters[0]))

static struct epoll_event event;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Compilers take it for granted that a call changes rax, rcx and r11 only. */
static void *in_call(void *p)
{
	struct waiter *w = p;
	register uint64_t di __asm__("rdi") = w->arg[0], si __asm__("rsi") = w->arg[1], dx __asm__("rdx") = w->arg[2],
			  r10 __asm__("r10") = w->arg[3], r8 __asm__("r8") = w->arg[4], r9 __asm__("r9") = w->arg[5];
	long is;

	__asm__ volatile("syscall" : "=a"(is), "+r"(di), "+r"(si), "+r"(dx), "+r"(r10), "+r"(r8), "+r"(r9)
			 : "0"(w->nr) : "rcx", "r11", "memory");
	w->changed = di != w->arg[0] || si != w->arg[1] || dx != w->arg[2] || r10 != w->arg[3] || r8 != w->arg[4] ||
		     r9 != w->arg[5];
	w->is = is;
	w->end = now();
	w->done = 1;
	return NULL;
}

static void *waits(void *p)
{
	struct waiter *w = p;

	w->begin = now();
	w->tid = maker_tid();
	return in_call(w);
}

static void on_signal(int sig)
{
	(void)sig;
}

static bool is_in_time(const struct waiter *w)
{
	return w->end >= w->begin + SECONDS && w->end < w->begin + SECONDS + LATE_SECONDS;
}

static void join(struct waiter *w)
{
	pthread_join(w->thread, NULL);
	if (w->is != w->result)
		maker_fail("%s ended with %ld, not %ld", w->name, w->is, w->result);
	if (w->changed)
		maker_fail("%s: the call changed registers", w->name);
}

/* No call goes on after a handler, whatever SA_RESTART says. */
static void interrupt_one(struct waiter *w)
{
	double least = now() - w->begin, most, left;

	while (!w->done) {
		pthread_kill(w->thread, SIGUSR2);
		usleep(1000);
	}
	join(w);
	/* On a busy machine it may take a while to tell. */
	most = w->end - w->begin;
	left = (double)w->left.tv_sec;
	if (w->nr == SYS_nanosleep && (left < SECONDS - most - 2 || left > SECONDS - least + 1))
		maker_fail("%s: %.0f s are left after %.2f to %.2f", w->name, left, least, most);
}

static void look(bool time_is_up)
{
	for (int i = 0; i < N; i++) {
		struct waiter *w = &waiters[i];

		if (w->what == ENDS && time_is_up) {
			join(w);
			if (!is_in_time(w))
				maker_fail("%s lasted %.2f s", w->name, w->end - w->begin);
		} else if (w->what == SIGNALLED && !time_is_up) {
			interrupt_one(w);
		} else if (w->done && w->what != SIGNALLED) {
			maker_fail("%s ended after %.2f s with %ld", w->name, w->end - w->begin, w->is);
		}
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	int fds[2], n = 0;

	maker_begin(argc, argv);
	if (access("/sys/kernel/btf/vmlinux", F_OK) < 0)
		maker_skip("the kernel does not describe itself (CONFIG_DEBUG_INFO_BTF)");
	sigaction(SIGUSR2, &sa, NULL);
	MAKER_MUST(pipe(fds) == 0);
	never.fd = fds[0];
	epfd = epoll_create1(0);
	waiters[N - 1].arg[0] = (uint64_t)epfd;
	waiters[N - 1].arg[1] = (uint64_t)&event;
	clock_gettime(CLOCK_MONOTONIC, &until);
	clock_gettime(CLOCK_REALTIME, &wall);
	until.tv_sec += SECONDS + 1;
	wall.tv_sec += SECONDS + 1;
	for (int i = 0; i < N; i++) {
		MAKER_MUST(pthread_create(&waiters[i].thread, NULL, waits, &waiters[i]) == 0);
		n += waiters[i].what != PLAIN;
	}
	for (int i = 0; i < N; i++) {
		while (!waiters[i].tid)
			usleep(1000);
		maker_await_call(waiters[i].tid, waiters[i].nr);
	}
	maker_log("restarts %d", n);
	maker_ready();
	maker_wait();
	look(now() > waiters[0].begin + SECONDS - EARLY_SECONDS);
	maker_ok();
}
