/*
 * The address that the kernel clears and wakes when a thread ends (pthread_join waits there).
 *
 *   dump     prctl(PR_GET_TID_ADDRESS), needs CONFIG_CHECKPOINT_RESTORE
 *   restore  set_tid_address(2)
 */
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "task/parts.h"

struct tid_address_cookie {
	uint64_t t_addr;
	int call;
};

static int tid_address_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
				  struct dump_thread *th, struct batch *b, void **cookie)
{
	struct tid_address_cookie *c = ARENA_NEW(&ctx->arena, struct tid_address_cookie);

	(void)p;
	(void)th;
	if (!c)
		return -ENOMEM;
	c->t_addr = batch_put(b, NULL, 8);
	c->call = batch_try(b, SYS_prctl, PR_GET_TID_ADDRESS, c->t_addr);
	*cookie = c;
	return 0;
}

static int tid_address_dump_results(struct dump_ctx *ctx, struct dump_process *p,
				    struct dump_thread *th, struct batch *b, void *cookie)
{
	struct tid_address_cookie *c = cookie;
	ThreadInfoX86 *ti = part_thread_info(ctx, th);

	(void)p;
	if (!ti)
		return -ENOMEM;
	if (batch_ret(b, c->call) < 0)
		return log_obstacle("use a kernel with CONFIG_CHECKPOINT_RESTORE",
				    "thread %d: its exit address cannot be read", th->task.tid);
	ti->clear_tid_addr = *(uint64_t *)batch_data(b, c->t_addr);
	return 0;
}

static int tid_address_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
				     struct restore_thread *th, struct batch *b)
{
	(void)ctx;
	(void)p;
	if (th->core->thread_info)
		batch_call(b, SYS_set_tid_address, th->core->thread_info->clear_tid_addr);
	return 0;
}

const struct task_part part_tid_address = {
	.name		= "tid address",
	.stage		= STAGE_STATE,
	.dump_calls	= tid_address_dump_calls,
	.dump_results	= tid_address_dump_results,
	.restore_calls	= tid_address_restore_calls,
};
