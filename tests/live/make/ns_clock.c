/*
 * A process in a time namespace whose clocks are far from the host's: they go on from where they
 * were, a sleep lasts as long as it should, and an absolute timer keeps its distance.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/timerfd.h>
#include <time.h>

#include "maker.h"

#define AHEAD_SEC 86400

static int64_t now_msec(clockid_t clock)
{
	struct timespec ts;

	MAKER_MUST(clock_gettime(clock, &ts) == 0);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void check_clock(const char *name, clockid_t clock, int64_t was, int64_t realtime_was)
{
	int64_t passed = now_msec(clock) - was, real = now_msec(CLOCK_REALTIME) - realtime_was;

	if (passed < 0)
		maker_fail("%s went back by %lld ms", name, (long long)-passed);
	if (passed > real + 200)
		maker_fail("%s went on by %lld ms in %lld ms", name, (long long)passed,
			   (long long)real);
}

static void run(void)
{
	struct itimerspec it = { 0 };
	int64_t mono, boot, real, begin;
	struct timespec ts;
	uint64_t ticks;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	clock_gettime(CLOCK_MONOTONIC, &ts);
	it.it_value = ts;
	it.it_value.tv_sec += 3600;
	MAKER_MUST(fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &it, NULL) == 0);
	mono = now_msec(CLOCK_MONOTONIC);
	boot = now_msec(CLOCK_BOOTTIME);
	real = now_msec(CLOCK_REALTIME);
	if (mono < AHEAD_SEC * 1000ll)
		maker_fail("the time namespace is not used");
	maker_ready();
	maker_wait();

	check_clock("CLOCK_MONOTONIC", CLOCK_MONOTONIC, mono, real);
	check_clock("CLOCK_BOOTTIME", CLOCK_BOOTTIME, boot, real);
	MAKER_MUST(timerfd_gettime(fd, &it) == 0);
	if (it.it_value.tv_sec < 3500 || it.it_value.tv_sec > 3600)
		maker_fail("a timer an hour away has %lld s left", (long long)it.it_value.tv_sec);
	begin = now_msec(CLOCK_MONOTONIC);
	ts = (struct timespec){ .tv_nsec = 100000000 };
	MAKER_MUST(clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL) == 0);
	if (now_msec(CLOCK_MONOTONIC) - begin < 100 || now_msec(CLOCK_MONOTONIC) - begin > 3000)
		maker_fail("a sleep of 100 ms took %lld",
			   (long long)(now_msec(CLOCK_MONOTONIC) - begin));
	it = (struct itimerspec){ .it_value.tv_nsec = 50000000 };
	MAKER_MUST(timerfd_settime(fd, 0, &it, NULL) == 0);
	MAKER_MUST(read(fd, &ticks, sizeof(ticks)) == sizeof(ticks) && ticks == 1);
	maker_ok();
}

/* Before Linux 6.3 only this enters it and keeps the pid, later exec(2) would, too. */
static void enter(void)
{
	char text[64];
	int fd;

	if (access("/proc/self/ns/time", F_OK) < 0)
		maker_skip("the kernel has no time namespaces (CONFIG_TIME_NS)");
	MAKER_MUST(unshare(CLONE_NEWTIME) == 0);
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	snprintf(text, sizeof(text), "monotonic %d 0\nboottime %d 0\n", AHEAD_SEC, AHEAD_SEC);
	MAKER_MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	MAKER_MUST(fd >= 0 && setns(fd, CLONE_NEWTIME) == 0);
	close(fd);
}

int main(int argc, char **argv)
{
	maker_begin(argc, argv);
	enter();
	run();
}
