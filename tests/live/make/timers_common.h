/* POSIX timers as the kernel has them, and how often one has expired since a moment of its clock. */
#ifndef TESTS_LIVE_TIMERS_COMMON_H
#define TESTS_LIVE_TIMERS_COMMON_H

#include <pthread.h>
#include <time.h>

#include "maker.h"

#define SECOND	1000000000ll

struct kernel_sigevent {
	uint64_t value;
	int signo, notify, tid, pad[11];
};

/* It expired first n.1 periods before it was set: until it does next, all must be done. */
struct timer {
	const char *name;
	int clock, notify, signo;
	long long period;	/* nanoseconds; 0: it expires once */
	int n;
	int id, tid;
	long long first;	/* by CLOCK_MONOTONIC, with which all go on */
};
/* Such that there have been three since the boot. */
#define LONGEST	-1

static inline long long timers_now(int clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

static inline struct timespec timers_spec(long long nsec)
{
	return (struct timespec){ nsec / SECOND, nsec % SECOND };
}

/* Makes it expire at once; its signal is blocked. tid: whom it notifies, SIGEV_THREAD_ID. */
static inline void timers_set(struct timer *t, int tid)
{
	struct kernel_sigevent ev = { (uint64_t)t->signo * 1000, t->signo, t->notify, tid, { 0 } };
	struct itimerspec spec;
	long long ago, now;

	MAKER_MUST(!syscall(SYS_timer_create, t->clock, &ev, &t->id));
	now = timers_now(CLOCK_MONOTONIC);
	if (t->period == LONGEST)
		t->period = now / 4;
	ago = t->n * t->period + t->period / 10;
	t->first = now - ago;
	spec.it_interval = timers_spec(t->period);
	spec.it_value = timers_spec(timers_now(t->clock) - ago);
	MAKER_MUST(!syscall(SYS_timer_settime, t->id, TIMER_ABSTIME, &spec, NULL));
	do
		MAKER_MUST(!syscall(SYS_timer_gettime, t->id, &spec));
	while (!spec.it_value.tv_sec && spec.it_value.tv_nsec == 1);
}

/* Takes one signal; 0: there is none. */
static inline int timers_take(int signo, siginfo_t *si)
{
	struct timespec none = { 0 };
	sigset_t set;
	int r;

	memset(si, 0, sizeof(*si));
	sigemptyset(&set);
	sigaddset(&set, signo);
	r = (int)syscall(SYS_rt_sigtimedwait, &set, si, &none, 8);
	return r < 0 ? 0 : r;
}

static inline int timers_overrun(const struct timer *t)
{
	return (int)syscall(SYS_timer_getoverrun, t->id);
}

/*
 * Dump and restore read the clock and the timer one after the other, in microseconds, but in a busy guest; so does
 * this, which others may hold up.
 */
static inline long long timers_slack(long long outside_of_guests)
{
	return getenv("CRK_TIMEOUT_SCALE") ? SECOND / 50 : outside_of_guests;
}

/* Its signal, with all periods that have passed since it first expired. */
static inline void timers_expect(const struct timer *t)
{
	long long least = 0, most = 0;
	siginfo_t si;

	if (t->period)
		least = (timers_now(CLOCK_MONOTONIC) - t->first - timers_slack(0)) / t->period;
	if (!timers_take(t->signo, &si))
		maker_fail("the signal of the timer %s is not pending", t->name);
	if (t->period)
		most = (timers_now(CLOCK_MONOTONIC) - t->first + timers_slack(0)) / t->period;
	if (si.si_code != SI_TIMER || si.si_timerid != t->id || si.si_value.sival_int != t->signo * 1000)
		maker_fail("timer %s: a signal of code %d, timer %d, value %d", t->name, si.si_code, si.si_timerid,
			   si.si_value.sival_int);
	if (si.si_overrun < least || si.si_overrun > most)
		maker_fail("timer %s: overrun %d, not %lld to %lld", t->name, si.si_overrun, least, most);
	MAKER_SAME(t->name, timers_overrun(t), si.si_overrun);
}

/* What is left until it expires again fits to when it did first. */
static inline void timers_expect_rhythm(const struct timer *t)
{
	struct itimerspec spec;
	long long passed, off;

	MAKER_MUST(!syscall(SYS_timer_gettime, t->id, &spec));
	passed = timers_now(CLOCK_MONOTONIC) - t->first;
	MAKER_SAME(t->name, spec.it_interval.tv_sec * SECOND + spec.it_interval.tv_nsec, t->period);
	off = (passed + spec.it_value.tv_sec * SECOND + spec.it_value.tv_nsec + timers_slack(SECOND / 1000)) % t->period;
	if (off > SECOND / 2)
		maker_fail("timer %s: its rhythm is %lld ns of %lld off", t->name, off, t->period);
}

/* A second thread, for what only it may do: before the dump, and after the restore. */
static pthread_barrier_t timers_before, timers_after;
static struct timer timers_of_thread;

static inline void *timers_second(void *arg)
{
	void (*const *fns)(struct timer *) = arg;

	timers_of_thread.tid = maker_tid();
	if (maker_sets_up())
		fns[0](&timers_of_thread);
	pthread_barrier_wait(&timers_before);
	pthread_barrier_wait(&timers_after);
	fns[1](&timers_of_thread);
	return NULL;
}

#endif
