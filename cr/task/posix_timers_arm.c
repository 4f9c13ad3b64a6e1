/*
 * Letting restored POSIX timers run; and what no call sets: how often one has expired since its last signal
 * (timer_getoverrun(2)), or since one that is pending. The kernel counts when it delivers the signal, in periods
 * from the expiry on. So the timer is set to an expiry so many periods ago. It fires at once, and
 *
 *   pending    its signal is where it was, and will be delivered with all that it was pending for
 *   delivered  the signal is taken out again, by the thread that gets it
 *
 * Setting a timer makes its count 0: of one whose signal is pending, or whose time ran out while the tree was
 * away, the count of the signal before is lost.
 *
 * A timer is set to the moment of its clock when it shall expire, so it does not matter when the call is made.
 *
 * The traps: the kernel takes no moment before its clock's begin, for most the boot; what does not fit is cut by
 * whole periods. And a timer of CLOCK_REALTIME that is set to a moment moves when somebody sets that clock: one that
 * did not, and has time left, is set to that.
 */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "ns/ns.h"
#include "task/posix_timers.h"
#include "util/timer.h"

#define FIRE_TRIES	1000u	/* of up to 1 ms: it takes a microsecond, or a tick of the clock */
#define COUNT_TRIES	3u	/* its next expiry may come in between */

bool posix_timer_signal_waits(uint32_t signo)
{
	switch (signo) {
	case SIGKILL:
	case SIGSTOP:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
	case SIGCONT:
	case SIGTRAP:
		return false;
	default:
		return true;
	}
}

struct due {
	uint64_t value, interval;	/* as at the dump; value 0: disarmed */
	int64_t left;			/* till the next expiry, now; negative: since it */
	int64_t now;			/* of its clock */
};

static uint64_t timer_elapsed(const struct restore_process *p, const PosixTimerEntry *e)
{
	return e->has_read_nsec ? ns_restore_elapsed_since(p->ctx, e->read_nsec) : timers_elapsed(p);
}

/* -EINVAL: its clock does not go on by itself (CPU time). */
static int due_get(struct restore_process *p, const PosixTimerEntry *e, struct due *ret)
{
	unsigned int tries = 0;
	uint64_t away;
	int64_t begin;
	int r;

	*ret = (struct due){ .value = timer_nsec(e->vsec, e->vnsec), .interval = timer_nsec(e->isec, e->insec) };
	if (!ret->value)
		ret->value = ret->interval;
	do {
		begin = clock_nsec(CLOCK_MONOTONIC);
		away = timer_elapsed(p, e);
		r = ns_restore_clock(p->ctx, (clockid_t)e->clock_id, &ret->now);
	} while (clock_held_up(begin, &tries));
	ret->left = (int64_t)ret->value - (int64_t)MIN(away, (uint64_t)INT64_MAX);
	return r;
}

/* The kernel knows timers that were set to the time left by CLOCK_REALTIME alone. */
static bool is_at_moment(const PosixTimerEntry *e)
{
	return e->clock_id != CLOCK_REALTIME || e->at_moment;
}

/* timer_first(), of its clock. */
static int due_first(struct restore_process *p, const PosixTimerEntry *e, const struct due *d, uint64_t periods,
		     int64_t *ret)
{
	int64_t age;
	int r = ns_restore_clock_age(p->ctx, (clockid_t)e->clock_id, &age);

	/* Moment 0 would disarm it. */
	if (r >= 0)
		*ret = timer_first(d->left, d->interval, periods, age - 1);
	return r;
}

static uint64_t put_spec(struct batch *b, const struct due *d, uint64_t value)
{
	const struct itimerspec spec = {
		.it_interval = timer_timespec(d->interval), .it_value = timer_timespec(value),
	};

	return batch_put(b, &spec, sizeof(spec));
}

/* What ran out is set to the moment when it did: the kernel signals it, counts, and keeps the rhythm. */
void posix_timer_arm(struct restore_process *p, struct batch *b, const PosixTimerEntry *e)
{
	struct due d;
	int64_t first;
	int r = due_get(p, e, &d), flags = 0;
	uint64_t value = d.value;

	if (r >= 0 && value && d.left > 0 && is_at_moment(e) &&
	    timer_sum(d.now, (uint64_t)d.left) <= TIMER_MOMENT_LAST) {
		value = timer_sum(d.now, (uint64_t)d.left);
		flags = TIMER_ABSTIME;
	} else if (r >= 0 && value && d.left > 0) {
		value = (uint64_t)d.left;
	} else if (r >= 0 && value && due_first(p, e, &d, 0, &first) >= 0) {
		value = (uint64_t)(d.now + first);
		flags = TIMER_ABSTIME;
	}
	/* Also a disarmed one: fails if the id did not come back. */
	batch_call(b, SYS_timer_settime, e->it_id, flags, put_spec(b, &d, value), 0);
}

/* Until it has fired, timer_gettime(2) shows one nanosecond; of one that expires in each, always. */
static bool shows_when_it_fires(const struct due *d)
{
	return d->interval != 1;
}

