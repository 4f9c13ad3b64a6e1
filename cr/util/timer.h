/* Clocks, and what time does to a timer. */
#ifndef CR_UTIL_TIMER_H
#define CR_UTIL_TIMER_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC, CLOCK_BOOTTIME ..., in microseconds. */
uint64_t clock_usec(clockid_t clock);
/* In nanoseconds; 0 of an alarm clock where there is no real-time clock. */
int64_t clock_nsec(clockid_t clock);
/*
 * Whether what was read since CLOCK_MONOTONIC showed begin_nsec is to be read again: clocks read one after the
 * other belong together if nothing held us up in between. Not after some tries. *tries begins with 0.
 */
bool clock_held_up(int64_t begin_nsec, unsigned int *tries);

#define NSEC_PER_SEC	1000000000ull

/*
 * What a timer that had value left (0: run out) and unread ticks shows adv nanoseconds later.
 * *value_nsec 0 afterwards: disarmed.
 */
void timer_advance(uint64_t *value_nsec, uint64_t interval_nsec, uint64_t *ticks, uint64_t adv);

/* Saturates where the kernel does: a timer that far away never runs out. */
uint64_t timer_nsec(uint64_t sec, uint64_t nsec);
/* Later ones the kernel, moving them by a time namespace's offset, may take for long ago: a century before the end. */
#define TIMER_MOMENT_LAST	((uint64_t)INT64_MAX - 100ull * 365 * 86400 * NSEC_PER_SEC)
/* Of a clock's reading and a duration; 0 if it is before the clock's begin. */
uint64_t timer_sum(int64_t now_nsec, uint64_t left_nsec);
struct timespec timer_timespec(uint64_t nsec);
/*
 * A periodic timer expires next in left nanoseconds (negative: it did so long ago). When it did periods before
 * that, from now on; but not before its clock began, age ago: there are as many fewer periods then. What has
 * expired stays so (at most 0), without its rhythm if no period fits. interval 0: it expires once.
 */
int64_t timer_first(int64_t left, uint64_t interval, uint64_t periods, int64_t age);

#endif
