/*
 * timer_create(2) timers of a process.
 *
 *   dump     /proc/PID/timers for ids, clocks and notification; timer_gettime, beside it the clock, and
 *            timer_getoverrun in the batch for what is left; what posix_timers_peek.c finds
 *   restore  timer_create with the same id; late. Letting them run: posix_timers_arm.c
 *
 * The id is the program's handle, so it must come back exactly. PR_TIMER_CREATE_RESTORE_IDS
 * (Linux 6.15) lets us name it; before, the kernel counts ids up from 0 in a new process, and
 * creating and deleting timers gets there. If it counted otherwise timer_settime() fails, so a
 * timer never comes back under another's name.
 *
 * The clocks go on in a time namespace: the remaining time is what counts.
 */
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "core/restore_pids.h"
#include "task/posix_timers.h"
#include "util/timer.h"

#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS	77
#define PR_TIMER_CREATE_RESTORE_IDS_OFF	0
#define PR_TIMER_CREATE_RESTORE_IDS_ON	1
#endif
#define TIMER_ID_COUNT_MAX	8192u	/* ids reached by creating and deleting */
#define SIGNAL_LAST		64

struct kernel_sigevent {
	uint64_t value;
	int32_t signo, notify, tid, pad[11];
};

struct posix_timers_cookie {
	struct posix_timer_line *lines;
	size_t n;
	struct posix_timer_reading {
		uint64_t t_spec, t_now;
		int overrun_call;
	} *readings;
};

static int timers_read(struct dump_ctx *ctx, struct dump_process *p,
		       struct posix_timers_cookie *c)
{
	_cleanup_free_ struct posix_timer_line *list = NULL;
	_cleanup_free_ char *text = NULL;
	size_t n;
	int r;

	r = read_file_at(p->proc_fd, "timers", READ_FILE_MAX, &text, NULL);
	if (r == -ENOENT)
		return log_obstacle("use a kernel with CONFIG_CHECKPOINT_RESTORE",
				    "process %d: its POSIX timers cannot be listed", p->pid);
	if (r < 0)
		return log_err(r, "cannot read timers of process %d", p->pid);
	r = posix_timers_parse(text, &list, &n);
	if (r < 0)
		return log_err(r, "timers of process %d", p->pid);
	if (n > POSIX_TIMERS_DUMP_MAX)
		return log_obstacle("let the program delete timers it does not use",
				    "process %d has %zu POSIX timers, more than %u", p->pid, n,
				    POSIX_TIMERS_DUMP_MAX);
	c->n = n;
	c->lines = arena_memdup(&ctx->arena, list, n * sizeof(*list));
	c->readings = arena_alloc(&ctx->arena, n * sizeof(*c->readings));
	return c->lines && c->readings ? 0 : -ENOMEM;
}

static int posix_timers_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
				   struct dump_thread *th, struct batch *b, void **cookie)
{
	struct posix_timers_cookie *c = ARENA_NEW(&ctx->arena, struct posix_timers_cookie);
	int r;

	(void)th;
	if (!c)
		return -ENOMEM;
	r = timers_read(ctx, p, c);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->n; i++) {
		struct posix_timer_reading *is = &c->readings[i];

		is->t_spec = batch_put(b, NULL, sizeof(struct itimerspec));
		is->t_now = batch_put(b, NULL, sizeof(struct timespec));
		batch_call(b, SYS_timer_gettime, c->lines[i].id, is->t_spec);
		/* A thousand of them take a while. */
		batch_call(b, SYS_clock_gettime, CLOCK_MONOTONIC, is->t_now);
		is->overrun_call = batch_call(b, SYS_timer_getoverrun, c->lines[i].id);
	}
	*cookie = c;
	return 0;
}

/* *ret_queue: where its signal is when it is pending. */
static int timer_target(struct dump_ctx *ctx, struct dump_process *p, const struct posix_timer_line *l,
			PosixTimerEntry *e, SignalQueueEntry ***ret_queue)
{
	*ret_queue = &part_tc(ctx, &p->threads[0])->signals_s;
	if (l->notify != SIGEV_THREAD_ID)
		return 0;
	for (size_t i = 0; i < p->n_threads; i++) {
		if (p->threads[i].task.tid != l->target)
			continue;
		e->has_notify_thread_id = true;
		e->notify_thread_id = (int32_t)p->threads[i].tid_virtual;
		*ret_queue = &part_thread_core(ctx, &p->threads[i])->signals_p;
		return 0;
	}
	/* The kernel keeps the timer of a thread that ended; its signal goes nowhere. */
	return log_obstacle("let the program delete the timer",
			    "process %d: POSIX timer %u notifies thread %d, which has ended",
			    p->pid, l->id, l->target);
}

