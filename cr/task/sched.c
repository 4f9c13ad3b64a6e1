/*
 * Scheduling: policy, real-time priority, nice value of a thread.
 *
 *   dump     sched_getscheduler(2), sched_getparam(2), getpriority(2) on the thread
 *   restore  the same "set" calls, late: a task of low priority should not slow its own restore
 *
 * SCHED_DEADLINE's three times have no place in the image format.
 */
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "task/parts.h"

#ifndef SCHED_EXT
#define SCHED_EXT 7
#endif
#define SCHED_DEADLINE_ 6

static int sched_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	pid_t tid = th->task.tid;
	int policy, nice;

	(void)p;
	if (!tc)
		return -ENOMEM;
	policy = sched_getscheduler(tid);
	if (policy < 0)
		return log_err(neg_errno(), "cannot read the scheduling policy of thread %d", tid);
	if ((policy & ~SCHED_RESET_ON_FORK) == SCHED_DEADLINE_)
		return log_obstacle("set another policy with chrt(1)",
				    "thread %d runs with SCHED_DEADLINE", tid);
	errno = 0;
	nice = getpriority(PRIO_PROCESS, (id_t)tid);
	if (nice == -1 && errno)
		return log_err(neg_errno(), "cannot read the nice value of thread %d", tid);
	tc->has_sched_policy = tc->has_sched_nice = true;
	tc->sched_policy = (uint32_t)policy;
	tc->sched_nice = nice;
	if ((policy & ~SCHED_RESET_ON_FORK) == SCHED_FIFO ||
	    (policy & ~SCHED_RESET_ON_FORK) == SCHED_RR) {
		struct sched_param param;

		if (sched_getparam(tid, &param) < 0)
			return log_err(neg_errno(), "cannot read the priority of thread %d", tid);
		tc->has_sched_prio = true;
		tc->sched_prio = (uint32_t)param.sched_priority;
	}
	return 0;
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
};
