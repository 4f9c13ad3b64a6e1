#include "util/macro.h"
#include "util/timer.h"

#define HELD_UP_NSEC	50000
#define HELD_UP_TRIES	10u

uint64_t clock_usec(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

int64_t clock_nsec(clockid_t clock)
{
	struct timespec ts = { 0 };

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * (int64_t)NSEC_PER_SEC + ts.tv_nsec;
}

bool clock_held_up(int64_t begin_nsec, unsigned int *tries)
{
	return clock_nsec(CLOCK_MONOTONIC) - begin_nsec > HELD_UP_NSEC && ++*tries < HELD_UP_TRIES;
}

void timer_advance(uint64_t *value_nsec, uint64_t interval_nsec, uint64_t *ticks, uint64_t adv)
{
	uint64_t late;

	if (!*value_nsec)
		return;
	if (adv < *value_nsec) {
		*value_nsec -= adv;
		return;
	}
	late = adv - *value_nsec;
	if (!interval_nsec) {
		*value_nsec = 0;
		*ticks += 1;
		return;
	}
	*ticks += 1 + late / interval_nsec;
	*value_nsec = interval_nsec - late % interval_nsec;
}

uint64_t timer_nsec(uint64_t sec, uint64_t nsec)
{
	if (sec >= INT64_MAX / NSEC_PER_SEC)
		return INT64_MAX;
	return sec * NSEC_PER_SEC + nsec;
}

uint64_t timer_sum(int64_t now_nsec, uint64_t left_nsec)
{
	int64_t sum;

	if (left_nsec > INT64_MAX || __builtin_add_overflow(now_nsec, (int64_t)left_nsec, &sum))
		return INT64_MAX;
	return sum < 0 ? 0 : (uint64_t)sum;
}

int64_t timer_first(int64_t left, uint64_t interval, uint64_t periods, int64_t age)
{
	int64_t room, first;

	if (__builtin_add_overflow(left, age, &room))
		room = INT64_MAX;
	if (!interval || interval > INT64_MAX)
		return MAX(left, -age);
	if (room >= 0)
		return left - (int64_t)(MIN(periods, (uint64_t)room / interval) * interval);
	first = -age + (int64_t)((interval - (0 - (uint64_t)room) % interval) % interval);
	return first > 0 ? -age : first;
}

struct timespec timer_timespec(uint64_t nsec)
{
	return (struct timespec){ (time_t)(nsec / NSEC_PER_SEC), (long)(nsec % NSEC_PER_SEC) };
}