/*
 * Its signal is pending. One that was sent a moment ago, after its time was read, is not yet: the image has
 * the timer as it was then.
 */
static int timer_note_pending(struct dump_ctx *ctx, const struct posix_timer_line *l, PosixTimerEntry *e,
			      SignalQueueEntry **queue)
{
	if (!l->pending || !posix_timer_signal_waits(e->si_signo))
		return 0;
	if (e->isec | e->insec)
		e->expired = l->periods;
	else
		e->expired = !(e->vsec | e->vnsec);
	e->has_expired = e->expired > 0;
	return e->has_expired ? sigpending_note_timer(ctx, queue, e) : 0;
}

static int posix_timers_dump_results(struct dump_ctx *ctx, struct dump_process *p,
				     struct dump_thread *th, struct batch *b, void *cookie)
{
	struct posix_timers_cookie *c = cookie;
	TaskTimersEntry *timers = part_timers(ctx, th);
	PosixTimerEntry **list = arena_alloc(&ctx->arena, (c->n + 1) * sizeof(*list));
	int r;

	if (!timers || !list)
		return -ENOMEM;
	r = c->n && ctx->peek ? posix_timers_peek(ctx->peek, th->task.tid, c->lines, c->n) : 0;
	if (r < 0)
		log_debug("POSIX timers cannot be looked at in the kernel: %s", strerror(-r));
	for (size_t i = 0; i < c->n; i++) {
		const struct itimerspec *spec = batch_data(b, c->readings[i].t_spec);
		const struct timespec *now = batch_data(b, c->readings[i].t_now);
		const struct posix_timer_line *l = &c->lines[i];
		PosixTimerEntry *e = ARENA_MSG(&ctx->arena, PosixTimerEntry, posix_timer_entry);
		SignalQueueEntry **queue;

		if (!e)
			return -ENOMEM;
		e->it_id = l->id;
		e->clock_id = (uint32_t)l->clock_id;
		e->si_signo = (uint32_t)l->signo;
		e->it_sigev_notify = (uint32_t)l->notify;
		e->sival_ptr = l->sival;
		e->overrun = (uint32_t)batch_ret(b, c->readings[i].overrun_call);
		e->isec = (uint64_t)spec->it_interval.tv_sec;
		e->insec = (uint64_t)spec->it_interval.tv_nsec;
		e->vsec = (uint64_t)spec->it_value.tv_sec;
		e->vnsec = (uint64_t)spec->it_value.tv_nsec;
		e->has_read_nsec = true;
		e->read_nsec = timer_nsec((uint64_t)now->tv_sec, (uint64_t)now->tv_nsec);
		/* One that is off counts by no clock. */
		e->has_at_moment = e->at_moment = l->at_moment && (e->vsec | e->vnsec);
		r = timer_target(ctx, p, l, e, &queue);
		if (r >= 0)
			r = timer_note_pending(ctx, l, e, queue);
		if (r < 0)
			return r;
		list[i] = e;
	}
	timers->posix = list;
	timers->n_posix = c->n;
	return 0;
}

/* However many: what is longer ago than the clock is old is cut. */
static int timer_check_expired(const PosixTimerEntry *e)
{
	bool periodic = e->isec | e->insec;

	if (e->it_sigev_notify == SIGEV_NONE || !posix_timer_signal_waits(e->si_signo))
		return part_bad("core image: POSIX timer %u sends no signal that could be pending", e->it_id);
	if (!e->expired || (!periodic && (e->expired > 1 || e->vsec | e->vnsec)))
		return part_bad("core image: POSIX timer %u has expired %lu times, and its signal is pending",
				e->it_id, e->expired);
	return 0;
}

