/*
 * Restore: seeds, the tasks that the engine itself clones: the roots, and stand-ins beside them. Each
 * begins as a copy of the engine that has lost everything but the call zone and one descriptor.
 */
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/restore_pids.h"
#include "core/restore_steps.h"
#include "ns/ns.h"
#include "task/parts.h"
#include "task/regs.h"

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
	struct restore_ctx *ctx;
	uint32_t ns;			/* the PID namespace it enters, if it is not the first of one */
	uint64_t flags;
	struct set_tid want;
	long pid;			/* as we see it, or -errno */
};

static long clone3(uint64_t flags, const struct set_tid *want)
{
	struct clone_args args = {
		.flags = flags,
		/* With CLONE_PARENT the signal is the maker's own. */
		.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
		.set_tid = want->n ? (uint64_t)want->v : 0,
		.set_tid_size = want->n,
	};
	long r = syscall(SYS_clone3, &args, sizeof(args));

	return r < 0 ? neg_errno() : r;
}

static void seed_clone(struct seed *s)
{
	struct ns_visit v = NS_VISIT_INIT;
	long pid = s->flags & CLONE_NEWPID ? 0 : ns_restore_visit_pids(s->ctx, s->ns, &v);
	int r;

	if (!pid)
		pid = clone3(s->flags, &s->want);
	if (!pid)
		seed_main();
	r = ns_visit_end(&v);
	s->pid = r < 0 ? r : pid;	/* which the seed may share */
}

/* In memory that we see, too. */
static void __attribute__((noreturn)) session_main(struct seed *s)
{
	if (setsid() < 0)
		s->pid = neg_errno();
	else
		seed_clone(s);
	_exit(0);
}

/*
 * In a session that has no leader any more and that its PID namespace does not show. In the engine's
 * it would get the signals that the operator's terminal sends. Its number outside is the one that the
 * session had, if that is free: want.
 */
static int seed_clone_apart(struct seed *seed, struct set_tid want)
{
	uint64_t parent = seed->flags & CLONE_PARENT;
	struct seed *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long pid;

	if (s == MAP_FAILED)
		return neg_errno();
	*s = *seed;
	s->flags |= CLONE_PARENT;
	/* CLONE_VFORK: we stand still until it has ended, also if it is our parent's to reap. */
	pid = clone3(CLONE_VFORK | parent, &want);
	if (pid < 0 && want.n)
		pid = clone3(CLONE_VFORK | parent, &(struct set_tid){ 0 });
	if (!pid)
		session_main(s);
	seed->pid = pid < 0 ? pid : s->pid;
	munmap(s, sizeof(*s));
	/* It has ended. Nothing fails any more: nobody would end the seed. */
	while (pid > 0 && !parent && waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

static int seed_clone_by_us(struct seed *s, const struct restore_process *p, bool apart)
{
	if (apart)
		return seed_clone_apart(s, restore_set_tid_session(p));
	seed_clone(s);
	return 0;
}

static int seed_create(struct restore_ctx *ctx, struct restore_process *p)
{
	bool own_pids = ns_restore_has_pidns(ctx);
	/* It makes the namespace; others enter theirs, as they once did. */
	uint64_t first = own_pids && p == &ctx->procs[0] ? CLONE_NEWPID : 0;
	struct task *t = &p->threads[0].task;
	struct seed s = { .ctx = ctx, .want = restore_set_tid(p, 0), .ns = p->pst->pid_ns_id };
	unsigned int tries = 0;
	int r;

	do {
		s.flags = (ctx->opts->sibling ? CLONE_PARENT : 0) | first;
		r = seed_clone_by_us(&s, p, own_pids && !ctx->opts->shell_job);
		r = r < 0 || s.pid > 0 ? r : s.pid ? (int)s.pid : -EIO;
	} while (r < 0 && restore_set_tid_again(ctx, &s.want, r, &tries));
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
 * Into the tree's time, and without the engine's own traces in its clone: rseq area, robust list, tid
 * address, descriptors, and what it does with signals: a SIGCHLD that is ignored would make zombies vanish.
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
	ns_restore_enter_time_call(ctx, b);
	batch_call(b, SYS_close_range, 0, ctx->pidfd_t_fd - 1, 0);
	batch_call(b, SYS_close_range, ctx->pidfd_t_fd + 1, ~0u, 0);
	return batch_run(b);
}

int restore_seed(struct restore_ctx *ctx, struct restore_process *p)
{
	int r = seed_create(ctx, p);

	return r < 0 ? r : seed_strip(ctx, p);
}
