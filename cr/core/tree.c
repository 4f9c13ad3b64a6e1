/*
 * Finding and stopping a tree.
 *
 * With a cgroup the freezer makes it atomic: freeze, seize and interrupt every task while it
 * is frozen, then thaw: all stay in their ptrace stops, where (unlike in the freezer) batches
 * can run. Without one, a process whose threads are all stopped cannot make new threads or
 * children, so seizing goes parents first and looks again until nothing new turns up.
 *
 * What cgroup v1 has frozen does not stop: there all are seized and interrupted first, and waited for
 * when the group thaws. None of them gets back to its program.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/freezer.h"
#include "core/pids.h"
#include "core/tree.h"
#include "core/tree_threads.h"
#include "kernel/stat.h"
#include "ns/cgroup.h"
#include "task/regs.h"
#include "util/timer.h"

#define NUDGES_MAX		100u
#define ADD_TRIES		200u

int dump_pidfd(struct dump_process *p)
{
	if (p->pidfd < 0)
		p->pidfd = (int)syscall(SYS_pidfd_open, p->threads[0].task.tid,
					p->main_ended ? PIDFD_THREAD : 0);
	return p->pidfd;
}

static int process_open(struct dump_ctx *ctx, struct dump_process *parent, pid_t pid,
			struct dump_process **ret)
{
	struct dump_process *p = ARENA_NEW(&ctx->arena, struct dump_process), **slot;
	struct proc_stat st;
	char path[32];
	pid_t tid;
	int r;

	slot = p ? ARENA_PUSH(&ctx->arena, ctx->procs, ctx->n_procs) : NULL;
	if (!slot)
		return -ENOMEM;
	*slot = p;
	*p = (struct dump_process){ .ctx = ctx, .parent = parent,
				    .number = ++ctx->last_number, .pid = pid, .proc_fd = -EBADF,
				    .pidfd = -EBADF, .remote.mem_fd = -EBADF };
	snprintf(path, sizeof(path), "/proc/%d", pid);
	p->proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->proc_fd < 0)
		return neg_errno() == -ENOENT ? -ESRCH : neg_errno();
	r = proc_stat_read(p->proc_fd, &st);
	if (r < 0)
		return r;
	memcpy(p->comm, st.comm, sizeof(p->comm));
	p->pid_virtual = (uint32_t)pid;
	p->host_pgid = st.pgrp;
	p->pgid = (uint32_t)st.pgrp;
	p->sid = (uint32_t)st.session;
	p->tty = st.tty;
	p->tty_pgrp = st.tty_pgrp;
	p->life = st.state == 'Z' || st.state == 'X' ? TASK_DEAD : TASK_ALIVE;
	/* At once: to seize one that is stopped by a signal as well waits in the kernel, without end. */
	if (st.state == 'D' && !ctx->stop_on_thaw && cgroup_is_frozen(p))
		return task_frozen_obstacle(pid);
	p->exit_code = st.exit_code;
	p->exit_signal = parent ? st.exit_signal : SIGCHLD;
	p->start_ticks = st.start_ticks;
	*ret = p;
	r = parent || ctx->pid_level ? 0 : pids_find_level(ctx, pid, p->proc_fd);
	if (r >= 0 && ctx->pid_level)
		r = pids_of_process(p);
	if (r < 0)
		return r;
	/* A main thread that ended by itself is a zombie until the others end. */
	tid = p->life == TASK_DEAD ? thread_alive(pid) : 0;
	/* As they are listed each may end that has begun another: to be asked again. */
	if (!tid && p->life == TASK_DEAD && proc_stat_read(p->proc_fd, &st) >= 0 && st.n_threads > 1)
		return -ESRCH;
	if (!tid)
		return 0;
	p->main_ended = true;
	p->life = TASK_ALIVE;
	return process_open_thread(p, tid);
}

static int children_of(struct dump_ctx *ctx, struct dump_process *p, pid_t tid, bool again);

/* -ESRCH, unlogged: it has ended, and we know nothing of it. */
static int process_add(struct dump_ctx *ctx, struct dump_process *parent, pid_t pid,
		       struct dump_process **ret)
{
	int r = process_open(ctx, parent, pid, ret);