static int timer_check(const PosixTimerEntry *e)
{
	if (e->it_id > INT_MAX)
		return part_bad("core image: POSIX timer id %u", e->it_id);
	if (e->it_sigev_notify != SIGEV_NONE && (e->si_signo < 1 || e->si_signo > SIGNAL_LAST))
		return part_bad("core image: POSIX timer %u sends signal %u", e->it_id,
				e->si_signo);
	if (e->it_sigev_notify > SIGEV_THREAD && e->it_sigev_notify != SIGEV_THREAD_ID)
		return part_bad("core image: POSIX timer %u notifies by %u", e->it_id,
				e->it_sigev_notify);
	if (e->it_sigev_notify == SIGEV_THREAD_ID &&
	    (!e->has_notify_thread_id || e->notify_thread_id <= 0))
		return part_bad("core image: POSIX timer %u names no thread", e->it_id);
	if (e->isec > LONG_MAX || e->vsec > LONG_MAX || e->insec > 999999999 ||
	    e->vnsec > 999999999)
		return part_bad("core image: POSIX timer %u: time is out of range", e->it_id);
	if (e->overrun > INT_MAX)
		return part_bad("core image: POSIX timer %u: overrun count %u", e->it_id, e->overrun);
	return e->has_expired ? timer_check_expired(e) : 0;
}

static void timer_create_calls(struct batch *b, const PosixTimerEntry *e)
{
	struct kernel_sigevent ev = {
		.value = e->sival_ptr, .signo = (int32_t)e->si_signo,
		.notify = (int32_t)e->it_sigev_notify,
		.tid = e->has_notify_thread_id ? e->notify_thread_id : 0,
	};
	int32_t id = (int32_t)e->it_id;

	batch_call(b, SYS_timer_create, (int64_t)(int32_t)e->clock_id,
		   batch_put(b, &ev, sizeof(ev)), batch_put(b, &id, sizeof(id)));
}

/* Ids from *next up to id are created and deleted; Linux before 6.15. */
static int timer_skip_ids(struct batch *b, uint32_t *next, uint32_t id)
{
	struct kernel_sigevent ev = { .notify = SIGEV_NONE };

	for (; *next < id; (*next)++) {
		int r;

		r = batch_make_room(b, 2, sizeof(ev) + 16);
		if (r < 0)
			return r;
		batch_call(b, SYS_timer_create, CLOCK_MONOTONIC, batch_put(b, &ev, sizeof(ev)),
			   batch_put(b, NULL, 4));
		batch_call(b, SYS_timer_delete, *next);
	}
	(*next)++;
	return 0;
}

int posix_timers_create(struct batch *b, PosixTimerEntry *const *list, size_t n, bool by_id)
{
	uint32_t next = 0;
	int r;

	if (by_id)
		batch_call(b, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS,
			   PR_TIMER_CREATE_RESTORE_IDS_ON);
	for (size_t i = 0; i < n; i++) {
		r = timer_check(list[i]);
		if (r < 0)
			return r;
		if (i && list[i]->it_id <= list[i - 1]->it_id)
			return part_bad("core image: POSIX timers are not in order");
		if (!by_id) {
			if (list[i]->it_id > TIMER_ID_COUNT_MAX)
				return log_fail(-EOPNOTSUPP, "POSIX timer %u: an id this large "
						"needs Linux 6.15 or later", list[i]->it_id);
			r = timer_skip_ids(b, &next, list[i]->it_id);
			if (r < 0)
				return r;
		}
		r = batch_make_room(b, 1, 256);
		if (r < 0)
			return r;
		timer_create_calls(b, list[i]);
	}
	if (by_id)
		batch_call(b, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS,
			   PR_TIMER_CREATE_RESTORE_IDS_OFF);
	return 0;
}

static int compare_entries(const void *a, const void *b)
{
	uint32_t x = (*(PosixTimerEntry *const *)a)->it_id;
	uint32_t y = (*(PosixTimerEntry *const *)b)->it_id;

	return (x > y) - (x < y);
}

/* As it calls its threads itself. */
static void threads_inside(const struct restore_process *p, const TaskTimersEntry *timers)
{
	for (size_t i = 0; i < timers->n_posix; i++) {
		PosixTimerEntry *e = timers->posix[i];

		for (size_t k = 0; e->has_notify_thread_id && k < p->pst->n_threads; k++)
			if ((uint32_t)e->notify_thread_id == p->pst->threads[k]) {
				e->notify_thread_id = (int32_t)restore_pid_inside(p, k);
				break;
			}
	}
}

