/*
 * setitimer(2): one real and two CPU-time timers of a process.
 *
 *   dump     getitimer(2) in the batch: what is left, and the interval
 *   restore  setitimer(2), late
 *
 * A running timer never reads as zero; an image with an interval but no value is armed with the interval, as CRIU does
 * it: so does the kernel when it delivers the signal.
 *
 * The queues of signals are read before the batch is run. The signal of a timer that runs out in between is found by
 * rt_sigpending(2): the image has it if it was pending before the timer was read, or after it if that shows it run out.
 *
 * The real timer went on while the tree was away, if its clocks did: what ran out meanwhile is one SIGALRM, as the
 * kernel merges them. The tree's clocks are read at the end of a dump, which may be seconds later: when the timers
 * were, all of them, is noted beside them.
 */
#include <limits.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "core/restore_pids.h"
#include "ns/ns.h"
#include "task/parts.h"
#include "util/timer.h"

#define N_ITIMERS 3

static const int signals[N_ITIMERS] = {
	[ITIMER_REAL] = SIGALRM, [ITIMER_VIRTUAL] = SIGVTALRM, [ITIMER_PROF] = SIGPROF,
};

struct itimers_cookie {
	uint64_t t_value[N_ITIMERS], t_now, t_before, t_after;
};

static int itimers_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
			      struct dump_thread *th, struct batch *b, void **cookie)
{
	struct itimers_cookie *c = ARENA_NEW(&ctx->arena, struct itimers_cookie);

	(void)p;
	(void)th;
	if (!c)
		return -ENOMEM;
	c->t_before = batch_put(b, NULL, sizeof(uint64_t));
	batch_call(b, SYS_rt_sigpending, c->t_before, sizeof(uint64_t));
	for (int i = 0; i < N_ITIMERS; i++) {
		c->t_value[i] = batch_put(b, NULL, sizeof(struct itimerval));
		batch_call(b, SYS_getitimer, i, c->t_value[i]);
	}
	c->t_after = batch_put(b, NULL, sizeof(uint64_t));
	batch_call(b, SYS_rt_sigpending, c->t_after, sizeof(uint64_t));
	c->t_now = batch_put(b, NULL, sizeof(struct timespec));
	batch_call(b, SYS_clock_gettime, CLOCK_MONOTONIC, c->t_now);
	*cookie = c;
	return 0;
}

TaskTimersEntry *part_timers(struct dump_ctx *ctx, struct dump_thread *th)
{
	TaskCoreEntry *tc = part_tc(ctx, th);

	if (tc && !tc->timers)
		tc->timers = ARENA_MSG(&ctx->arena, TaskTimersEntry, task_timers_entry);
	return tc ? tc->timers : NULL;
}

static bool was_pending(struct batch *b, const struct itimers_cookie *c, int which, const struct itimerval *v)
{
	bool ran_out = !v->it_value.tv_sec && !v->it_value.tv_usec;
	const uint64_t *set = batch_data(b, ran_out ? c->t_after : c->t_before);

	return *set >> (signals[which] - 1) & 1;
}

static int itimers_dump_results(struct dump_ctx *ctx, struct dump_process *p,
				struct dump_thread *th, struct batch *b, void *cookie)
{
	struct itimers_cookie *c = cookie;
	const struct timespec *now = batch_data(b, c->t_now);
	TaskTimersEntry *timers = part_timers(ctx, th);
	ItimerEntry *e[N_ITIMERS];
	int r;

