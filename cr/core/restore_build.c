/*
 * Restore, second part: the tasks.
 *
 * The engine clones a seed with the root's pid; nearly everything else is cloned by the task that
 * is its parent, after that parent's memory is in place. A new task stands in a ptrace stop
 * before its first instruction and runs nothing but our batches until the end.
 *
 * A session id can only be inherited or made (setsid). Who makes whom, and when, so that all have
 * theirs and their parents, is planned beforehand: lineage.h.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/restore_steps.h"
#include "kernel/stat.h"
#include "kind/tty.h"
#include "ns/cgroup.h"
#include "task/mem.h"
#include "task/parts.h"
#include "task/regs.h"

#define SEED_OPTIONS	(PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK)
#define SIGNAL_LAST	64
#define SEED_TIMEOUT_USEC (10ull * 1000000)

static struct remote *remote_for(struct restore_ctx *ctx)
{
	struct remote *r = ARENA_NEW(&ctx->arena, struct remote);

	if (r)
		*r = (struct remote){ .mem_fd = -EBADF, .zone = ctx->zone,
				      .mirror = ctx->zone_mirror, .shared = true };
	return r;
}

/*
 * The engine's pidfd, at a number above all of the images' and free here: seeds inherit it
 * and nothing else.
 */
static int place_pidfd(struct restore_ctx *ctx)
{
	int fd;

	ctx->pidfd_self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (ctx->pidfd_self < 0)
		return log_err(neg_errno(), "pidfd_open");
	fd = fcntl(ctx->pidfd_self, F_DUPFD_CLOEXEC, MAX(ctx->pidfd_t_fd, 64));
	if (fd < 0)
		return log_err(neg_errno(), "cannot place the engine's pidfd at %d or above",
			       ctx->pidfd_t_fd);
	close(ctx->pidfd_self);
	ctx->pidfd_self = ctx->pidfd_t_fd = fd;
	return 0;
}

int restore_zone(struct restore_ctx *ctx)
{
	struct remote zone;
	int r;

	r = vdso_read_own(&ctx->arena, &ctx->own_vdso);
	if (r < 0)
		return log_err(r, "cannot read the engine's own vDSO");
	/* The kernel's vDSO may have to stay behind the zone. */
	r = mem_find_free(ctx, vdso_own_vvar_bytes(ctx->own_vdso) +
				vdso_bytes(ctx->own_vdso) + PAGE_BYTES, &ctx->zone);
	if (r >= 0)
		r = remote_map_shared(&zone, ctx->zone);
	if (r < 0)
		return log_err(r, "cannot map the call zone at 0x%lx", ctx->zone);
	ctx->zone_mirror = zone.mirror;
	return place_pidfd(ctx);
}

static int clone_failed(uint32_t pid, int r)
{
	if (r == -EEXIST)
		return log_fail(r, "pid %u is in use", pid);
	if (r == -EPERM)
		return log_err(r, "cannot choose pid %u (CAP_CHECKPOINT_RESTORE is needed)", pid);
	return log_err(r, "cannot create process %u", pid);
}

/* The seed's code: nothing but the zone is there once its first batch has run. */
static void __attribute__((noreturn)) seed_main(void)
{
	for (;;)
		syscall(SYS_pause);
}

