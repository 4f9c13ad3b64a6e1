/*
 * Resource limits of a process.
 *
 *   dump     prlimit64(0, ...) in the batch: from outside it takes CAP_SYS_RESOURCE even to read
 *            those of another user's process
 *   restore  rlimits_prepare() raises the engine's own hard limits where that is needed (it takes
 *            CAP_SYS_RESOURCE, which nobody has inside a user namespace); every task inherits
 *            them, and prlimit64(0, ...) in the task only lowers: always allowed
 *
 * Set with the last thread: RLIMIT_SIGPENDING counts the signals that are queued anew.
 */
#include <sys/resource.h>
#include <sys/syscall.h>

#include "task/parts.h"

#define N_RLIMITS 16

static const char *const rlimit_names[N_RLIMITS] = {
	"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE",
	"MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
};

struct rlimits_cookie {
	uint64_t t_limit[N_RLIMITS];
};

static int rlimits_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
			      struct dump_thread *th, struct batch *b, void **cookie)
{
	struct rlimits_cookie *c;

	*cookie = NULL;
	if (th != &p->threads[0])
		return 0;
	c = ARENA_NEW(&ctx->arena, struct rlimits_cookie);
	if (!c)
		return -ENOMEM;
	for (int i = 0; i < N_RLIMITS; i++) {
		c->t_limit[i] = batch_put(b, NULL, sizeof(struct rlimit64));
		batch_call(b, SYS_prlimit64, 0, i, 0, c->t_limit[i]);
	}
	*cookie = c;
	return 0;
}

static int rlimits_dump_results(struct dump_ctx *ctx, struct dump_process *p,
				struct dump_thread *th, struct batch *b, void *cookie)
{
	struct rlimits_cookie *c = cookie;
	TaskRlimitsEntry *e;
	TaskCoreEntry *tc;

	(void)p;
	if (!c)
		return 0;
	tc = part_tc(ctx, th);
	e = ARENA_MSG(&ctx->arena, TaskRlimitsEntry, task_rlimits_entry);
	if (!tc || !e)
		return -ENOMEM;
	e->rlimits = arena_alloc(&ctx->arena, N_RLIMITS * sizeof(*e->rlimits));
	if (!e->rlimits)
		return -ENOMEM;
	for (int i = 0; i < N_RLIMITS; i++) {
		const struct rlimit64 *lim = batch_data(b, c->t_limit[i]);
		RlimitEntry *one = ARENA_MSG(&ctx->arena, RlimitEntry, rlimit_entry);

		if (!one)
			return -ENOMEM;
		one->cur = lim->rlim_cur;
		one->max = lim->rlim_max;
		e->rlimits[e->n_rlimits++] = one;
	}
	tc->rlimits = e;
	return 0;
}

static int rlimit_raise(const struct restore_process *p, int which, uint64_t max)
{
	struct rlimit64 ours;

	if (prlimit64(0, which, NULL, &ours) < 0)
		return log_err(neg_errno(), "cannot read our own RLIMIT_%s", rlimit_names[which]);
	if (max <= ours.rlim_max)
		return 0;
	ours.rlim_max = max;
	if (prlimit64(0, which, &ours, NULL) < 0)
		return log_err(neg_errno(), "process %u had RLIMIT_%s with the hard limit %lu, "
			       "above the engine's own: raising it takes CAP_SYS_RESOURCE%s",
			       p->pst->pid, rlimit_names[which], max,
			       which == RLIMIT_NOFILE ? " and fs.nr_open at least as large" : "");
	return 0;
}

int rlimits_prepare(struct restore_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		const struct restore_process *p = &ctx->procs[i];
		const TaskRlimitsEntry *e = p->core && p->core->tc ? p->core->tc->rlimits : NULL;

		for (size_t k = 0; e && k < MIN(e->n_rlimits, (size_t)N_RLIMITS); k++) {
			int r;

			r = rlimit_raise(p, (int)k, e->rlimits[k]->max);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int rlimits_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
				 struct restore_thread *th, struct batch *b)
{
	const TaskRlimitsEntry *e;

	if (th != &p->threads[p->n_threads - 1] || !p->core->tc || !p->core->tc->rlimits)
		return 0;
	e = p->core->tc->rlimits;
	if (e->n_rlimits > N_RLIMITS)
		return part_bad("core image: %zu resource limits", e->n_rlimits);
	for (size_t i = 0; i < e->n_rlimits; i++) {
		struct rlimit64 lim = { e->rlimits[i]->cur, e->rlimits[i]->max };
		const char *name;

		if (lim.rlim_cur > lim.rlim_max)
			return part_bad("core image: soft limit of RLIMIT_%s above the hard one",
					rlimit_names[i]);
		name = arena_printf(&ctx->arena, "set RLIMIT_%s (a hard limit above the engine's "
				    "own takes CAP_SYS_RESOURCE)", rlimit_names[i]);
		if (!name)
			return -ENOMEM;
		batch_call_(b, name, false, SYS_prlimit64,
			    BATCH_ARGS_(0, i, batch_put(b, &lim, sizeof(lim)), 0, 0, 0, 0));
	}
	return 0;
}

const struct task_part part_rlimits = {
	.name		= "resource limits",
	.stage		= STAGE_LATE,
	.dump_calls	= rlimits_dump_calls,
	.dump_results	= rlimits_dump_results,
	.restore_calls	= rlimits_restore_calls,
};
