/*
 * Restore: seeds, the tasks that the engine itself clones: the roots, and stand-ins beside them. Each
 * begins as a copy of the engine that has lost everything but the call zone and one descriptor.
 */
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/restore_pids.h"
#include "core/restore_steps.h"
#include "ns/ns.h"
#include "task/parts.h"
#include "task/regs.h"
#include "util/child.h"

#define SEED_OPTIONS	(PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK)
#define SIGNAL_LAST	64
#define SEED_TIMEOUT_USEC (10ull * 1000000)

/* The seed's code: nothing but the zone is there once its first batch has run. */
static void __attribute__((noreturn)) seed_main(void)
{
	for (;;)
		syscall(SYS_pause);
}

struct seed {
	uint64_t flags;
	struct set_tid want;
	long pid;			/* as we see it, or -errno */
};

static void seed_clone(struct seed *s)
{
	struct clone_args args = {
		.flags = s->flags,
		/* With CLONE_PARENT the signal is the maker's own. */
		.exit_signal = s->flags & CLONE_PARENT ? 0 : SIGCHLD,
		.set_tid = (uint64_t)s->want.v,
		.set_tid_size = s->want.n,
	};
	long r = syscall(SYS_clone3, &args, sizeof(args));

	if (!r)
		seed_main();
	s->pid = r < 0 ? neg_errno() : r;
}

/*
 * In a session that has no leader any more and that its PID namespace does not show. In the engine's
 * it would get the signals that the operator's terminal sends.
 */
static int seed_clone_apart(void *arg)
{
	struct seed *s = arg;

	if (setsid() < 0)
		return neg_errno();
	s->flags |= CLONE_PARENT;
	seed_clone(s);
	return 0;
}

static int seed_clone_by_us(struct seed *s, bool apart, bool sibling)
{
	if (apart)
		return child_call(sibling ? CLONE_PARENT : 0, seed_clone_apart, s);
	seed_clone(s);
	return 0;
}

static int seed_create(struct restore_ctx *ctx, struct restore_process *p)
{
	bool own_pids = ns_restore_has_pidns(ctx);
	struct task *t = &p->threads[0].task;
	struct seed s = { .want = restore_set_tid(p, 0) };
	int r;

	do {
		s.flags = (ctx->opts->sibling ? CLONE_PARENT : 0) | (own_pids ? CLONE_NEWPID : 0);
		r = seed_clone_by_us(&s, own_pids && !ctx->opts->shell_job, ctx->opts->sibling);
		r = r < 0 ? r : (int)MIN(s.pid, 0);
	} while (r < 0 && restore_set_tid_less(ctx, &s.want, r));
	if (r < 0)
		return restore_clone_failed(&s.want, r);
	p->task_made = true;
	p->pid = (pid_t)s.pid;
	*t = (struct task){ .tid = p->pid, .remote = p->remote };
	r = task_seize(t, SEED_OPTIONS, SEED_TIMEOUT_USEC);
	if (r >= 0)
		r = task_get_regs(t);
	return r < 0 ? log_err((int)r, "cannot control the seed of process %u", p->pst->pid) : 0;
}

/*
 * The engine's own traces in its clone: rseq area, robust list, tid address, descriptors, and
 * what it does with signals: a SIGCHLD that is ignored would make zombies vanish.
 */
static int seed_strip(struct restore_ctx *ctx, struct restore_process *p)
{
	static const struct kernel_sigaction dfl = { 0 };
	struct task *t = &p->threads[0].task;
	struct __ptrace_rseq_configuration rseq = { 0 };
	struct batch *b = &ctx->batch;
	uint64_t t_dfl;

	batch_begin(b, t);
	t_dfl = batch_put(b, &dfl, sizeof(dfl));
	for (int sig = 1; sig <= SIGNAL_LAST; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			batch_call(b, SYS_rt_sigaction, sig, t_dfl, 0, 8);
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, t->tid, sizeof(rseq), &rseq) >= 0 &&
	    rseq.rseq_abi_pointer)
		batch_call(b, SYS_rseq, rseq.rseq_abi_pointer, rseq.rseq_abi_size, 1, rseq.signature);
	batch_call(b, SYS_set_robust_list, 0, 24);
	batch_call(b, SYS_set_tid_address, 0);
	batch_call(b, SYS_close_range, 0, ctx->pidfd_t_fd - 1, 0);
	batch_call(b, SYS_close_range, ctx->pidfd_t_fd + 1, ~0u, 0);
	return batch_run(b);
}

int restore_seed(struct restore_ctx *ctx, struct restore_process *p)
{
	int r = seed_create(ctx, p);

	return r < 0 ? r : seed_strip(ctx, p);
}
