/*
 * Restore, second part: the tasks.
 *
 * The engine clones a seed with the root's pid; everything else is cloned by the task that is
 * its parent, after that parent's memory is in place. A new task stands in a ptrace stop
 * before its first instruction and runs nothing but our batches until the end.
 *
 * A session id can only be inherited or made (setsid): children of the session a task was born
 * into are cloned before it calls setsid(), the others after.
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
#include "ns/cgroup.h"
#include "task/mem.h"
#include "task/parts.h"
#include "task/regs.h"

#define SEED_OPTIONS	(PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK)
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
	struct vdso_image *own;
	struct remote zone;
	int r;

	r = vdso_read_own(&ctx->arena, &own);
	if (r < 0)
		return log_err(r, "cannot read the engine's own vDSO");
	/* The kernel's vDSO may have to stay behind the zone. */
	r = mem_find_free(ctx, vdso_own_vvar_bytes(own) + vdso_bytes(own) + PAGE_BYTES, &ctx->zone);
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
	t->remote = p->remote = remote_for(ctx);
	if (!p->remote)
		return -ENOMEM;
	r = task_seize(t, SEED_OPTIONS, SEED_TIMEOUT_USEC);
	if (r >= 0)
		r = task_get_regs(t);
	return r < 0 ? log_err((int)r, "cannot control the seed of process %u", p->pst->pid) : 0;
}

/* The engine's own traces in its clone: rseq area, robust list, tid address, descriptors. */
static int seed_strip(struct restore_ctx *ctx, struct restore_process *p)
{
	struct task *t = &p->threads[0].task;
	struct __ptrace_rseq_configuration rseq = { 0 };
	struct batch *b = &ctx->batch;

	batch_begin(b, t);
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, t->tid, sizeof(rseq), &rseq) >= 0 &&
	    rseq.rseq_abi_pointer)
		batch_call(b, SYS_rseq, rseq.rseq_abi_pointer, rseq.rseq_abi_size, 1, rseq.signature);
	batch_call(b, SYS_set_robust_list, 0, 24);
	batch_call(b, SYS_set_tid_address, 0);
	batch_call(b, SYS_close_range, 0, ctx->pidfd_t_fd - 1, 0);
	batch_call(b, SYS_close_range, ctx->pidfd_t_fd + 1, ~0u, 0);
	return batch_run(b);
}

/* A child cloned by its own parent; -> stopped, registers read. */
static int child_create(struct restore_ctx *ctx, struct restore_process *c)
{
	struct restore_process *p = c->parent;
	struct batch *b = &ctx->batch;
	struct clone_args args = { .exit_signal = SIGCHLD, .set_tid_size = 1 };
	int32_t pid = (int32_t)c->pst->pid;
	int call, r;

	if (c->shares_fds)
		args.flags |= CLONE_FILES;
	batch_begin(b, &p->threads[0].task);
	args.set_tid = batch_put(b, &pid, sizeof(pid));
	call = batch_try(b, SYS_clone3, batch_put(b, &args, sizeof(args)), sizeof(args));
	r = batch_run(b);
	if (r < 0)
		return r;
	if (batch_ret(b, call) < 0)
		return clone_failed(c->pst->pid, (int)batch_ret(b, call));
	if (p->remote->n_born != 1 || p->remote->born[0] != pid)
		return log_fail(-EIO, "process %u: clone3 did not yield it", c->pst->pid);
	c->task_made = true;
	c->remote = remote_for(ctx);
	if (!c->remote)
		return -ENOMEM;
	if (!c->threads) {	/* a zombie to be has no thread state */
		c->threads = ARENA_NEW(&ctx->arena, struct restore_thread);
		if (!c->threads)
			return -ENOMEM;
		c->n_threads = 1;
	}
	task_adopt(&c->threads[0].task, pid, c->remote);
	return task_get_regs(&c->threads[0].task);
}

static int move_to_cgroup(struct restore_ctx *ctx, struct restore_process *p)
{
	uint32_t from = 0, to;

	if (!ctx->cgroup_state || !p->alive)
		return 0;
	to = p->threads[0].core->thread_core->cg_set;
	if (p->parent && p->parent->alive)
		from = p->parent->threads[0].core->thread_core->cg_set;
	return cgroup_restore_process(ctx, ctx->cgroup_state, (pid_t)p->pst->pid, to, from);
}

static int build_children(struct restore_ctx *ctx, struct restore_process *p, uint32_t sid,
			  bool of_sid);