	(void)p;
	if (!timers)
		return -ENOMEM;
	for (int i = 0; i < N_ITIMERS; i++) {
		const struct itimerval *v = batch_data(b, c->t_value[i]);

		e[i] = ARENA_MSG(&ctx->arena, ItimerEntry, itimer_entry);
		if (!e[i])
			return -ENOMEM;
		e[i]->isec = (uint64_t)v->it_interval.tv_sec;
		e[i]->iusec = (uint64_t)v->it_interval.tv_usec;
		e[i]->vsec = (uint64_t)v->it_value.tv_sec;
		e[i]->vusec = (uint64_t)v->it_value.tv_usec;
		r = was_pending(b, c, i, v) ? sigpending_note_itimer(ctx, th, signals[i]) : 0;
		if (r < 0)
			return r;
	}
	timers->real = e[ITIMER_REAL];
	timers->virt = e[ITIMER_VIRTUAL];
	timers->prof = e[ITIMER_PROF];
	timers->has_read_nsec = true;
	timers->read_nsec = timer_nsec((uint64_t)now->tv_sec, (uint64_t)now->tv_nsec);
	return 0;
}

/* Takes the time off; 1 if SIGALRM came due. */
static int itimer_advance(struct itimerval *v, uint64_t adv)
{
	uint64_t value = timer_nsec((uint64_t)v->it_value.tv_sec,
				    (uint64_t)v->it_value.tv_usec * 1000);
	uint64_t interval = timer_nsec((uint64_t)v->it_interval.tv_sec,
				       (uint64_t)v->it_interval.tv_usec * 1000);
	struct timespec left;
	uint64_t ticks = 0;

	timer_advance(&value, interval, &ticks, adv);
	left = timer_timespec(value);
	/* 0 would disarm it. */
	v->it_value = (struct timeval){ left.tv_sec, left.tv_nsec / 1000 + (value && value < 1000) };
	return ticks > 0;
}

uint64_t timers_elapsed(const struct restore_process *p)
{
	const TaskTimersEntry *timers = p->core->tc ? p->core->tc->timers : NULL;

	return timers && timers->has_read_nsec ? ns_restore_elapsed_since(p->ctx, timers->read_nsec) :
						 ns_restore_elapsed(p->ctx);
}

static int itimer_restore(struct restore_process *p, struct batch *b, int which, const ItimerEntry *e)
{
	siginfo_t due = { .si_signo = SIGALRM, .si_code = SI_KERNEL };
	struct itimerval v;

	if (!e || !(e->isec | e->iusec | e->vsec | e->vusec))
		return 0;
	if (e->isec > LONG_MAX || e->vsec > LONG_MAX || e->iusec > 999999 || e->vusec > 999999)
		return part_bad("core image: interval timer %d is out of range", which);
	v.it_interval.tv_sec = (time_t)e->isec;
	v.it_interval.tv_usec = (suseconds_t)e->iusec;
	v.it_value.tv_sec = (time_t)e->vsec;
	v.it_value.tv_usec = (suseconds_t)e->vusec;
	if (!(e->vsec | e->vusec))
		v.it_value = v.it_interval;
	if (which == ITIMER_REAL && itimer_advance(&v, timers_elapsed(p)))
		batch_call(b, SYS_rt_sigqueueinfo, restore_pid_inside(p, 0), SIGALRM,
			   batch_put(b, &due, sizeof(due)));
	batch_call(b, SYS_setitimer, which, batch_put(b, &v, sizeof(v)), 0);
	return 0;
}

static int itimers_restore_calls(struct restore_ctx *ctx _unused_, struct restore_process *p,
				 struct restore_thread *th, struct batch *b)
{
	const TaskTimersEntry *timers = th->core->tc ? th->core->tc->timers : NULL;
	int r;

	if (!timers)
		return 0;
	r = itimer_restore(p, b, ITIMER_REAL, timers->real);
	if (r < 0)
		return r;
	r = itimer_restore(p, b, ITIMER_VIRTUAL, timers->virt);
	if (r < 0)
		return r;
	return itimer_restore(p, b, ITIMER_PROF, timers->prof);
}

const struct task_part part_itimers = {
	.name		= "interval timers",
	.leader_only	= true,
	.stage		= STAGE_LATE,
	.dump_calls	= itimers_dump_calls,
	.dump_results	= itimers_dump_results,
	.restore_calls	= itimers_restore_calls,
};
