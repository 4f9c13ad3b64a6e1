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
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <time.h>

#include "core/freezer.h"
#include "core/pids.h"
#include "core/tree.h"
#include "kernel/stat.h"
#include "ns/cgroup.h"
#include "task/regs.h"
#include "util/timer.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD	O_EXCL
#endif
/* include/linux/sched.h of the kernel */
#define PF_IO_WORKER		0x10u
#define PF_USER_WORKER		0x4000u
#define NUDGES_MAX		100u
/* Others stop within microseconds. */
#define VFORK_PATIENCE_USEC	20000u

/* A thread that lives, of a process whose main thread has ended. 0: there is none. */
static pid_t thread_alive(pid_t pid)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		pid_t tid = atoi(e->d_name);
		struct proc_stat st;

		if (tid > 0 && tid != pid && proc_stat_of(tid, &st) >= 0 && st.state != 'Z' && st.state != 'X')
			return tid;
	}
	return 0;
}

/*
 * What is asked of a process is asked of its main thread; when that is a zombie it has no memory
 * and no files any more, the others have.
 */
static int process_open_thread(struct dump_process *p, pid_t tid)
{
	_cleanup_close_ int probe = -EBADF;
	char path[32];

	close_fdp(&p->proc_fd);
	snprintf(path, sizeof(path), "/proc/%d", tid);
	p->proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->proc_fd < 0)
		return neg_errno();
	probe = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
	if (probe < 0 && errno == EINVAL)
		return log_obstacle("stop the service before the upgrade",
				    "process %d (%s): its main thread has ended, and this kernel (before Linux 6.9) does not give the files of others",
				    p->pid, p->comm);
	return probe < 0 ? neg_errno() : 0;
}

int dump_pidfd(struct dump_process *p)
{
	if (p->pidfd < 0)
		p->pidfd = (int)syscall(SYS_pidfd_open, p->threads[0].task.tid,
					p->main_ended ? PIDFD_THREAD : 0);
	return p->pidfd;
}

static int frozen_obstacle(pid_t tid)
{
	return log_obstacle("thaw it, or give it by --freeze-cgroup",
			    "task %d does not stop: its control group is frozen (freezer of cgroup v1)", tid);
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
				    .number = (uint32_t)ctx->n_procs, .pid = pid, .proc_fd = -EBADF,
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
		return frozen_obstacle(pid);
	p->exit_code = st.exit_code;
	p->start_ticks = st.start_ticks;
	*ret = p;
	r = parent || ctx->pid_level ? 0 : pids_find_level(ctx, pid, p->proc_fd);
	if (r >= 0 && ctx->pid_level)
		r = pids_of_process(p);
	if (r < 0)
		return r;
	/* A main thread that ended by itself is a zombie until the others end. */
	tid = p->life == TASK_DEAD ? thread_alive(pid) : 0;
	if (!tid)
		return 0;
	p->main_ended = true;
	p->life = TASK_ALIVE;
	return process_open_thread(p, tid);
}

static struct dump_thread *thread_find(struct dump_process *p, pid_t tid)
{
	for (size_t i = p->n_threads; i-- > 0;)
		if (p->threads[i].task.tid == tid)
			return &p->threads[i];
	return NULL;
}

/* Of a task that does not stop: is it a call that makes children it is in? */
static bool waits_for_vfork(const struct dump_process *p, pid_t tid)
{
	_cleanup_free_ char *text = NULL;
	unsigned long flags;
	char path[48];
	int nr;

	snprintf(path, sizeof(path), "task/%d/syscall", tid);
	if (read_file_at(p->proc_fd, path, 4096, &text, NULL) < 0 ||
	    sscanf(text, "%d 0x%lx", &nr, &flags) != 2)
		return false;
	return nr == SYS_vfork || nr == SYS_clone3 || (nr == SYS_clone && flags & CLONE_VFORK);
}

/*
 * A parent in vfork() does not stop before its child has executed a program, and the child stands in
 * the freezer: the group may run on until then. What is seized already stays where it is.
 */