	if (r >= 0)
		r = threads_seize(ctx, *ret);
	/* A directory of /proc whose process is gone. */
	if (r == -ENOENT)
		r = -ESRCH;
	if (r >= 0)
		return map_put(&ctx->procs_by_pid, (uint64_t)pid, *ret);
	if (r == -ESRCH) {
		struct dump_process *p = ctx->procs[--ctx->n_procs];

		/* Nobody will look for what has been stopped of it. */
		for (size_t i = 0; i < p->n_threads; i++)
			(void)!task_detach(&p->threads[i].task);
		close_fdp(&p->proc_fd);
		close_fdp(&p->pidfd);
		return r;
	}
	if (r == -EACCES || r == -EPERM)
		return task_forbidden_obstacle(pid, r);
	if (r == -EAGAIN)	/* said already */
		return r;
	return log_err(r, "cannot look at process %d", pid);
}

/*
 * Without a freezer a process may end between being listed and being stopped. Its parent stands
 * still, so it is a zombie then; or nobody, if the parent does not want to know (SIGCHLD ignored).
 */
static int tree_add(struct dump_ctx *ctx, struct dump_process *parent, pid_t pid)
{
	struct dump_process *p;
	int r = process_add(ctx, parent, pid, &p);

	/* Or the thread that was asked for one whose main thread has ended: others of it live. */
	for (unsigned int tries = 1; r == -ESRCH && tries < ADD_TRIES && kill(pid, 0) == 0; tries++)
		r = process_add(ctx, parent, pid, &p);
	if (r == -ESRCH) {
		ctx->children_lost = true;
		return parent ? 0 : log_err(r, "there is no process %d", pid);
	}
	for (size_t i = 0; r >= 0 && i < p->n_threads; i++)
		r = children_of(ctx, p, p->threads[i].task.tid, false);
	return r < 0 ? r : 0;
}

