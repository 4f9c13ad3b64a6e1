/*
 * Stopping the threads of one process: all that /proc/PID/task lists, again until nothing new turns up.
 * With the v1 freezer they are only told to stop, and waited for when their group has thawed.
 */
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "core/freezer.h"
#include "core/pids.h"
#include "core/tree.h"
#include "core/tree_threads.h"
#include "kernel/stat.h"
#include "ns/cgroup.h"
#include "remote/reaper.h"
#include "task/regs.h"
#include "util/timer.h"

/* include/linux/sched.h of the kernel */
#define PF_IO_WORKER		0x10u
#define PF_USER_WORKER		0x4000u
/* Others stop within microseconds. */
#define VFORK_PATIENCE_USEC	20000u
/* 0.2 ms each, all tasks together. */
#define WCHAN_LOOKS_MAX		1000u
/* On a slow machine, or under strace, one look at many threads takes longer than they may need to stop. */
#define LOOKS_MIN		16u

pid_t thread_alive(pid_t pid)
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

int process_open_thread(struct dump_process *p, pid_t tid)
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

static struct dump_thread *thread_find(struct dump_process *p, pid_t tid)
{
	for (size_t i = p->n_threads; i-- > 0;)
		if (p->threads[i].task.tid == tid)
			return &p->threads[i];
	return NULL;
}

int task_frozen_obstacle(pid_t tid)
{
	return log_obstacle("thaw it, or give it by --freeze-cgroup",
			    "task %d does not stop: its control group is frozen (freezer of cgroup v1)", tid);
}

int task_forbidden_obstacle(pid_t tid, int r)
{
	return log_obstacle("run cr as root, with CAP_SYS_PTRACE and CAP_CHECKPOINT_RESTORE, outside of containers; "
			    "a security module may forbid it, too",
			    "task %d may not be looked at or stopped: %s", tid, strerror(-r));
}

bool task_waits_for_vfork(const struct dump_process *p, pid_t tid)
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
	bool thaw = task_waits_for_vfork(p, t->tid);
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

	if (r == -EAGAIN)
		return log_fail(r, "process %d (%s) executed a program while it was being stopped; try again", p->pid, p->comm);
	if (path && read_file_at(p->proc_fd, path, 65536, &status, NULL) < 0 && (r == -EPERM || r == -ETIMEDOUT))
		return -ESRCH;
	/* What has just ended may not be traced either. */
	state = status ? strstr(status, "State:\t") : NULL;
	if (state && (state[7] == 'Z' || state[7] == 'X'))
		return -ESRCH;
	if (r == -ETIMEDOUT && task_waits_for_vfork(p, tid))
		return log_obstacle("wait until its child has started its program",
				    "task %d waits in vfork() for its child to execute a program or to end",
				    tid);
	if (r == -ETIMEDOUT && cgroup_is_frozen(p))
		return task_frozen_obstacle(tid);
	if (r == -ETIMEDOUT)
		return log_obstacle("see ps -o pid,wchan and dmesg for what it waits for",
				    "task %d does not stop: it waits in the kernel without interruption",
				    tid);
	tracer = status ? strstr(status, "TracerPid:\t") : NULL;
	/* Its last thread, seized already, took the main one's place. */
	if (tracer && atoi(tracer + 11) == getpid())
		return log_fail(-EAGAIN, "process %d (%s) executed a program while it was being stopped; try again",
				p->pid, p->comm);
	if (tracer && tracer[11] != '0')
		return log_obstacle("end the tracer (debugger, strace)", "task %d is traced by process %d",
				    tid, atoi(tracer + 11));
	if (r == -EPERM)
		return task_forbidden_obstacle(tid, r);
	return log_err(r, "cannot stop task %d", tid);
}

static int thread_stat(const struct dump_process *p, pid_t tid, struct proc_stat *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[40];
	int r;

	/* Not proc_stat_of(): as if it were a process, the kernel would add up all threads' times. */
	snprintf(path, sizeof(path), "task/%d/stat", tid);
	r = read_file_at(p->proc_fd, path, 8192, &text, NULL);
	return r < 0 ? r : proc_stat_parse(text, ret);
}