static int seize_patiently(struct dump_ctx *ctx, struct dump_process *p, struct task *t)
{
	const char *cg = ctx->opts->freeze_cgroup;
	bool thaw = waits_for_vfork(p, t->tid);
	int r, f = thaw ? freezer_set(cg, 0) : 0;

	if (thaw)
		log_debug("task %d waits in vfork(): its group runs on for a moment", t->tid);
	r = f < 0 ? f : task_seize_wait(t, tree_timeout_usec(ctx));
	if (thaw && f >= 0)
		f = freezer_set(cg, 1);
	if (thaw && f >= 0)
		f = freezer_wait(cg, 1, tree_timeout_usec(ctx));
	return f < 0 ? log_err(f, "cannot thaw and freeze %s", cg) : r;
}

static int seize_failed(struct dump_process *p, pid_t tid, int r)
{
	_cleanup_free_ char *status = NULL, *path = str_fmt("task/%d/status", tid);
	const char *tracer, *state;

	if (r == -ETIMEDOUT && waits_for_vfork(p, tid))
		return log_obstacle("wait until its child has started its program",
				    "task %d waits in vfork() for its child to execute a program or to end",
				    tid);
	if (r == -ETIMEDOUT && cgroup_is_frozen(p))
		return frozen_obstacle(tid);
	if (r == -ETIMEDOUT)
		return log_obstacle("see ps -o pid,wchan and dmesg for what it waits for",
				    "task %d does not stop: it waits in the kernel without interruption",
				    tid);
	if (r == -EPERM && (!path || read_file_at(p->proc_fd, path, 65536, &status, NULL) < 0))
		return -ESRCH;
	/* What has just ended may not be traced either. */
	state = status ? strstr(status, "State:\t") : NULL;
	if (state && (state[7] == 'Z' || state[7] == 'X'))
		return -ESRCH;
	tracer = status ? strstr(status, "TracerPid:\t") : NULL;
	if (tracer && tracer[11] != '0')
		return log_obstacle("end the tracer (debugger, strace)", "task %d is traced by process %d",
				    tid, atoi(tracer + 11));
	return log_err(r, "cannot stop task %d", tid);
}

/* Of the process by name only: io_uring's workers. Seized, they never stop; and they have no state. */
static bool thread_is_the_kernels(struct dump_process *p, pid_t tid)
{
	_cleanup_free_ char *text = NULL;
	struct proc_stat st;
	char path[40];

	/* Not proc_stat_of(): as if it were a process, the kernel would add up all threads' times. */
	snprintf(path, sizeof(path), "task/%d/stat", tid);
	return read_file_at(p->proc_fd, path, 8192, &text, NULL) >= 0 &&
	       proc_stat_parse(text, &st) >= 0 && st.flags & (PF_IO_WORKER | PF_USER_WORKER);
}

/*
 * PTRACE_SEIZE of a task that a signal has stopped waits in the kernel until it has got into a ptrace
 * stop, which a frozen one does not. It does not run away when it is thawed either.
 */
static bool may_be_stopped(const struct dump_process *p, pid_t tid)
{
	_cleanup_free_ char *text = NULL;
	char path[40];

	snprintf(path, sizeof(path), "task/%d/wchan", tid);
	return read_file_at(p->proc_fd, path, 256, &text, NULL) < 0 || !strcmp(text, "0") ||
	       str_starts(text, "do_signal_stop");
}

static int thread_stopped(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	int r = task_get_regs(&th->task);

	if (r < 0)
		return log_err(r, "cannot read the registers of task %d", th->task.tid);
	if (th->task.group_stop_signal)
		p->life = TASK_STOPPED;
	th->core = ARENA_MSG(&ctx->arena, CoreEntry, core_entry);
	return th->core ? 0 : -ENOMEM;
}

