/*
 * Signal handlers: 62 entries, signals 1..64 without SIGKILL and SIGSTOP.
 *
 *   dump     rt_sigaction(sig, NULL, &old) in the batch; SIGTRAP's SIG_IGN from SigIgn of
 *            /proc/PID/status
 *   restore  rt_sigaction(sig, &new, NULL), late and with the leader: zombies and helpers have
 *            died by then, so no SIGCHLD handler acts on them
 *
 * The trap: the stub's int3 makes an ignored SIGTRAP a default one. So it is read from outside,
 * and set by the core after the last batch (sigactions_trap_ignored()).
 *
 * A SIGCHLD that is left from helpers is not the program's: SIG_DFL flushes it first.
 */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "task/parts.h"

#define N_SIGACTIONS	62
#define SA_KERNEL_IGN	1u

struct sigactions_cookie {
	uint64_t t_sa[N_SIGACTIONS];
};

/* The i-th signal that has an action, counted from 0. */
static int nth_signal(size_t i)
{
	int sig = (int)i + 1;

	if (sig >= SIGKILL)
		sig++;
	if (sig >= SIGSTOP)
		sig++;
	return sig;
}

static int sigactions_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	const struct proc_status *st;

	return task_status(ctx, p, th, &st);
}

static int sigactions_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
				 struct dump_thread *th, struct batch *b, void **cookie)
{
	struct sigactions_cookie *c = ARENA_NEW(&ctx->arena, struct sigactions_cookie);

	(void)p;
	(void)th;
	if (!c)
		return -ENOMEM;
	for (size_t i = 0; i < N_SIGACTIONS; i++) {
		c->t_sa[i] = batch_put(b, NULL, sizeof(struct kernel_sigaction));
		batch_call(b, SYS_rt_sigaction, nth_signal(i), 0, c->t_sa[i], 8);
	}
	*cookie = c;
	return 0;
}

static int sigactions_dump_results(struct dump_ctx *ctx, struct dump_process *p,
				   struct dump_thread *th, struct batch *b, void *cookie)
{
	struct sigactions_cookie *c = cookie;
	TaskCoreEntry *tc = part_tc(ctx, th);
	SaEntry **list = arena_alloc(&ctx->arena, N_SIGACTIONS * sizeof(*list));

	(void)p;
	if (!tc || !list)
		return -ENOMEM;
	for (size_t i = 0; i < N_SIGACTIONS; i++) {
		const struct kernel_sigaction *ks = batch_data(b, c->t_sa[i]);
		SaEntry *e = ARENA_MSG(&ctx->arena, SaEntry, sa_entry);

		if (!e)
			return -ENOMEM;
		e->sigaction = ks->handler;
		e->flags = ks->flags;
		e->restorer = ks->restorer;
		e->mask = ks->mask;
		if (nth_signal(i) == SIGTRAP && th->status &&
		    th->status->sig_ign & 1ull << (SIGTRAP - 1))
			e->sigaction = SA_KERNEL_IGN;
		list[i] = e;
	}
	tc->sigactions = list;
	tc->n_sigactions = N_SIGACTIONS;
	return 0;
}

static void sigaction_call(struct batch *b, int sig, const SaEntry *e)
{
	struct kernel_sigaction ks = {
		.handler = e->sigaction, .flags = e->flags,
		.restorer = e->restorer, .mask = e->mask,
	};

	batch_call(b, SYS_rt_sigaction, sig, batch_put(b, &ks, sizeof(ks)), 0, 8);
}

static int sigactions_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
				    struct restore_thread *th, struct batch *b)
{
	static const struct kernel_sigaction dfl = { 0 };
	const TaskCoreEntry *tc = th->core->tc;

	(void)ctx;
	(void)p;
	if (!tc || !tc->n_sigactions)
		return 0;
	if (tc->n_sigactions != N_SIGACTIONS)
		return part_bad("core image: %zu signal actions, not %d", tc->n_sigactions,
				N_SIGACTIONS);
	batch_call(b, SYS_rt_sigaction, SIGCHLD, batch_put(b, &dfl, sizeof(dfl)), 0, 8);
	for (size_t i = 0; i < N_SIGACTIONS; i++) {
		if (tc->sigactions[i]->has_compat_sigaction && tc->sigactions[i]->compat_sigaction)
			return log_fail(-EOPNOTSUPP, "handler of signal %d was registered by "
					"32-bit code, which this engine does not restore",
					nth_signal(i));
		sigaction_call(b, nth_signal(i), tc->sigactions[i]);
	}
	return 0;
}

bool sigactions_trap_ignored(const CoreEntry *core, struct kernel_sigaction *ret_sa)
{
	const SaEntry *e;

	if (!core->tc || core->tc->n_sigactions != N_SIGACTIONS)
		return false;
	e = core->tc->sigactions[SIGTRAP - 1];
	if (e->sigaction != SA_KERNEL_IGN)
		return false;
	*ret_sa = (struct kernel_sigaction){ e->sigaction, e->flags, e->restorer, e->mask };
	return true;
}

const struct task_part part_sigactions = {
	.name		= "signal handlers",
	.leader_only	= true,
	.stage		= STAGE_LATE,
	.dump		= sigactions_dump,
	.dump_calls	= sigactions_dump_calls,
	.dump_results	= sigactions_dump_results,
	.restore_calls	= sigactions_restore_calls,
};