/* Of the process by name only: io_uring's workers. Seized, they never stop; and they have no state. */
static bool thread_is_the_kernels(struct dump_process *p, pid_t tid)
{
	struct proc_stat st;

	return thread_stat(p, tid, &st) >= 0 && st.flags & (PF_IO_WORKER | PF_USER_WORKER);
}

/*
 * PTRACE_SEIZE of a task that a signal has stopped waits in the kernel until it has got into a ptrace
 * stop, which a frozen one does not. It does not run away when it is thawed either; all others would,
 * and could reap children that we know. One that has just frozen still waits for a processor, without
 * a wchan ("0"), as all are where the kernel does not tell it.
 */
static bool may_be_stopped(const struct dump_process *p, pid_t tid)
{
	const struct timespec pause = { .tv_nsec = 200000 };
	char path[40];

	snprintf(path, sizeof(path), "task/%d/wchan", tid);
	for (;;) {
		_cleanup_free_ char *text = NULL;
		struct proc_stat st;

		if (thread_stat(p, tid, &st) >= 0 && st.state != 'D' && st.state != 'T')
			return false;
		if (read_file_at(p->proc_fd, path, 256, &text, NULL) < 0)
			return true;
		if (strcmp(text, "0"))
			return str_starts(text, "do_signal_stop");
		if (p->ctx->wchan_looks++ >= WCHAN_LOOKS_MAX)
			return true;
		nanosleep(&pause, NULL);
	}
}

static int thread_stopped(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	int r = task_get_regs(&th->task);

	if (r < 0)
		return r == -ESRCH ? r : log_err(r, "cannot read the registers of task %d", th->task.tid);
	if (th->task.group_stop_signal)
		p->life = TASK_STOPPED;
	th->core = ARENA_MSG(&ctx->arena, CoreEntry, core_entry);
	return th->core ? 0 : -ENOMEM;
}

/*
 * Does the process have threads besides those that we know and others that were listed? A list may lack one that was
 * begun meanwhile, and ends early at one that ends just then.
 */
static bool has_more(const struct dump_process *p, int task_fd, size_t others)
{
	struct stat st;

	/* proc_task_getattr() in fs/proc/base.c: two links, and one for each thread. */
	return p->n_threads && fstat(task_fd, &st) == 0 && st.st_nlink > 2 + p->n_threads + others;
}

/* Tells it to stop, or knows that it shall. 0: it has ended. */
static int thread_seize_begin(struct dump_ctx *ctx, struct dump_process *p, pid_t tid)
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
	r = reaper_know(tid);
	if (r >= 0 && (!ctx->stop_on_thaw || !may_be_stopped(p, tid)))
		r = task_seize_begin(&th->task, 0);
	if (r < 0 && r != -ESRCH)
		r = seize_failed(p, tid, r);
	if (r == -ESRCH) {
		p->n_threads--;
		return 0;
	}
	return r < 0 ? r : 1;
}

static int wait_for_stop(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th, uint64_t until_usec)
{
	uint64_t now = clock_usec(CLOCK_MONOTONIC), usec = now < until_usec ? until_usec - now : 0;
	int r;

	if (ctx->frozen)
		usec = MIN(usec, (uint64_t)VFORK_PATIENCE_USEC);
	r = th->task.seized ? task_seize_wait(&th->task, usec) : task_seize(&th->task, 0, usec);
	if (r == -ETIMEDOUT && ctx->frozen)
		r = seize_patiently(ctx, p, &th->task);
	if (r < 0 && r != -ESRCH)
		r = seize_failed(p, th->task.tid, r);
	return r < 0 ? r : thread_stopped(ctx, p, th);
}

static void drop(struct dump_process *p, size_t i)
{
	p->n_threads--;
	memmove(&p->threads[i], &p->threads[i + 1], (p->n_threads - i) * sizeof(*p->threads));
}

