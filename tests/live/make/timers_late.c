/*
 * Timers of every sort, all due in 1,000 seconds and every 100 from then on. However far the clocks
 * have gone on meanwhile (cr restore --clock-advance), each shows what its clock says.
 */
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

#include "maker.h"

#define FIRST	1000
#define EVERY	100
#define FAR	500000

static volatile int alarms, signals, overruns;

static void on_signal(int sig, siginfo_t *si, void *context)
{
	(void)context;
	if (sig == SIGALRM) {
		alarms++;
	} else {
		signals++;
		overruns = si->si_overrun;
	}
}

static double monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static timer_t posix_timer(clockid_t clock, long first, long every)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	struct itimerspec its = { { every, 0 }, { first, 0 } };
	timer_t t;

	MAKER_MUST(!timer_create(clock, &ev, &t) && !timer_settime(t, 0, &its, NULL));
	return t;
}

static void left(const char *name, double seconds, double want)
{
	/* Read one after the other, by a process that others may hold up. */
	if (seconds > want + 0.5 || seconds < want - 30)
		maker_fail("%s has %.3f s left, not %.3f", name, seconds, want);
}

static double timer_left(timer_t t)
{
	struct itimerspec its;

	MAKER_MUST(!timer_gettime(t, &its));
	return (double)its.it_value.tv_sec + (double)its.it_value.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	const struct itimerval real = { { EVERY, 0 }, { FIRST, 0 } };
	const struct itimerspec its = { { EVERY, 0 }, { FIRST, 0 } };
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	struct itimerspec now_its;
	struct itimerval now_real;
	timer_t every, once, cpu;
	double begin, passed, due;
	uint64_t ticks = 0;
	int fd, times;

	maker_begin(argc, argv);
	sigaction(SIGALRM, &sa, NULL);
	sigaction(SIGRTMIN, &sa, NULL);
	begin = monotonic();
	every = posix_timer(CLOCK_MONOTONIC, FIRST, EVERY);
	once = posix_timer(CLOCK_BOOTTIME, FAR, 0);
	cpu = posix_timer(CLOCK_PROCESS_CPUTIME_ID, FAR, 0);
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	MAKER_MUST(fd >= 0 && !timerfd_settime(fd, 0, &its, NULL) &&
		   !setitimer(ITIMER_REAL, &real, NULL));
	maker_ready();
	maker_wait();

	passed = monotonic() - begin;
	times = passed < FIRST ? 0 : 1 + (int)((passed - FIRST) / EVERY);
	due = FIRST + times * EVERY - passed;
	MAKER_SAME("SIGALRM", alarms, times > 0);
	MAKER_SAME("signals of the POSIX timer", signals, times > 0);
	/* What lies before the kernel's boot it cannot be made to count: that may be all but these few. */
	if (times < 10)
		MAKER_SAME("overruns", overruns, times > 0 ? times - 1 : 0);
	else if (overruns < 0 || overruns >= times)
		maker_fail("%d overruns", overruns);
	left("the POSIX timer", timer_left(every), due);
	left("one on CLOCK_BOOTTIME", timer_left(once), FAR - passed);
	left("one on CPU time", timer_left(cpu), FAR);
	MAKER_MUST(!getitimer(ITIMER_REAL, &now_real));
	left("the interval timer", (double)now_real.it_value.tv_sec +
	     (double)now_real.it_value.tv_usec / 1e6, due);
	MAKER_MUST(!timerfd_gettime(fd, &now_its));
	left("the timerfd", (double)now_its.it_value.tv_sec +
	     (double)now_its.it_value.tv_nsec / 1e9, due);
	if (read(fd, &ticks, sizeof(ticks)) < 0)
		ticks = 0;
	MAKER_SAME("ticks of the timerfd", (int)ticks, times);
	maker_ok();
}
