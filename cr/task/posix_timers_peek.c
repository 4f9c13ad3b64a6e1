/*
 * What only the kernel's own structure tells of a POSIX timer: whether its signal is pending, and the periods that have
 * begun since it was sent (kernel/peek.h). The timer stands still until the signal is delivered; timer_gettime(2)
 * moves it on to its next expiry and counts the periods on the way. And by which clock it counts: one that was set to
 * the time left, of CLOCK_REALTIME, counts by CLOCK_MONOTONIC.
 */
#include <time.h>

#include "task/posix_timers.h"

/* Its place in a queue of pending signals: a list_head. */
static int queue_place(struct peek *pk, uint64_t timer, uint64_t *ret_addr)
{
	uint64_t sigq;
	int r = peek_inside(pk, timer, "k_itimer", "sigq.list", ret_addr);

	if (r != -ENODATA)
		return r;
	/* Before Linux 6.13. */
	r = peek_member(pk, timer, "k_itimer", "sigq", 8, &sigq);
	return r < 0 ? r : peek_inside(pk, sigq, "sigqueue", "list", ret_addr);
}

/* What is queued may be from before the timer was set anew, which the kernel then drops, or takes for nothing more. */
static int is_outdated(struct peek *pk, uint64_t timer, bool *ret)
{
	uint64_t is, queued, active;
	int r = peek_member(pk, timer, "k_itimer", "it_sigqueue_seq", 4, &queued);

	if (r >= 0)
		r = peek_member(pk, timer, "k_itimer", "it_signal_seq", 4, &is);
	if (r >= 0)
		*ret = is != queued;
	if (r != -ENODATA)
		return r;
	/* Before Linux 6.13. */
	r = peek_member(pk, timer, "k_itimer", "it_active", 4, &active);
	if (r >= 0)
		*ret = active;
	return r;
}

static int is_at_moment(struct peek *pk, uint64_t timer, bool *ret)
{
	uint64_t base, clock;
	int r = peek_member(pk, timer, "k_itimer", "it.real.timer.base", 8, &base);

	if (r >= 0)
		r = peek_member(pk, base, "hrtimer_clock_base", "clockid", 4, &clock);
	if (r >= 0)
		*ret = clock == CLOCK_REALTIME;
	/* Another kernel may have it elsewhere; all else is worth to be known. */
	return r == -ENODATA ? 0 : r;
}

static int timer_read(struct peek *pk, uint64_t timer, struct posix_timer_line *l)
{
	uint64_t place, next, overrun;
	bool outdated = false;
	int r = l->clock_id == CLOCK_REALTIME ? is_at_moment(pk, timer, &l->at_moment) : 0;

	if (r >= 0)
		r = queue_place(pk, timer, &place);
	if (r >= 0)
		r = peek_word(pk, place, &next);
	if (r >= 0)
		r = is_outdated(pk, timer, &outdated);
	if (r >= 0)
		r = peek_member(pk, timer, "k_itimer", "it_overrun", 8, &overrun);
	if (r < 0)
		return r;
	l->pending = next != place && !outdated;
	/* It begins with -1: the first period is no overrun. */
	l->periods = overrun + 1;
	return 0;
}

static struct posix_timer_line *line_of(struct posix_timer_line *lines, size_t n, uint64_t id)
{
	for (size_t low = 0, high = n; low < high;) {
		size_t mid = (low + high) / 2;

		if (lines[mid].id == id)
			return &lines[mid];
		if (lines[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* The list ends with 0, or, on older kernels, leads back to its head. */
int posix_timers_peek(struct peek *pk, pid_t pid, struct posix_timer_line *lines, size_t n)
{
	uint64_t task, signal, head, in_timer, node, id;
	int r = peek_task(pk, pid, &task);

	if (r >= 0)
		r = peek_member(pk, task, "task_struct", "signal", 8, &signal);
	if (r >= 0)
		r = peek_inside(pk, signal, "signal_struct", "posix_timers", &head);
	if (r >= 0)
		r = peek_inside(pk, 0, "k_itimer", "list", &in_timer);
	if (r >= 0)
		r = peek_word(pk, head, &node);
	for (size_t i = 0; r >= 0 && i < n && node && node != head; i++) {
		struct posix_timer_line *l;

		r = peek_member(pk, node - in_timer, "k_itimer", "it_id", 4, &id);
		l = r >= 0 ? line_of(lines, n, id) : NULL;
		if (l)
			r = timer_read(pk, node - in_timer, l);
		if (r >= 0)
			r = peek_word(pk, node, &node);
	}
	return r;
}