static int seed_create(struct restore_ctx *ctx, struct restore_process *p)
{
	struct task *t = &p->threads[0].task;
	pid_t pid = (pid_t)p->pst->pid;
	struct clone_args args = {
		.flags = ctx->opts->sibling ? CLONE_PARENT : 0,
		/* With CLONE_PARENT the signal is the engine's own. */
		.exit_signal = ctx->opts->sibling ? 0 : SIGCHLD,
		.set_tid = (uint64_t)&pid,
		.set_tid_size = 1,
	};
	long r = syscall(SYS_clone3, &args, sizeof(args));

	if (!r)
		seed_main();
	if (r < 0)
		return clone_failed(p->pst->pid, neg_errno());
	p->task_made = true;
	*t = (struct task){ .tid = pid, .remote = p->remote };
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

/*
 * A clone made by a task. pid 0: any will do. -> stopped, registers read. Its remote is set
 * already if it may become a maker itself.
 */
static int clone_by(struct restore_ctx *ctx, struct task *maker, uint64_t flags, pid_t pid,
		    struct remote *remote, struct task *ret)
{
	struct clone_args args = {
		.flags = flags,
		/* With CLONE_PARENT the signal is the maker's own. */
		.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
	};
	struct batch *b = &ctx->batch;
	int call, r;

	batch_begin(b, maker);
	if (pid) {
		args.set_tid = batch_put(b, &pid, sizeof(pid));
		args.set_tid_size = 1;
	}
	call = batch_try(b, SYS_clone3, batch_put(b, &args, sizeof(args)), sizeof(args));
	r = batch_run(b);
	if (r < 0)
		return r;
	if (batch_ret(b, call) < 0)
		return clone_failed((uint32_t)pid, (int)batch_ret(b, call));
	if (maker->remote->n_born != 1 || (pid && maker->remote->born[0] != pid))
		return log_fail(-EIO, "process %u: clone3 did not yield it", pid);
	task_adopt(ret, maker->remote->born[0], remote);
	return task_get_regs(ret);
}

/* Whoever is above the maker gets orphans only if it is a reaper; tasks get their own value later. */
static int reaper_set(struct restore_ctx *ctx, struct kin *heir, bool on)
{
	struct restore_process *p;

	if (!heir)
		return ctx->opts->sibling ? 0 : prctl(PR_SET_CHILD_SUBREAPER, on) < 0 ? neg_errno() : 0;
	p = heir->process;
	batch_begin(&ctx->batch, &p->threads[0].task);
	batch_call(&ctx->batch, SYS_prctl, PR_SET_CHILD_SUBREAPER, on);
	return batch_run(&ctx->batch);
}

static int check_parent(struct restore_ctx *ctx, const struct kin *k)
{
	pid_t want = k->parent ? (pid_t)k->parent->pid : ctx->opts->sibling ? getppid() : getpid();
	struct proc_stat st;
	int r = proc_stat_of((pid_t)k->pid, &st);

	if (r < 0)
		return log_err(r, "cannot read /proc/%u/stat", k->pid);
	if (st.ppid != want)
		return log_fail(-EINVAL, "it fell to process %d and not to %d, which is no reaper",
				st.ppid, want);
	return 0;
}

static void kill_and_reap(pid_t tid)
{
	int status;

	kill(tid, SIGKILL);
	while (waitpid(tid, &status, __WALL) < 0 && errno == EINTR)
		;
}

/*
 * The task between: made by the maker, makes the orphan, ends. It takes whatever pid comes; one
 * that is the orphan's own is in the way, then the next one is not.
 */
static int orphan_create(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process, *maker = k->maker->process;
	const uint64_t none[6] = { 0 };
	struct task between;
	bool again;
	int r;

	r = reaper_set(ctx, k->parent, true);
	do {
		struct remote *remote = remote_for(ctx);

		if (r >= 0)
			r = remote ? clone_by(ctx, &maker->threads[0].task, 0, 0, remote, &between) : -ENOMEM;
		if (r < 0)
			return r;
		again = between.tid == (pid_t)k->pid;
		if (!again)
			r = clone_by(ctx, &between, 0, (pid_t)k->pid, p->remote, &p->threads[0].task);
		p->task_made = !again && r >= 0;
		if (r >= 0)
			r = task_end(&between, SYS_exit_group, none);
		if (r < 0) {	/* it is in no list that restore_kill() goes by */
			kill_and_reap(between.tid);
			return r;
		}
		batch_begin(&ctx->batch, &maker->threads[0].task);
		batch_call(&ctx->batch, SYS_wait4, between.tid, 0, __WALL, 0);
		r = batch_run(&ctx->batch);
	} while (r >= 0 && again);
	if (r >= 0)
		r = check_parent(ctx, k);
	return r < 0 ? r : reaper_set(ctx, k->parent, false);
}

static int child_create(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process, *maker = k->maker->process;
	/* A helper makes its maker's children: they may share what it shares. */
	bool shares = p->shares_fds || k->helper;
	uint64_t flags = k->maker == k->parent ? 0 : CLONE_PARENT;
	int r;

	if (shares)
		flags |= CLONE_FILES;
	r = clone_by(ctx, &maker->threads[0].task, flags, (pid_t)k->pid, p->remote, &p->threads[0].task);
	p->task_made = r >= 0;
	return r;
}

static int move_to_cgroup(struct restore_ctx *ctx, struct restore_process *p)
{
	uint32_t from = 0, to;

	if (!ctx->cgroup_state || !p->alive)
		return 0;
	to = p->threads[0].core->thread_core->cg_set;
	if (p->mem_from)
		from = p->mem_from->threads[0].core->thread_core->cg_set;
	return cgroup_restore_process(ctx, ctx->cgroup_state, (pid_t)p->pst->pid, to, from);
}

static int process_create(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process, *maker = k->maker ? k->maker->process : NULL;
	int r;

	p->remote = remote_for(ctx);
	if (p->remote && !p->threads) {	/* a helper or zombie to be has no thread state */
		p->threads = ARENA_NEW(&ctx->arena, struct restore_thread);
		p->n_threads = 1;
	}
	if (!p->remote || !p->threads)
		return -ENOMEM;
	if (!maker) {
		r = seed_create(ctx, p);
		return r < 0 ? r : seed_strip(ctx, p);
	}
	p->mem_from = maker->alive ? maker : maker->mem_from;
	if (!kin_may_share_files(k) && p->shares_fds)
		return log_fail(-EOPNOTSUPP, "it shares its descriptors with its parent and cannot be made by it");
	if (k->maker == k->parent || k->maker->parent == k->parent)
		return child_create(ctx, k);
	return orphan_create(ctx, k);
}

/* Whose memory k's begins with, as process_create() will find it. */
static struct restore_process *mem_source(const struct kin *k)
{
	const struct kin *m = k->maker;

	while (m && !((struct restore_process *)m->process)->alive)
		m = m->maker;
	return m ? m->process : NULL;
}

/* The page images of a process stay open for those whose memory begins with its own. */
static void pages_count_users(const struct lineage *l)
{
	for (size_t i = 0; i < l->n_steps; i++) {
		const struct kin *k = l->steps[i].kin;
		struct restore_process *p = k->process, *from = mem_source(k);

		if (l->steps[i].op == LINEAGE_MAKE && p->alive && from)
			from->n_mem_users++;
	}
}

static void pages_release(struct restore_ctx *ctx, struct restore_process *p)
{
	if (!p->n_mem_users)
		mem_restore_used(ctx, p);
	if (!p->mem_from || --p->mem_from->n_mem_users)
		return;
	mem_restore_used(ctx, p->mem_from);
}

static int process_make(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process;
	int r;

	r = process_create(ctx, k);
	if (r < 0 || !p->alive)
		return r;
	r = move_to_cgroup(ctx, p);
	if (r >= 0)
		r = remote_open(p->remote, (pid_t)k->pid);
	if (r >= 0)
		r = mem_restore(ctx, p);
	if (r >= 0)
		pages_release(ctx, p);
	return r;
}

static int session_make(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process;
	int r;

	batch_begin(&ctx->batch, &p->threads[0].task);
	batch_call(&ctx->batch, SYS_setsid);
	r = batch_run(&ctx->batch);
	/* A session that has lost its leader has no terminal. */
	return r < 0 || k->helper || k->dead ? r : tty_restore_session(ctx, p);
}

int restore_tasks(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	int r;

	pages_count_users(l);
	r = rlimits_prepare(ctx);
	for (size_t i = 0; r >= 0 && i < l->n_steps; i++) {
		struct kin *k = l->steps[i].kin;

		LOG_SCOPE("process %u", k->pid);
		if (l->steps[i].op == LINEAGE_MAKE)
			r = process_make(ctx, k);
		else
			r = session_make(ctx, k);
	}
	return r;
}

void restore_kill(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	int status;

	for (size_t i = l->n; i-- > 0;) {
		struct restore_process *p = l->kin[i]->process;

		if (p && p->task_made)
			kill((pid_t)p->pst->pid, SIGKILL);
	}
	for (size_t i = l->n; i-- > 0;) {
		struct restore_process *p = l->kin[i]->process;

		for (size_t k = p && p->task_made ? p->n_threads : 0; k-- > 0;)
			while (waitpid(p->threads[k].task.tid, &status, __WALL) < 0 && errno == EINTR)
				;
	}
}