static int thread_seize(struct dump_ctx *ctx, struct dump_process *p, pid_t tid)
{
	struct dump_thread *th = ARENA_PUSH(&ctx->arena, p->threads, p->n_threads);
	int r;

	if (!th)
		return -ENOMEM;
	*th = (struct dump_thread){ .task = { .tid = tid, .remote = &p->remote },
				    .tid_virtual = (uint32_t)tid };
	r = ctx->pid_level ? pids_of_thread(p, tid, &th->tid_virtual) : 0;
	if (r < 0) {
		p->n_threads--;
		return r == -ENOENT || r == -ESRCH ? 0 : log_err(r, "cannot read the ids of task %d", tid);
	}
	if (ctx->stop_on_thaw)
		r = may_be_stopped(p, tid) ? 0 : task_seize_begin(&th->task, 0);
	else
		r = task_seize(&th->task, 0, ctx->opts->freeze_cgroup ? VFORK_PATIENCE_USEC : tree_timeout_usec(ctx));
	if (r == -ETIMEDOUT && ctx->opts->freeze_cgroup)
		r = seize_patiently(ctx, p, &th->task);
	if (r < 0 && r != -ESRCH)
		r = seize_failed(p, tid, r);
	if (r == -ESRCH) {
		p->n_threads--;
		return 0;
	}
	if (r >= 0 && !ctx->stop_on_thaw)
		r = thread_stopped(ctx, p, th);
	return r < 0 ? r : 1;
}

