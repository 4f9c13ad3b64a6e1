/* Interval timers: what is left and the interval; they tick afterwards. */
#include <sys/time.h>
#include <time.h>

#include "maker.h"

static volatile int alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

/* value may have run on, but not by more than a minute. */
static void check(int which, long interval_usec, long value_sec)
{
	struct itimerval v;

	MAKER_MUST(!getitimer(which, &v));
	MAKER_SAME("interval", v.it_interval.tv_sec * 1000000 + v.it_interval.tv_usec,
		   interval_usec);
	if (value_sec && (v.it_value.tv_sec > value_sec || v.it_value.tv_sec < value_sec - 60))
		maker_fail("timer %d has %ld s left, not about %ld", which, v.it_value.tv_sec,
			   value_sec);
}

int main(int argc, char **argv)
{
	struct itimerval real = { { 0, 20000 }, { 0, 20000 } };
	struct itimerval virt = { { 7, 8 }, { 1000, 5 } }, prof = { { 0, 0 }, { 2000, 6 } };

	maker_begin(argc, argv);
	signal(SIGALRM, on_alarm);
	if (maker_sets_up()) {
		MAKER_MUST(!setitimer(ITIMER_REAL, &real, NULL));
		MAKER_MUST(!setitimer(ITIMER_VIRTUAL, &virt, NULL));
		MAKER_MUST(!setitimer(ITIMER_PROF, &prof, NULL));
	}
	maker_ready();
	maker_wait();
	check(ITIMER_REAL, 20000, 0);
	check(ITIMER_VIRTUAL, 7000008, 1000);
	check(ITIMER_PROF, 0, 2000);
	alarms = 0;
	for (int i = 0; i < 100 && alarms < 3; i++)
		nanosleep(&(struct timespec){ 0, 20000000 }, NULL);
	if (alarms < 3)
		maker_fail("only %d alarms in two seconds", alarms);
	maker_ok();
}