/* From first on, all together no longer than one may take. failed: only those that were told to stop. */
static int wait_for_stops(struct dump_ctx *ctx, struct dump_process *p, size_t first, bool failed)
{
	const uint64_t until = clock_usec(CLOCK_MONOTONIC) + tree_timeout_usec(ctx);
	int r, ret = 0;

	/* The main one, which is listed first, last: if all have been killed it can be reaped when the others are. */
	for (size_t i = p->n_threads; i-- > first;) {
		if (!p->threads[i].task.seized && failed)
			continue;
		r = wait_for_stop(ctx, p, &p->threads[i], until);
		if (r == -ESRCH) {
			drop(p, i);
		} else if (r < 0) {
			ret = r;
		}
	}
	return ret;
}

/*
 * Seizes what /proc/PID/task lists; 1 if something new was there. All are told to stop before the first is waited for:
 * on their way they need other processors, or ours in one go.
 */
static int threads_seize_once(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_closedir_ DIR *d = dir_open_at(p->proc_fd, "task");
	size_t first = p->n_threads, others = 0;	/* kernel's, and a main one that has ended */
	struct dirent *e;
	int r = 0, stopped;
	bool found = false;

	if (!d)
		return errno == ENOENT ? -ESRCH : neg_errno();
	/* A thread that executes a program holds up the others' being seized until it is alone. */
	reaper_begin(p->pid);
	while (r >= 0 && (e = readdir(d))) {
		pid_t tid = atoi(e->d_name);

		if (tid <= 0 || thread_find(p, tid))
			continue;
		if (tid == p->pid ? p->main_ended : thread_is_the_kernels(p, tid)) {
			others++;
			continue;
		}
		r = thread_seize_begin(ctx, p, tid);
		found |= r > 0;
		others += !r && tid == p->pid;
	}
	reaper_end();
	stopped = ctx->stop_on_thaw ? 0 : wait_for_stops(ctx, p, first, r < 0);
	if (r >= 0)
		r = stopped;
	/* Also those that have ended since. */
	return r < 0 ? r : found || has_more(p, dirfd(d), others);
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
	/* The one that was asked before, when all ran, may have ended since. */
	if (p->main_ended && p->n_threads)
		return process_open_thread(p, p->threads[0].task.tid);
	if (!leader)
		return -ESRCH;
	tmp = *leader;
	memmove(p->threads + 1, p->threads, (size_t)(leader - p->threads) * sizeof(tmp));
	p->threads[0] = tmp;
	return 0;
}

int tree_too_fast(pid_t pid, unsigned int looks, uint64_t until_usec)
{
	if (looks < LOOKS_MIN || clock_usec(CLOCK_MONOTONIC) < until_usec)
		return 0;
	return log_obstacle("give its control group by --freeze-cgroup",
			    "threads or children of process %d begin and end faster than they can be stopped", pid);
}

int thread_lost(struct dump_process *p, size_t i)
{
	drop(p, i);
	return leader_first(p);
}

int threads_seize_new(struct dump_ctx *ctx, struct dump_process *p)
{
	const uint64_t until = clock_usec(CLOCK_MONOTONIC) + tree_timeout_usec(ctx);
	int r = 0;

	for (unsigned int looks = 1; r >= 0; looks++) {
		r = threads_seize_once(ctx, p);
		if (r <= 0)
			break;
		r = tree_too_fast(p->pid, looks, until);
	}
	return r;
}

int threads_seize(struct dump_ctx *ctx, struct dump_process *p)
{
	int r;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	if (p->life == TASK_DEAD)
		return 0;
	r = threads_seize_new(ctx, p);
	return r < 0 ? r : leader_first(p);
}

int process_lost(struct dump_process *p)
{
	struct proc_stat st;

	if (proc_stat_read(p->proc_fd, &st) < 0 || !strchr("ZX", st.state))
		return log_fail(-ESRCH, "process %d (%s) ended while the tree was being stopped; try again",
				p->pid, p->comm);
	p->life = TASK_DEAD;
	p->exit_code = st.exit_code;
	return 0;
}

int threads_wait(struct dump_ctx *ctx, struct dump_process *p, bool failed)
{
	size_t before = p->n_threads;
	int r = wait_for_stops(ctx, p, 0, failed);

	if (r < 0 || failed || !before)
		return r;
	/* Only now it is known who has ended, and whether the others are stopped by a signal. */
	return p->n_threads ? leader_first(p) : process_lost(p);
}