static int fire(struct batch *b, const PosixTimerEntry *e, const struct due *d, uint64_t moment)
{
	for (unsigned int try = 0; try < FIRE_TRIES; try++) {
		const struct itimerspec *is;
		uint64_t t_is;
		int r;

		if (try > 2)
			nanosleep(&(struct timespec){ .tv_nsec = MIN(1000 * try, 1000000u) }, NULL);
		batch_begin(b, b->task);
		if (!try)
			batch_call(b, SYS_timer_settime, e->it_id, TIMER_ABSTIME, put_spec(b, d, moment), 0);
		t_is = batch_put(b, NULL, sizeof(*is));
		batch_call(b, SYS_timer_gettime, e->it_id, t_is);
		r = batch_run(b);
		if (r < 0)
			return r;
		is = batch_data(b, t_is);
		if (is->it_value.tv_sec || is->it_value.tv_nsec != 1)
			return 0;
	}
	return log_fail(-ETIMEDOUT, "POSIX timer %u does not expire", e->it_id);
}

static uint64_t bit_of(const PosixTimerEntry *e)
{
	return 1ull << (e->si_signo - 1);
}

/* Who else sends it: two of a kind are not told apart, and some only ever wait once. */
static int is_signal_pending(struct batch *b, const PosixTimerEntry *e)
{
	uint64_t t_set, set;
	int r;

	batch_begin(b, b->task);
	t_set = batch_put(b, NULL, sizeof(set));
	batch_call(b, SYS_rt_sigpending, t_set, sizeof(set));
	r = batch_run(b);
	if (r < 0)
		return r;
	memcpy(&set, batch_data(b, t_set), sizeof(set));
	return set & bit_of(e) ? 1 : 0;
}

/* Somebody was faster just now; it waits on. */
static int put_back(struct batch *b, const PosixTimerEntry *e, const siginfo_t *info)
{
	bool to_thread = e->it_sigev_notify == SIGEV_THREAD_ID;
	uint64_t t_info;
	int pid, queue;

	batch_begin(b, b->task);
	t_info = batch_put(b, info, sizeof(*info));
	pid = batch_call(b, SYS_getpid);
	if (to_thread)
		queue = batch_call(b, SYS_rt_tgsigqueueinfo, 0, e->notify_thread_id, e->si_signo, t_info);
	else
		queue = batch_call(b, SYS_rt_sigqueueinfo, 0, e->si_signo, t_info);
	batch_link(b, pid, queue, 0);
	return batch_run(b);
}

/* Its signal is delivered, to nobody. *ret_count: of timer_getoverrun(2). */
static int take(struct batch *b, const PosixTimerEntry *e, uint64_t *ret_count)
{
	const uint64_t set = bit_of(e);
	uint64_t t_set, t_info, t_now;
	siginfo_t info;
	int taken, count, r;

	batch_begin(b, b->task);
	t_set = batch_put(b, &set, sizeof(set));
	t_info = batch_put(b, NULL, sizeof(info));
	t_now = batch_put(b, NULL, sizeof(struct timespec));
	taken = batch_try(b, SYS_rt_sigtimedwait, t_set, t_info, t_now, sizeof(set));
	count = batch_call(b, SYS_timer_getoverrun, e->it_id);
	r = batch_run(b);
	if (r < 0)
		return r;
	*ret_count = (uint64_t)batch_ret(b, count);
	memcpy(&info, batch_data(b, t_info), sizeof(info));
	if (batch_ret(b, taken) < 0 || (info.si_code == SI_TIMER && info.si_timerid == (int)e->it_id))
		return 0;
	return put_back(b, e, &info);
}

static int arm_overrun(struct restore_process *p, struct batch *b, const PosixTimerEntry *e)
{
	const uint64_t periods = e->overrun + 1ull;

	for (unsigned int try = 0; try < COUNT_TRIES; try++) {
		uint64_t count;
		int64_t first;
		struct due d;
		int r = due_get(p, e, &d);

		if (r < 0 || d.left <= 0 || !shows_when_it_fires(&d))
			return 0;
		r = due_first(p, e, &d, periods, &first);
		if (r < 0)
			return r;
		if (((uint64_t)d.left - (uint64_t)first) / d.interval != periods)
			return 0;
		r = is_signal_pending(b, e);
		if (r)
			return MIN(r, 0);
		r = fire(b, e, &d, (uint64_t)(d.now + first));
		if (r >= 0)
			r = take(b, e, &count);
		if (r < 0)
			return r;
		if (count == e->overrun)
			return 1;
	}
	return 0;
}

int posix_timer_arm_overrun(struct restore_process *p, struct batch *b, const PosixTimerEntry *e)
{
	int r = batch_run(b);

	if (r >= 0)
		r = arm_overrun(p, b, e);
	batch_begin(b, b->task);
	if (!r)
		log_debug("POSIX timer %u: its overrun count %u does not come back", e->it_id, e->overrun);
	return r;
}

int posix_timer_send(struct restore_process *p, struct batch *b, PosixTimerEntry *e)
{
	struct due d;
	int64_t first = 1;
	int r = due_get(p, e, &d);

	e->has_expired = false;		/* done */
	if (r >= 0)
		r = due_first(p, e, &d, e->expired, &first);
	if (r < 0 || first > 0 || !shows_when_it_fires(&d)) {
		log_debug("POSIX timer %u: its pending signal is a copy", e->it_id);
		posix_timer_arm(p, b, e);
		return 0;
	}
	r = batch_run(b);
	if (r >= 0)
		r = fire(b, e, &d, (uint64_t)(d.now + first));
	batch_begin(b, b->task);
	return r < 0 ? r : 1;
}
