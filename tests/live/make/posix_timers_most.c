/* As many POSIX timers as are saved, in a process of many areas: one batch of calls asks for both, as far as it goes. */
#include <sys/mman.h>
#include <time.h>

#include "maker.h"

#define TIMERS	1024
#define AREAS	3000
#define PAGE	4096

int main(int argc, char **argv)
{
	struct sigevent ev = { .sigev_notify = SIGEV_NONE };
	timer_t timers[TIMERS];
	char *p;

	maker_begin(argc, argv);
	p = mmap(NULL, (size_t)AREAS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(p != MAP_FAILED);
	for (int i = 1; i < AREAS; i += 2)
		MAKER_MUST(!mprotect(p + (size_t)i * PAGE, PAGE, PROT_READ));
	for (int i = 0; i < TIMERS; i++) {
		const struct itimerspec its = { { i, 0 }, { 1000 + i, 0 } };

		MAKER_MUST(!timer_create(CLOCK_MONOTONIC, &ev, &timers[i]) && !timer_settime(timers[i], 0, &its, NULL));
	}
	maker_ready();
	maker_wait();
	for (int i = 0; i < TIMERS; i++) {
		struct itimerspec is;

		MAKER_MUST(!timer_gettime(timers[i], &is));
		MAKER_SAME("interval", is.it_interval.tv_sec, i);
		if (is.it_value.tv_sec > 1000 + i || is.it_value.tv_sec < 1000 + i - 60)
			maker_fail("timer %d has %ld s left, not about %d", i, is.it_value.tv_sec, 1000 + i);
	}
	for (int i = 0; i < AREAS; i += 2)
		p[(size_t)i * PAGE] = 1;
	maker_ok();
}
