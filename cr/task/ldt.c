/*
 * modify_ldt(2): segments of a process's own, which 16-bit code, Wine and old thread libraries
 * have. Nothing is saved: who has some is refused by name.
 */
#include <sys/syscall.h>

#include "task/parts.h"

#define LDT_READ	0
#define LDT_ENTRY_BYTES	8

struct ldt_cookie {
	int call;
};

static int ldt_dump_calls(struct dump_ctx *ctx, struct dump_process *p _unused_,
			  struct dump_thread *th _unused_, struct batch *b, void **cookie)
{
	struct ldt_cookie *c = ARENA_NEW(&ctx->arena, struct ldt_cookie);

	if (!c)
		return -ENOMEM;
	/* 0 if there is no table, else the bytes asked for; its errors are numbers of 32 bits. */
	c->call = batch_try(b, SYS_modify_ldt, LDT_READ, batch_put(b, NULL, LDT_ENTRY_BYTES), LDT_ENTRY_BYTES);
	*cookie = c;
	return 0;
}

static int ldt_dump_results(struct dump_ctx *ctx _unused_, struct dump_process *p,
			    struct dump_thread *th _unused_, struct batch *b, void *cookie)
{
	const struct ldt_cookie *c = cookie;

	if (batch_ret(b, c->call) != LDT_ENTRY_BYTES)
		return 0;
	return log_obstacle("run a 64-bit build of the program, which needs no segments of its own",
			    "process %d has a local descriptor table (modify_ldt)", p->pid);
}

const struct task_part part_ldt = {
	.name		= "local descriptor table",
	.leader_only	= true,
	.stage		= STAGE_STATE,
	.dump_calls	= ldt_dump_calls,
	.dump_results	= ldt_dump_results,
};
