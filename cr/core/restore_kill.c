/*
 * A restore that has failed leaves nobody behind: its tasks are killed and reaped, also those that it does not know of.
 * Who is killed in the middle of a call that makes threads or processes (by the kernel, for want of memory) cannot tell
 * us their numbers, but we trace them, and the end of its process, or of its PID namespace, waits for us to reap them.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "core/restore_steps.h"
#include "kernel/status.h"
#include "util/timer.h"

struct doomed {
	pid_t *pids;		/* 0: it has ended */
	size_t n;
};

static void doom(struct restore_ctx *ctx, struct doomed *doomed, pid_t pid)
{
	pid_t *p = ARENA_PUSH(&ctx->arena, doomed->pids, doomed->n);

	kill(pid, SIGKILL);
	if (p)
		*p = pid;
	else
		log_warn("no memory to wait for the end of process %d", pid);
}

static bool is_traced_by(pid_t pid, pid_t tracer)
{
	_cleanup_proc_status_ struct proc_status status = { 0 };
	_cleanup_close_ int fd = -EBADF;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 && proc_status_read(fd, pid, &status) >= 0 && status.tracer_pid == tracer;
}

/* Those that are known are among them again, which does no harm. */
static void doom_traced(struct restore_ctx *ctx, struct doomed *doomed)
{
	const pid_t self = (pid_t)syscall(SYS_gettid);
	_cleanup_closedir_ DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		pid_t pid = atoi(e->d_name);

		if (pid > 0 && is_traced_by(pid, self))
			doom(ctx, doomed, pid);
	}
}

/* How many of its tasks are left? Those that are not ours to reap are not. */
static size_t process_reap(pid_t pid)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	size_t left = 0;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		struct task t = { .tid = atoi(e->d_name) };

		left += t.tid > 0 && !task_reap(&t);
	}
	return left;
}

/* In any order: the end of a PID namespace's first process waits for all others. */
static void reap(struct doomed *doomed)
{
	const uint64_t until = clock_usec(CLOCK_MONOTONIC) + REAP_USEC;

	for (;;) {
		size_t left = 0, last = 0;

		for (size_t i = 0; i < doomed->n; i++) {
			size_t n = doomed->pids[i] ? process_reap(doomed->pids[i]) : 0;

			if (n)
				last = i;
			else
				doomed->pids[i] = 0;
			left += n;
		}
		if (!left)
			return;
		/* It hangs in the kernel, on a file system perhaps; who called us should not. */
		if (clock_usec(CLOCK_MONOTONIC) > until) {
			log_warn("%zu of its tasks have been killed and do not end, of process %d among them", left,
				 doomed->pids[last]);
			return;
		}
		nanosleep(&(struct timespec){ .tv_nsec = REAP_NSEC }, NULL);
	}
}

void restore_kill(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	struct doomed doomed = { 0 };

	for (size_t i = l->n; i-- > 0;) {
		struct restore_process *p = l->kin[i]->process;

		if (p && p->task_made)
			doom(ctx, &doomed, p->pid);
	}
	/* Before the first of them there is nobody. */
	if (doomed.n)
		doom_traced(ctx, &doomed);
	reap(&doomed);
}
