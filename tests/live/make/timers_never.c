/*
 * What is set to never, some 290 years: moments at the end of the kernel's time, and the process is in a time
 * namespace behind the host's, by whose offset the kernel moves them. Wrapped, they would be long ago.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

#include "maker.h"

#define CENTURY	(100ll * 365 * 86400)
#define NEVER	((time_t)INT64_MAX)

static const struct itimerspec never = { { NEVER, 0 }, { NEVER, 0 } };
static const struct {
	clockid_t clock;
	int flags;
} sorts[] = {
	{ CLOCK_MONOTONIC, 0 }, { CLOCK_MONOTONIC, TIMER_ABSTIME }, { CLOCK_BOOTTIME, 0 },
	{ CLOCK_BOOTTIME, TIMER_ABSTIME }, { CLOCK_REALTIME, 0 }, { CLOCK_REALTIME, TIMER_ABSTIME },
};
#define N (sizeof(sorts) / sizeof(sorts[0]))

static volatile bool woken;
static volatile int sleeper_tid;

static void *sleeper(void *arg)
{
	(void)arg;
	sleeper_tid = maker_tid();
	clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ NEVER, 0 }, NULL);
	woken = true;
	return NULL;
}

/* Only this enters it and keeps the pid; with one thread. */
static void enter(void)
{
	struct timespec mono, boot;
	char text[96];
	int fd;

	if (access("/proc/self/ns/time", F_OK) < 0)
		maker_skip("the kernel has no time namespaces (CONFIG_TIME_NS)");
	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	MAKER_MUST(unshare(CLONE_NEWTIME) == 0);
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	snprintf(text, sizeof(text), "monotonic %ld 0\nboottime %ld 0\n", -mono.tv_sec / 2, -boot.tv_sec / 2);
	MAKER_MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	MAKER_MUST(fd >= 0 && setns(fd, CLONE_NEWTIME) == 0);
	close(fd);
}

static void check_left(const char *what, unsigned int sort, long long seconds)
{
	if (seconds < CENTURY)
		maker_fail("%s of clock %d, flags %d, has %lld s left", what, sorts[sort].clock, sorts[sort].flags, seconds);
}

int main(int argc, char **argv)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	const struct itimerval real = { { NEVER, 0 }, { NEVER, 0 } };
	struct itimerval real_is;
	struct itimerspec is;
	timer_t timers[N];
	sigset_t set;
	pthread_t t;
	int fds[N];

	maker_begin(argc, argv);
	enter();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (unsigned int i = 0; i < N; i++) {
		is = never;
		/* The kernel itself would wrap such a moment, when it is asked for here. */
		if (sorts[i].flags)
			is.it_value.tv_sec = 2 * CENTURY;
		MAKER_MUST(!timer_create(sorts[i].clock, &ev, &timers[i]) &&
			   !timer_settime(timers[i], sorts[i].flags, &is, NULL));
		fds[i] = timerfd_create(sorts[i].clock, TFD_NONBLOCK);
		MAKER_MUST(fds[i] >= 0 && !timerfd_settime(fds[i], sorts[i].flags, &is, NULL));
	}
	MAKER_MUST(!setitimer(ITIMER_REAL, &real, NULL));
	MAKER_MUST(!pthread_create(&t, NULL, sleeper, NULL));
	while (!sleeper_tid)
		usleep(1000);
	maker_await_call(sleeper_tid, SYS_clock_nanosleep);
	maker_ready();
	maker_wait();

	for (unsigned int i = 0; i < N; i++) {
		MAKER_MUST(!timer_gettime(timers[i], &is));
		check_left("a POSIX timer", i, is.it_value.tv_sec);
		MAKER_MUST(!timerfd_gettime(fds[i], &is));
		check_left("a timerfd", i, is.it_value.tv_sec);
		MAKER_SAME("readable", poll(&(struct pollfd){ fds[i], POLLIN, 0 }, 1, 0), 0);
	}
	MAKER_MUST(!getitimer(ITIMER_REAL, &real_is));
	if (real_is.it_value.tv_sec < CENTURY)
		maker_fail("the interval timer has %ld s left", (long)real_is.it_value.tv_sec);
	MAKER_SAME("signals", sigtimedwait(&set, NULL, &(struct timespec){ 0 }), -1);
	if (woken)
		maker_fail("a sleep has ended");
	maker_ok();
}
