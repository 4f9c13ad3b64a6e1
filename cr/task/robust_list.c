/*
 * The list of futexes that the kernel marks as owner-died when a thread ends.
 *
 *   dump     get_robust_list(2) on the stopped thread, from outside
 *   restore  set_robust_list(2)
 *
 * The kernel reports its own size of the head even when there is no list: length 0 is written
 * then, as CRIU does.
 */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "task/parts.h"

static int robust_list_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	uint64_t head = 0, len = 0;

	(void)p;
	if (!tc)
		return -ENOMEM;
	if (syscall(SYS_get_robust_list, th->task.tid, &head, &len) < 0)
		return log_err(neg_errno(), "cannot read the robust list of thread %d",
			       th->task.tid);
	tc->futex_rla = head;
	tc->futex_rla_len = head ? (uint32_t)len : 0;
	return 0;
}

static int robust_list_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
				     struct restore_thread *th, struct batch *b)
{
	const ThreadCoreEntry *tc = th->core->thread_core;

	(void)ctx;
	(void)p;
	if (!tc || !tc->futex_rla_len)
		return 0;
	if (tc->futex_rla_len != sizeof(struct robust_list_head))
		return part_bad("core image: robust list head of %u bytes", tc->futex_rla_len);
	batch_call(b, SYS_set_robust_list, tc->futex_rla, tc->futex_rla_len);
	return 0;
}

const struct task_part part_robust_list = {
	.name		= "robust list",
	.stage		= STAGE_STATE,
	.dump		= robust_list_dump,
	.restore_calls	= robust_list_restore_calls,
};
