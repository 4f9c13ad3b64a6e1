/*
 * Scheduling: policy, real-time priority, nice value, time slice, clamps of utilization of a thread.
 *
 *   dump     sched_getattr(2) on the thread; the nice value of a real-time one it does not tell: getpriority(2)
 *   restore  sched_setscheduler(2), setpriority(2), late: a task of low priority should not slow its own
 *            restore; slice and clamps by sched_setattr(2) from outside
 *
 * SCHED_DEADLINE's three times have no place in the image format.
 */
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/peek.h"
#include "task/parts.h"

#ifndef SCHED_EXT
#define SCHED_EXT 7
#endif
#define SCHED_DEADLINE_ 6
/* Linux 5.3 with CONFIG_UCLAMP_TASK. */
#define UTIL_MAX		1024u
#define FLAGS_KEEP_UTIL_CLAMP	(0x08 | 0x10 | 0x20 | 0x40)	/* SCHED_FLAG_KEEP_ALL, _UTIL_CLAMP */
#define FLAG_RESET_ON_FORK	0x01
#define FLAG_KEEP_POLICY	0x08
#define UCLAMP_SYSCTL		"/proc/sys/kernel/sched_util_clamp_min"

/* struct sched_attr, of which some C libraries have no or another one. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t prio;
	uint64_t runtime;		/* of no real-time policy: the slice, nanoseconds; 0 before Linux 6.12 */
	uint64_t deadline, period;
	uint32_t util_min, util_max;
};

static bool is_real_time(uint32_t policy)
{
	policy &= ~(uint32_t)SCHED_RESET_ON_FORK;
	return policy == SCHED_FIFO || policy == SCHED_RR;
}

/* The running kernel's, so asked for once. */
static bool have_clamps(void)
{
	static int have = -1;

	if (have < 0)
		have = !access(UCLAMP_SYSCTL, F_OK);
	return have;
}

static uint64_t own_slice(void)
{
	static struct attributes own;

	if (!own.size && syscall(SYS_sched_getattr, 0, &own, sizeof(own), 0) < 0)
		own = (struct attributes){ .size = sizeof(own) };
	return own.runtime;
}

/* Others have the machine's, or what that was when they last ran, which only the kernel's structure tells. */
static bool has_asked_for_slice(struct dump_ctx *ctx, const struct dump_thread *th, uint64_t slice)
{
	uint64_t task, asked;

	if (!slice || slice == own_slice())
		return false;
	if (ctx->peek && peek_task(ctx->peek, th->task.tid, &task) >= 0 &&
	    peek_member(ctx->peek, task, "task_struct", "se.custom_slice", 1, &asked) >= 0)
		return asked;
	return own_slice();
}

/* Without them the kernel says 0 and 0. */
static bool are_usual_clamps(const struct attributes *a)
{
	return !have_clamps() ||
	       (a->util_max == UTIL_MAX && a->util_min == (is_real_time(a->policy) ? UTIL_MAX : 0));
}

/* Saved if they are not what such a thread has anyway. */
static int slice_and_clamps_dump(struct dump_ctx *ctx, struct dump_thread *th, const struct attributes *a)
{
	bool asked = !is_real_time(a->policy) && has_asked_for_slice(ctx, th, a->runtime);
	bool clamped = !are_usual_clamps(a);
	ThreadTraitsEntry *e = asked || clamped ? part_traits(ctx, th) : NULL;

	if ((asked || clamped) && !e)
		return -ENOMEM;
	if (asked) {
		e->has_slice_nsec = true;
		e->slice_nsec = a->runtime;
	}
	if (clamped) {
		e->has_util_min = e->has_util_max = true;
		e->util_min = a->util_min;
		e->util_max = a->util_max;
	}
	return 0;
}

/* The kernel takes what it can of it: 0.1 to 100 ms. */
static int slice_finish(const struct restore_thread *th)
{
	const ThreadCoreEntry *tc = th->core->thread_core;
	const ThreadTraitsEntry *e = tc ? tc->traits : NULL;
	struct attributes a = { .size = sizeof(a), .flags = FLAG_KEEP_POLICY };

	if (!e || !e->slice_nsec || is_real_time(tc->sched_policy))
		return 0;
	a.nice = tc->sched_nice;
	a.runtime = e->slice_nsec;
	if (syscall(SYS_sched_setattr, th->task.tid, &a, 0) < 0)
		return log_err(neg_errno(), "cannot give thread %d its time slice of %lu ns", th->task.tid, e->slice_nsec);
	if (!syscall(SYS_sched_getattr, th->task.tid, &a, sizeof(a), 0) && !a.runtime)
		log_warn("thread %d loses its time slice of %lu ns: this kernel gives none (Linux 6.12)", th->task.tid,
			 e->slice_nsec);
	return 0;
}