static TaskTimersEntry *timers_of(const struct restore_process *p)
{
	return p->core->tc ? p->core->tc->timers : NULL;
}

static int posix_timers_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
				      struct restore_thread *th _unused_, struct batch *b)
{
	TaskTimersEntry *timers = timers_of(p);
	const struct task_inherit *in;

	if (!timers || !timers->n_posix)
		return 0;
	in = task_inherit(ctx);
	if (!in)
		return -EIO;
	threads_inside(p, timers);
	/* Other engines write them as the kernel lists them, newest first. */
	qsort(timers->posix, timers->n_posix, sizeof(*timers->posix), compare_entries);
	return posix_timers_create(b, timers->posix, timers->n_posix, in->timers_by_id);
}

static bool has_count(const PosixTimerEntry *e)
{
	return e->overrun && (e->isec | e->insec) && e->it_sigev_notify != SIGEV_NONE &&
	       posix_timer_signal_waits(e->si_signo);
}

/* Those that signal this thread; the leader: and the process. */
static int timers_run_calls(struct restore_ctx *ctx _unused_, struct restore_process *p, struct restore_thread *th,
			    struct batch *b)
{
	const TaskTimersEntry *timers = timers_of(p);
	size_t n = timers ? timers->n_posix : 0, k = (size_t)(th - p->threads);
	_cleanup_free_ bool *done = calloc(n + 1, sizeof(*done));
	int r = done ? 0 : -ENOMEM;

	if (k >= p->pst->n_threads)
		return part_bad("pstree image: process %u has no thread %zu", p->pst->pid, k);
	/* First what takes signals out again: none of another timer is there yet. */
	for (size_t i = 0; r >= 0 && i < n; i++) {
		const PosixTimerEntry *e = timers->posix[i];
		bool ours = e->it_sigev_notify == SIGEV_THREAD_ID ?
			    (uint32_t)e->notify_thread_id == restore_pid_inside(p, k) : !k;

		/* A pending signal has its place among others: sigpending.c. */
		done[i] = !ours || e->has_expired;
		if (done[i] || !has_count(e))
			continue;
		r = posix_timer_arm_overrun(p, b, e);
		done[i] = r > 0;
	}
	for (size_t i = 0; r >= 0 && i < n; i++) {
		if (done[i])
			continue;
		r = batch_make_room(b, 1, 256);
		if (r >= 0)
			posix_timer_arm(p, b, timers->posix[i]);
	}
	return r;
}

PosixTimerEntry *posix_timer_of(const struct restore_process *p, const void *info)
{
	const TaskTimersEntry *timers = timers_of(p);
	PosixTimerEntry key = { 0 }, *k = &key, **found;
	siginfo_t si;

	memcpy(&si, info, sizeof(si));
	key.it_id = (uint32_t)si.si_timerid;
	if (!timers || si.si_code != SI_TIMER)
		return NULL;
	found = bsearch(&k, timers->posix, timers->n_posix, sizeof(k), compare_entries);
	return found && (*found)->has_expired && (*found)->si_signo == (uint32_t)si.si_signo ? *found : NULL;
}

/* Whose pending signal was in no queue has not been armed. */
static int timers_run_finish(struct restore_ctx *ctx _unused_, struct restore_process *p, struct restore_thread *th)
{
	const TaskTimersEntry *timers = timers_of(p);

	if (!timers || th != &p->threads[p->n_threads - 1])
		return 0;
	for (size_t i = 0; i < timers->n_posix; i++)
		if (timers->posix[i]->has_expired)
			return part_bad("core image: the signal of POSIX timer %u is not in its queue",
					timers->posix[i]->it_id);
	return 0;
}

const struct task_part part_posix_timers = {
	.name		= "POSIX timers",
	.leader_only	= true,
	.stage		= STAGE_LATE,
	.dump_calls	= posix_timers_dump_calls,
	.dump_results	= posix_timers_dump_results,
	.restore_calls	= posix_timers_restore_calls,
};

const struct task_part part_posix_timers_run = {
	.name		= "POSIX timers, running",
	.stage		= STAGE_LATE,
	.restore_calls	= timers_run_calls,
	.finish		= timers_run_finish,
};