/* sid: the session the task was born into. */
static int build_process(struct restore_ctx *ctx, struct restore_process *p, uint32_t sid)
{
	int r;

	LOG_SCOPE("process %u", p->pst->pid);
	r = move_to_cgroup(ctx, p);
	if (r < 0)
		return r;
	r = remote_open(p->remote, (pid_t)p->pst->pid);
	if (r >= 0)
		r = mem_restore(ctx, p);
	if (r < 0)
		return r;
	if (p->pst->sid == p->pst->pid && sid != p->pst->pid) {
		r = build_children(ctx, p, sid, true);
		if (r < 0)
			return r;
		batch_begin(&ctx->batch, &p->threads[0].task);
		batch_call(&ctx->batch, SYS_setsid);
		r = batch_run(&ctx->batch);
		if (r < 0)
			return r;
		return build_children(ctx, p, sid, false);
	}
	if (p->pst->sid != sid)
		return log_fail(-EOPNOTSUPP, "its session %u has lost its leader and cannot be made again here",
				p->pst->sid);
	r = build_children(ctx, p, sid, true);
	return r < 0 ? r : build_children(ctx, p, sid, false);
}

/*
 * The children born into session `sid` (of_sid), or the others: those make a session of
 * their own or belong to p's.
 */
static int build_children(struct restore_ctx *ctx, struct restore_process *p, uint32_t sid,
			  bool of_sid)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		struct restore_process *c = &ctx->procs[i];
		bool early = c->pst->sid == sid && c->pst->sid != c->pst->pid;
		int r;

		if (c->parent != p || early != of_sid)
			continue;
		r = child_create(ctx, c);
		if (r >= 0 && c->alive)
			r = build_process(ctx, c, of_sid ? sid : p->pst->sid);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The session the seed inherits, in the image's terms: with --shell-job the engine's stands in. */
static uint32_t seed_session(struct restore_ctx *ctx, const struct restore_process *root)
{
	if (ctx->opts->shell_job)
		return root->pst->sid;
	return (uint32_t)getsid(0);
}

int restore_tasks(struct restore_ctx *ctx)
{
	struct restore_process *root = &ctx->procs[0];
	uint32_t sid = seed_session(ctx, root);
	int r;

	/* A leader whose group of its own the images show, in a session that is gone: see below. */
	if (root->pst->sid != root->pst->pid && !ctx->opts->shell_job)
		return log_fail(-EOPNOTSUPP, "process %u: the leader of its session %u is outside the tree",
				root->pst->pid, root->pst->sid);
	r = rlimits_prepare(ctx);
	if (r >= 0)
		r = seed_create(ctx, root);
	if (r >= 0)
		r = seed_strip(ctx, root);
	return r < 0 ? r : build_process(ctx, root, sid);
}

/* 0: pgid's leader is a live member of the tree or outside (shell job). */
int restore_groups(struct restore_ctx *ctx)
{
	for (unsigned int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < ctx->n_procs; i++) {
			struct restore_process *p = &ctx->procs[i];
			bool leads = p->pst->pgid == p->pst->pid;
			int r;

			/* A session leader leads its group already; a shell job keeps the shell's. */
			if (!p->task_made || leads != !pass || p->pst->sid == p->pst->pid)
				continue;
			if (!leads && !restore_process_find(ctx, p->pst->pgid)) {
				if (ctx->opts->shell_job)
					continue;
				return log_fail(-EOPNOTSUPP, "process %u: the leader of its group %u is gone",
						p->pst->pid, p->pst->pgid);
			}
			batch_begin(&ctx->batch, &p->threads[0].task);
			batch_call(&ctx->batch, SYS_setpgid, 0, p->pst->pgid);
			r = batch_run(&ctx->batch);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

void restore_kill(struct restore_ctx *ctx)
{
	int status;

	for (size_t i = ctx->n_procs; i-- > 0;) {
		struct restore_process *p = &ctx->procs[i];

		if (!p->task_made)
			continue;
		kill((pid_t)p->pst->pid, SIGKILL);
	}
	for (size_t i = ctx->n_procs; i-- > 0;) {
		struct restore_process *p = &ctx->procs[i];

		for (size_t k = p->task_made ? p->n_threads : 0; k-- > 0;)
			while (waitpid(p->threads[k].task.tid, &status, __WALL) < 0 && errno == EINTR)
				;
	}
}