/* Seizes what /proc/PID/task lists; 1 if something new was there. */
static int threads_seize_once(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	int fd, found = 0;

	fd = openat(p->proc_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return neg_errno() == -ENOENT ? -ESRCH : neg_errno();
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while ((e = readdir(d))) {
		pid_t tid = atoi(e->d_name);
		int r;

		if (tid <= 0 || thread_find(p, tid) || (tid == p->pid && p->main_ended) ||
		    (tid != p->pid && thread_is_the_kernels(p, tid)))
			continue;
		r = thread_seize(ctx, p, tid);
		if (r < 0)
			return r;
		found |= r;
	}
	return found;
}

/* Others of its threads stand still, the main one has ended since the process was looked at. */
static int main_thread_lost(struct dump_process *p)
{
	struct proc_stat st;
	int r = proc_stat_read(p->proc_fd, &st);

	if (r < 0 || st.state != 'Z')
		return r < 0 ? r : -ESRCH;
	p->exit_code = st.exit_code;
	p->main_ended = true;
	return process_open_thread(p, p->threads[0].task.tid);
}

/* The leader first in p->threads, as the images want it. */
static int leader_first(struct dump_process *p)
{
	struct dump_thread *leader = thread_find(p, p->pid), tmp;
	int r = !leader && !p->main_ended && p->n_threads ? main_thread_lost(p) : 0;

	if (r < 0)
		return r;
	if (p->main_ended && p->n_threads && p->life == TASK_STOPPED)
		return log_obstacle("let it go on (kill -CONT)",
				    "process %d (%s) is stopped, and its main thread has ended", p->pid, p->comm);
	if (p->main_ended && p->n_threads)
		return 0;
	if (!leader)
		return -ESRCH;
	tmp = *leader;
	memmove(p->threads + 1, p->threads, (size_t)(leader - p->threads) * sizeof(tmp));
	p->threads[0] = tmp;
	return 0;
}

static int process_seize(struct dump_ctx *ctx, struct dump_process *p)
{
	int r;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	if (p->life == TASK_DEAD)
		return 0;
	do
		r = threads_seize_once(ctx, p);
	while (r > 0);
	return r < 0 ? r : leader_first(p);
}

static int children_of(struct dump_ctx *ctx, struct dump_process *p, pid_t tid, bool again);

/* -ESRCH, unlogged: it has ended, and we know nothing of it. */
static int process_add(struct dump_ctx *ctx, struct dump_process *parent, pid_t pid,
		       struct dump_process **ret)
{
	int r = process_open(ctx, parent, pid, ret);

	if (r >= 0)
		r = process_seize(ctx, *ret);
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

	if (r == -ESRCH)
		r = process_add(ctx, parent, pid, &p);
	if (r == -ESRCH)
		return parent ? 0 : log_err(r, "there is no process %d", pid);
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
	if (ctx->stop_on_thaw && waits_for_vfork(p, tid))
		return 0;
	snprintf(path, sizeof(path), "task/%d/children", tid);
	r = read_file_at(p->proc_fd, path, READ_FILE_MAX, &text, NULL);
	if (r < 0)
		return log_err(r, "cannot read /proc/%d/%s", p->pid, path);
	for (char *s = strtok_r(text, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
		if (again && dump_process_find(ctx, atoi(s)))
			continue;
		r = tree_add(ctx, p, atoi(s));
		if (r < 0)
			return r;
	}
	return 0;
}

struct dump_process *dump_process_find(struct dump_ctx *ctx, pid_t pid)
{
	return map_get(&ctx->procs_by_pid, (uint64_t)pid);
}

/* What a process that ran once more has begun since. */
static int look_again(struct dump_ctx *ctx, struct dump_process *p)
{
	int r;

	do
		r = threads_seize_once(ctx, p);
	while (r > 0);
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
		if (r < 0 || !ran)
			continue;
		r = look_again(ctx, p);
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
	return r < 0 ? log_err(r, "cannot freeze %s", cg) : 0;
}

/* One that was ending has ended. Its parent stands still, so of a process a zombie is left. */
static int threads_lost(struct dump_process *p)
{
	struct proc_stat st;

	if (p->n_threads)
		return leader_first(p);
	if (proc_stat_read(p->proc_fd, &st) < 0 || !strchr("ZX", st.state))
		return log_fail(-ESRCH, "process %d (%s) ended while the tree was being stopped; try again",
				p->pid, p->comm);
	p->life = TASK_DEAD;
	p->exit_code = st.exit_code;
	return 0;
}

static int wait_for_stop(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	uint64_t usec = tree_timeout_usec(ctx);
	int r = th->task.seized ? task_seize_wait(&th->task, usec) : task_seize(&th->task, 0, usec);

	if (r < 0 && r != -ESRCH)
		r = seize_failed(p, th->task.tid, r);
	return r < 0 ? r : thread_stopped(ctx, p, th);
}

static int process_wait_for_stops(struct dump_ctx *ctx, struct dump_process *p, bool failed)
{
	size_t before = p->n_threads;
	int r, ret = 0;

	for (size_t i = 0; i < p->n_threads; i++) {
		if (!p->threads[i].task.seized && failed)
			continue;
		r = wait_for_stop(ctx, p, &p->threads[i]);
		if (r == -ESRCH) {
			p->n_threads--;
			memmove(&p->threads[i], &p->threads[i + 1], (p->n_threads - i) * sizeof(p->threads[i]));
			i--;
		} else if (r < 0) {
			ret = r;
		}
	}
	if (ret < 0 || failed || p->n_threads == before)
		return ret;
	return threads_lost(p);
}

/*
 * After a thaw: all that task_seize_begin() was called for, and what it was not for. After a failure only the
 * former, so that they can be let go.
 */
static int wait_for_stops(struct dump_ctx *ctx, bool failed)
{
	int r, ret = 0;

	for (size_t i = 0; i < ctx->n_procs; i++) {
		r = process_wait_for_stops(ctx, ctx->procs[i], failed);
		ret = ret < 0 ? ret : r;
	}
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

int tree_seize(struct dump_ctx *ctx)
{
	const char *cg = ctx->opts->freeze_cgroup;
	int r = freeze_begin(ctx), thawed, stopped;

	if (r < 0)
		return r;
	ctx->stop_on_thaw = cg && freezer_is_v1(cg);
	r = add_roots(ctx);
	if (r < 0 && !ctx->stop_on_thaw)
		return r;
	thawed = cg ? freezer_set(cg, 0) : 0;
	if (thawed < 0)
		return log_err(thawed, "cannot thaw %s", cg);
	if (ctx->stop_on_thaw) {
		ctx->stop_on_thaw = false;
		stopped = wait_for_stops(ctx, r < 0);
		if (r >= 0)
			r = stopped < 0 ? stopped : look_again_all(ctx);
	}
	return r < 0 ? r : leave_vdso_all(ctx);
}
