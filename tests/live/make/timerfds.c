/*
 * timerfd: one-shot, periodic, absolute, on alarm clocks, run out and unread, disarmed, ticks of a periodic one.
 */
#include "files_common.h"

#include <poll.h>
#include <sys/timerfd.h>
#include <time.h>

#define MS 1000000ll

static int timer(int clock, int flags, long long value_ms, long long interval_ms)
{
	struct itimerspec its = {
		.it_value = { value_ms / 1000, value_ms % 1000 * MS },
		.it_interval = { interval_ms / 1000, interval_ms % 1000 * MS },
	};
	int fd = timerfd_create(clock, TFD_NONBLOCK);
	struct timespec now;

	MAKER_MUST(fd >= 0);
	if (flags & TFD_TIMER_ABSTIME) {
		/* An alarm clock can be read only where there is a real-time clock. */
		MAKER_MUST(!clock_gettime(clock == CLOCK_REALTIME_ALARM ? CLOCK_REALTIME :
					  clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME : clock, &now));
		its.it_value.tv_sec += now.tv_sec;
	}
	MAKER_MUST(!timerfd_settime(fd, flags, &its, NULL));
	return fd;
}

static long long left_ms(int fd)
{
	struct itimerspec its;

	if (timerfd_gettime(fd, &its) < 0)
		maker_fail("timerfd_gettime: %s", strerror(errno));
	return its.it_value.tv_sec * 1000ll + its.it_value.tv_nsec / MS;
}

static long long ticks(int fd)
{
	uint64_t v;

	return read(fd, &v, 8) == 8 ? (long long)v : -1;
}

static void about(const char *what, long long is, long long low, long long high)
{
	if (is < low || is > high)
		maker_fail("%s is %lld, not in %lld..%lld", what, is, low, high);
}

int main(int argc, char **argv)
{
	int soon, hour, absolute, wall, periodic, over, off, boot, count, alarm = -1, boot_alarm, alarm_left = -1;
	struct pollfd p;
	struct itimerspec its;

	maker_begin(argc, argv);
	over = timer(CLOCK_MONOTONIC, 0, 1, 0);
	periodic = timer(CLOCK_MONOTONIC, 0, 100, 100);
	hour = timer(CLOCK_MONOTONIC, 0, 3600000, 60000);
	absolute = timer(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, 1800000, 0);
	wall = timer(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, 1800000, 0);
	boot = timer(CLOCK_BOOTTIME, 0, 900000, 0);
	off = timer(CLOCK_MONOTONIC, 0, 0, 0);
	if (!maker_is_plain()) {
		alarm = timer(CLOCK_REALTIME_ALARM, TFD_TIMER_ABSTIME, 1800000, 0);
		boot_alarm = timer(CLOCK_BOOTTIME_ALARM, TFD_TIMER_ABSTIME, 1800000, 0);
		alarm_left = timer(CLOCK_BOOTTIME_ALARM, 0, 900000, 0);
	}
	usleep(350000);
	soon = timer(CLOCK_MONOTONIC, 0, 1500, 0);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	about("an hour", left_ms(hour), 3600000 - 600000, 3600000);
	MAKER_MUST(!timerfd_gettime(hour, &its));
	MAKER_SAME("interval", its.it_interval.tv_sec, 60);
	about("absolute", left_ms(absolute), 1800000 - 600000, 1800000);
	about("wall clock", left_ms(wall), 1800000 - 600000, 1800000);
	about("boot clock", left_ms(boot), 900000 - 600000, 900000);
	if (alarm >= 0) {
		about("wall clock's alarm", left_ms(alarm), 1800000 - 600000, 1800000);
		about("boot clock's alarm", left_ms(boot_alarm), 1800000 - 600000, 1800000);
		about("boot clock's relative alarm", left_ms(alarm_left), 900000 - 600000, 900000);
	}
	MAKER_SAME("run out", ticks(over), 1);
	MAKER_SAME("run out again", ticks(over), -1);
	MAKER_SAME("off", left_ms(off), 0);
	about("ticks of the periodic one", ticks(periodic), maker_is_plain() ? 1 : 3, 6000);
	p = (struct pollfd){ periodic, POLLIN, 0 };
	MAKER_SAME("it ticks on", poll(&p, 1, 5000), 1);
	p = (struct pollfd){ soon, POLLIN, 0 };
	MAKER_SAME("the short one fires", poll(&p, 1, 5000), 1);
	MAKER_SAME("once", ticks(soon), 1);
	maker_ok();
}
