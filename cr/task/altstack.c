/*
 * sigaltstack(2): where a thread's signal handlers run.
 *
 *   dump     sigaltstack(NULL, &old) in the batch
 *   restore  sigaltstack(&new, NULL)
 *
 * SS_ONSTACK is reported for a thread that runs on its alternate stack just now (the stub leaves
 * the stack pointer alone); the kernel accepts it back and ignores it. Setting is refused while
 * on the stack: registers come after this.
 */
#include <signal.h>
#include <sys/syscall.h>

#include "task/parts.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

struct kernel_stack {
	uint64_t sp;
	uint32_t flags, pad;
	uint64_t bytes;
};

struct altstack_cookie {
	uint64_t t_stack;
};

static int altstack_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
			       struct dump_thread *th, struct batch *b, void **cookie)
{
	struct altstack_cookie *c = ARENA_NEW(&ctx->arena, struct altstack_cookie);

	(void)p;
	(void)th;
	if (!c)
		return -ENOMEM;
	c->t_stack = batch_put(b, NULL, sizeof(struct kernel_stack));
	batch_call(b, SYS_sigaltstack, 0, c->t_stack);
	*cookie = c;
	return 0;
}

static int altstack_dump_results(struct dump_ctx *ctx, struct dump_process *p,
				 struct dump_thread *th, struct batch *b, void *cookie)
{
	struct altstack_cookie *c = cookie;
	const struct kernel_stack *ks = batch_data(b, c->t_stack);
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	ThreadSasEntry *sas = ARENA_MSG(&ctx->arena, ThreadSasEntry, thread_sas_entry);

	(void)p;
	if (!tc || !sas)
		return -ENOMEM;
	sas->ss_sp = ks->sp;
	sas->ss_size = ks->bytes;
	sas->ss_flags = ks->flags;
	tc->sas = sas;
	return 0;
}

static int altstack_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
				  struct restore_thread *th, struct batch *b)
{
	const ThreadSasEntry *sas = th->core->thread_core ? th->core->thread_core->sas : NULL;
	struct kernel_stack ks = { .flags = SS_DISABLE };

	(void)ctx;
	(void)p;
	if (!sas)
		return 0;
	if (sas->ss_flags & ~(SS_ONSTACK | SS_DISABLE | SS_AUTODISARM))
		return part_bad("core image: sigaltstack flags 0x%x", sas->ss_flags);
	if (!(sas->ss_flags & SS_DISABLE)) {
		ks.sp = sas->ss_sp;
		ks.bytes = sas->ss_size;
		ks.flags = sas->ss_flags & SS_AUTODISARM;
	}
	batch_call(b, SYS_sigaltstack, batch_put(b, &ks, sizeof(ks)), 0);
	return 0;
}

const struct task_part part_altstack = {
	.name		= "sigaltstack",
	.stage		= STAGE_STATE,
	.dump_calls	= altstack_dump_calls,
	.dump_results	= altstack_dump_results,
	.restore_calls	= altstack_restore_calls,
};