/* again: some may be known already. */
static int children_of(struct dump_ctx *ctx, struct dump_process *p, pid_t tid, bool again)
{
	_cleanup_free_ char *text = NULL;
	char path[64], *save = NULL;
	int r;

	/* It stops when they have executed a program: they are looked for after the thaw. */
	if (ctx->stop_on_thaw && task_waits_for_vfork(p, tid))
		return 0;
	snprintf(path, sizeof(path), "task/%d/children", tid);
	r = read_file_at(p->proc_fd, path, READ_FILE_MAX, &text, NULL);
	if (r == -ENOENT || r == -ESRCH)
		return log_fail(-EAGAIN, "thread %d of process %d (%s) has ended while the tree was being stopped: it was killed, or another one executed a program; try again",
				tid, p->pid, p->comm);
	if (r < 0)
		return log_err(r, "cannot read /proc/%d/%s", p->pid, path);
	for (char *s = strtok_r(text, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
		p->had_children = true;
		if (again && dump_process_find(ctx, atoi(s)))
			continue;
		r = tree_add(ctx, p, atoi(s));
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * A child may have made a sibling (CLONE_PARENT) before it was stopped, or one that fell to its grandparents as it ended
 * (PR_SET_CHILD_SUBREAPER, the first process of a PID namespace): after those were looked at.
 */
static int children_settle(struct dump_ctx *ctx)
{
	const uint64_t until = clock_usec(CLOCK_MONOTONIC) + tree_timeout_usec(ctx);
	int r = 0;

	for (unsigned int looks = 1; r >= 0; looks++) {
		const size_t before = ctx->n_procs;

		ctx->children_lost = false;
		for (size_t i = 0; i < before; i++) {
			struct dump_process *p = ctx->procs[i];

			for (size_t k = 0; r >= 0 && p->had_children && k < p->n_threads; k++)
				r = children_of(ctx, p, p->threads[k].task.tid, true);
		}
		if (r < 0 || (ctx->n_procs == before && !ctx->children_lost))
			break;
		r = tree_too_fast(ctx->opts->pid, looks, until);
	}
	return r;
}

struct dump_process *dump_process_find(struct dump_ctx *ctx, pid_t pid)
{
	return map_get(&ctx->procs_by_pid, (uint64_t)pid);
}

/* What a process that ran once more has begun since. */
static int look_again(struct dump_ctx *ctx, struct dump_process *p)
{
	int r = threads_seize_new(ctx, p);

	for (size_t i = 0; r >= 0 && i < p->n_threads; i++)
		r = children_of(ctx, p, p->threads[i].task.tid, true);
	return r < 0 ? r : 0;
}

static bool waits_in_calls(const struct dump_process *p)
{
	for (size_t i = 0; i < p->n_threads; i++)
		if (!arch_regs_interrupted_call(&p->threads[i].task.regs))
			return false;
	return true;
}

static bool has_children(const struct dump_process *p)
{
	for (size_t i = 0; i < p->ctx->n_procs; i++)
		if (p->ctx->procs[i]->parent == p)
			return true;
	return false;
}

/*
 * Threads inside the vDSO would wake up in another kernel's code. They are let run until they
 * are out of it, now, while nothing is saved yet: unlike single steps that leaves no trap
 * behind if we are killed. What does not come out like this is stepped later (thread_settle()).
 */
static int leave_vdso(struct dump_process *p, bool *ret_ran)
{
	uint64_t start, end;
	int r;

	*ret_ran = false;
	if (p->life != TASK_ALIVE || waits_in_calls(p))
		return 0;
	r = vdso_find(p->proc_fd, &start, &end);
	if (r < 0)
		return r == -ENOENT ? 0 : log_err(r, "cannot read /proc/%d/maps", p->pid);
	for (size_t i = 0; i < p->n_threads; i++) {
		struct task *t = &p->threads[i].task;

		for (unsigned int n = 0; n < NUDGES_MAX; n++) {
			uint64_t ip = arch_regs_ip(&t->regs);

			if (ip < start || ip >= end)
				break;
			*ret_ran = true;
			r = task_nudge(t);
			/* On its way to its end; other threads and children would not be as they were. */
			if (r == -ESRCH && !t->seized && p->n_threads == 1 && !has_children(p)) {
				log_debug("process %d ended as it left the vDSO", p->pid);
				p->n_threads = 0;
				return process_lost(p);
			}
			if (r == -ESRCH && !t->seized && p->n_threads > 1) {
				log_debug("thread %d ended as it left the vDSO", t->tid);
				r = thread_lost(p, i--);
				if (r < 0)
					return r;
				break;
			}
			if (r < 0)
				return log_err(r, "task %d does not leave the vDSO", t->tid);
			if (t->group_stop_signal)
				p->life = TASK_STOPPED;
		}
	}
	return 0;
}

static int leave_vdso_all(struct dump_ctx *ctx)
{
	bool ran;
	int r = 0;

	/* Those found anew come behind the others. */
	for (size_t i = 0; i < ctx->n_procs && r >= 0; i++) {
		struct dump_process *p = ctx->procs[i];

		r = leave_vdso(p, &ran);
		if (r < 0 || !ran || p->life == TASK_DEAD)
			continue;
		r = look_again(ctx, p);
		if (r >= 0)
			r = children_settle(ctx);
	}
	return r;
}

static int freeze_begin(struct dump_ctx *ctx)
{
	const char *cg = ctx->opts->freeze_cgroup;
	int r;

	if (!cg)
		return 0;
	r = freezer_get(cg);
	if (r == -EBUSY)
		return log_obstacle("thaw that one before", "%s: a control group above it is frozen", cg);
	if (r < 0)
		return log_err(r, "%s: no control group with a freezer", cg);
	ctx->was_frozen = r;
	ctx->freezer_used = true;
	r = freezer_set(cg, 1);
	if (r >= 0)
		r = freezer_wait(cg, 1, tree_timeout_usec(ctx));
	ctx->frozen = r >= 0;
	ctx->stop_on_thaw = ctx->frozen && freezer_is_v1(cg);
	return r < 0 ? log_err(r, "cannot freeze %s", cg) : 0;
}

/*
 * After a thaw: all that task_seize_begin() was called for, and what it was not for. After a failure only the
 * former, so that they can be let go.
 */
static int wait_for_stops(struct dump_ctx *ctx, bool failed)
{
	int r, ret = 0;

	for (size_t i = 0; i < ctx->n_procs; i++) {
		r = threads_wait(ctx, ctx->procs[i], failed);
		ret = ret < 0 ? ret : r;
	}
	return ret;
}

static bool has_dead(const struct dump_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_procs; i++)
		if (ctx->procs[i]->life == TASK_DEAD)
			return true;
	return false;
}

/*
 * The dead that were waited for on the way to the stops: who waits for a child takes it before it looks at what
 * stops it. Those that nobody wants to know of (SIGCHLD ignored) are dead for a moment, too.
 */
static int drop_reaped(struct dump_ctx *ctx)
{
	size_t n = 0;
	int r, ret = 0;

	if (!has_dead(ctx))
		return 0;
	map_done(&ctx->procs_by_pid);
	for (size_t i = 0; i < ctx->n_procs; i++) {
		struct dump_process *p = ctx->procs[i];
		struct proc_stat st;

		if (p->parent && p->life == TASK_DEAD && proc_stat_read(p->proc_fd, &st) < 0 && !has_children(p)) {
			log_debug("process %d has been waited for", p->pid);
			close_fdp(&p->proc_fd);
			close_fdp(&p->pidfd);
			continue;
		}
		ctx->procs[n++] = p;
		r = map_put(&ctx->procs_by_pid, (uint64_t)p->pid, p);
		ret = ret < 0 ? ret : r;
	}
	ctx->n_procs = n;
	return ret;
}

/* What was made while they were on their way to stop. */
static int look_again_all(struct dump_ctx *ctx)
{
	int r = 0;

	for (size_t i = 0; i < ctx->n_procs && r >= 0; i++)
		if (ctx->procs[i]->life != TASK_DEAD)
			r = look_again(ctx, ctx->procs[i]);
	return r;
}

static int add_roots(struct dump_ctx *ctx)
{
	int r = tree_add(ctx, NULL, ctx->opts->pid);

	for (size_t i = 0; r >= 0 && i < ctx->opts->n_more_pids; i++)
		if (!dump_process_find(ctx, ctx->opts->more_pids[i]))
			r = tree_add(ctx, NULL, ctx->opts->more_pids[i]);
	return r;
}

static bool is_root(const struct dump_ctx *ctx, pid_t pid)
{
	bool ret = pid == ctx->opts->pid;

	for (size_t i = 0; i < ctx->opts->n_more_pids; i++)
		ret |= pid == ctx->opts->more_pids[i];
	return ret;
}

/* Whoever stops the tree must not be in it; and it must be able to run, or we would wait for it for ever. */
static int check_outside(const struct dump_ctx *ctx)
{
	struct proc_stat st;

	if (!ctx->opts->freeze_cgroup && cgroup_is_held(ctx->opts->pid))
		return log_obstacle("thaw it, or give its directory by --freeze-cgroup",
				    "the control group of process %d is frozen", ctx->opts->pid);

	for (pid_t pid = getpid(); pid > 0; pid = st.ppid) {
		if (is_root(ctx, pid))
			return log_obstacle("run it from elsewhere: another session, or systemd-run",
					    "cr itself is in the tree of process %d", pid);
		if (proc_stat_of(pid, &st) < 0)
			break;
	}
	return 0;
}

static int check_root(pid_t pid)
{
	struct proc_stat st;
	int r = proc_stat_of(pid, &st);

	return r == -ENOENT || r == -ESRCH ? log_err(-ESRCH, "there is no process %d", pid) : r;
}

int tree_look(const struct dump_ctx *ctx)
{
	int r = check_outside(ctx);

	if (r >= 0)
		r = check_root(ctx->opts->pid);
	for (size_t i = 0; r >= 0 && i < ctx->opts->n_more_pids; i++)
		r = check_root(ctx->opts->more_pids[i]);
	return r < 0 ? r : 0;
}

int tree_seize(struct dump_ctx *ctx)
{
	const char *cg = ctx->opts->freeze_cgroup;
	int r = check_outside(ctx), thawed, stopped;

	if (r >= 0)
		r = freeze_begin(ctx);
	if (r < 0)
		return r;
	r = add_roots(ctx);
	if (r < 0 && !ctx->stop_on_thaw)
		return r;
	thawed = cg ? freezer_set(cg, 0) : 0;
	if (thawed < 0)
		return log_err(thawed, "cannot thaw %s", cg);
	ctx->frozen = false;
	if (ctx->stop_on_thaw) {
		ctx->stop_on_thaw = false;
		stopped = wait_for_stops(ctx, r < 0);
		if (r >= 0)
			r = stopped < 0 ? stopped : drop_reaped(ctx);
		if (r >= 0)
			r = look_again_all(ctx);
	}
	if (r >= 0)
		r = children_settle(ctx);
	if (r >= 0)
		r = drop_reaped(ctx);
	return r < 0 ? r : leave_vdso_all(ctx);
}