static int clamps_finish(const struct restore_thread *th)
{
	const ThreadCoreEntry *tc = th->core->thread_core;
	const ThreadTraitsEntry *e = tc ? tc->traits : NULL;
	struct attributes attr = { .size = sizeof(attr), .flags = FLAGS_KEEP_UTIL_CLAMP };

	if (!e || !e->has_util_min || !e->has_util_max)
		return 0;
	attr.util_min = e->util_min;
	attr.util_max = e->util_max;
	if (!syscall(SYS_sched_setattr, th->task.tid, &attr, 0))
		return 0;
	if (errno == EOPNOTSUPP || !have_clamps()) {
		log_warn("thread %d loses its clamps of utilization (%u to %u): this kernel has none", th->task.tid,
			 e->util_min, e->util_max);
		return 0;
	}
	return log_err(neg_errno(), "cannot clamp the utilization of thread %d to %u to %u", th->task.tid,
		       e->util_min, e->util_max);
}

static int sched_finish(struct restore_ctx *ctx _unused_, struct restore_process *p _unused_,
			struct restore_thread *th)
{
	int r = slice_finish(th);

	return r < 0 ? r : clamps_finish(th);
}

static int sched_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	struct attributes a = { 0 };
	pid_t tid = th->task.tid;

	(void)p;
	if (!tc)
		return -ENOMEM;
	if (syscall(SYS_sched_getattr, tid, &a, sizeof(a), 0) < 0)
		return log_err(neg_errno(), "cannot read the scheduling attributes of thread %d", tid);
	if (a.policy == SCHED_DEADLINE_)
		return log_obstacle("set another policy with chrt(1)",
				    "thread %d runs with SCHED_DEADLINE", tid);
	if (is_real_time(a.policy)) {
		errno = 0;
		a.nice = getpriority(PRIO_PROCESS, (id_t)tid);
		if (a.nice == -1 && errno)
			return log_err(neg_errno(), "cannot read the nice value of thread %d", tid);
		tc->has_sched_prio = true;
		tc->sched_prio = a.prio;
	}
	tc->has_sched_policy = tc->has_sched_nice = true;
	tc->sched_policy = a.policy | (a.flags & FLAG_RESET_ON_FORK ? SCHED_RESET_ON_FORK : 0);
	tc->sched_nice = a.nice;
	return slice_and_clamps_dump(ctx, th, &a);
}

static int sched_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
			       struct restore_thread *th, struct batch *b)
{
	const ThreadCoreEntry *tc = th->core->thread_core;
	uint32_t policy;
	int prio = 0;

	(void)ctx;
	(void)p;
	if (!tc || !tc->has_sched_policy)
		return 0;
	policy = tc->sched_policy & ~(uint32_t)SCHED_RESET_ON_FORK;
	switch (policy) {
	case SCHED_FIFO:
	case SCHED_RR:
		if (!tc->has_sched_prio || tc->sched_prio < 1 || tc->sched_prio > 99)
			return part_bad("core image: real-time priority %u", tc->sched_prio);
		prio = (int)tc->sched_prio;
		break;
	case SCHED_OTHER:
	case SCHED_BATCH:
	case SCHED_IDLE:
	case SCHED_EXT:
		break;
	default:
		return part_bad("core image: scheduling policy %u", policy);
	}
	if (tc->has_sched_nice && (tc->sched_nice < -20 || tc->sched_nice > 19))
		return part_bad("core image: nice value %d", tc->sched_nice);
	/* Also for plain ones: the task began with the engine's. */
	batch_call(b, SYS_sched_setscheduler, 0, tc->sched_policy,
		   batch_put(b, &prio, sizeof(prio)));
	if (tc->has_sched_nice)
		batch_call(b, SYS_setpriority, PRIO_PROCESS, 0, tc->sched_nice);
	return 0;
}

const struct task_part part_sched = {
	.name		= "scheduling",
	.stage		= STAGE_LATE,
	.dump		= sched_dump,
	.restore_calls	= sched_restore_calls,
	.finish		= sched_finish,
};
