/*
 * comm: a thread's name, 15 bytes of anything.
 *
 *   dump     prctl(PR_GET_NAME) in the batch: unlike /proc/PID/comm it costs no open file
 *   restore  prctl(PR_SET_NAME)
 *
 * The leader's name is in tc, the others' in thread_core; CRIU writes the leader's in both.
 */
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "task/parts.h"

#define COMM_BYTES 16

struct names_cookie {
	uint64_t t_name;
};

static int names_dump_calls(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th,
			    struct batch *b, void **cookie)
{
	struct names_cookie *c = ARENA_NEW(&ctx->arena, struct names_cookie);

	(void)p;
	(void)th;
	if (!c)
		return -ENOMEM;
	c->t_name = batch_put(b, NULL, COMM_BYTES);
	batch_call(b, SYS_prctl, PR_GET_NAME, c->t_name);
	*cookie = c;
	return 0;
}

static int names_dump_results(struct dump_ctx *ctx, struct dump_process *p,
			      struct dump_thread *th, struct batch *b, void *cookie)
{
	struct names_cookie *c = cookie;
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	char *comm = arena_strndup(&ctx->arena, batch_data(b, c->t_name), COMM_BYTES - 1);

	if (!tc || !comm)
		return -ENOMEM;
	tc->comm = comm;
	if (th == &p->threads[0]) {
		TaskCoreEntry *task = part_tc(ctx, th);

		if (!task)
			return -ENOMEM;
		task->comm = comm;
	}
	return 0;
}

static int names_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
			       struct restore_thread *th, struct batch *b)
{
	const char *comm = NULL;

	(void)ctx;
	if (th == &p->threads[0] && th->core->tc)
		comm = th->core->tc->comm;
	else if (th->core->thread_core)
		comm = th->core->thread_core->comm;
	if (!comm)
		return 0;
	if (strlen(comm) >= COMM_BYTES)
		return part_bad("core image: name of %zu bytes", strlen(comm));
	batch_call(b, SYS_prctl, PR_SET_NAME, batch_str(b, comm));
	return 0;
}

const struct task_part part_names = {
	.name		= "name",
	.stage		= STAGE_STATE,
	.dump_calls	= names_dump_calls,
	.dump_results	= names_dump_results,
	.restore_calls	= names_restore_calls,
};
