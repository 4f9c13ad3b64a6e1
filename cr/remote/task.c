/*
 * ptrace: stopping a task, its registers and mask, a single system call, letting it go.
 *
 * Waiting is by tid with __WALL, so several trees can be handled by one engine process.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "kernel/stat.h"
#include "remote/reaper.h"
#include "remote/remote.h"
#include "util/log.h"
#include "util/timer.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21)
#endif

/* All signals blocked but SIGTRAP: int3 with a blocked SIGTRAP would reset its handler. */
#define MASK_IN_BATCH (~(1ull << (SIGTRAP - 1)))

#define GROUP_STOP_REPORTS 4u
#define LOOK_EVERY	200u	/* some 20 ms */
#define NUDGE_TIMEOUT_USEC (10ull * 1000000)

/* ECHILD: the reaper was faster. */
static int wait_errno(struct task *t)
{
	if (errno != ECHILD)
		return neg_errno();
	t->seized = false;
	return -ESRCH;
}

/* Can it be reaped? */
static bool ended(pid_t tid)
{
	siginfo_t si = { 0 };

	return waitid(P_PID, (id_t)tid, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 || si.si_pid == tid;
}

/*
 * It will not stop any more, and its end waits for others': those born in the batch that it was killed in, whom nobody
 * knows yet.
 */
static bool is_ending(pid_t tid)
{
	struct proc_stat st;

	return proc_stat_of(tid, &st) >= 0 && proc_stat_is_ending(&st) && !ended(tid);
}

/* The reaper interrupts it. */
static int wait_blocking(struct task *t, int *ret_status)
{
	for (;;) {
		pid_t r = waitpid(t->tid, ret_status, __WALL);

		if (r == t->tid)
			return 0;
		if (r < 0 && errno != EINTR)
			return wait_errno(t);
		if (r < 0 && is_ending(t->tid))
			return -ESRCH;
	}
}

/*
 * The end of a main thread comes after those of its others, that of the last thread of a PID namespace's first process
 * after those of all in there.
 */
int task_wait(struct task *t, int *ret_status)
{
	int r;

	reaper_begin(t->tid);
	r = wait_blocking(t, ret_status);
	reaper_end();
	if (r == -ESRCH)
		return log_fail(r, "task %d has ended", t->tid);
	if (r < 0)
		return log_err(r, "task %d cannot be waited for", t->tid);
	if (WIFSTOPPED(*ret_status))
		return 0;
	t->seized = false;
	if (WIFSIGNALED(*ret_status))
		return log_fail(-ESRCH, "task %d was killed by signal %d", t->tid, WTERMSIG(*ret_status));
	return log_fail(-ESRCH, "task %d has ended with code %d", t->tid, WEXITSTATUS(*ret_status));
}

/* True: a main thread that has ended before others, which nobody is told of while those live. */
static bool look_around(struct task *t)
{
	struct proc_stat st;

	reaper_look(t->tid);
	return proc_stat_of(t->tid, &st) >= 0 && st.state == 'Z' && !ended(t->tid);
}

/* Like task_wait(), but a task in uninterruptible sleep or in vfork does not stop for us. */
static int task_wait_timeout(struct task *t, int *ret_status, uint64_t timeout_usec)
{
	uint64_t begin = clock_usec(CLOCK_MONOTONIC);
	unsigned int spins = 0;

	for (;;) {
		pid_t r = waitpid(t->tid, ret_status, __WALL | WNOHANG);

		if (r == t->tid)
			break;
		if (r < 0 && errno != EINTR)
			return wait_errno(t);
		if (clock_usec(CLOCK_MONOTONIC) - begin > timeout_usec)
			return -ETIMEDOUT;
		if (++spins % LOOK_EVERY == 0 && look_around(t)) {
			t->seized = false;
			return -ESRCH;
		}
		if (spins <= 100)
			sched_yield();
		else
			nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
	if (WIFSTOPPED(*ret_status))
		return 0;
	t->seized = false;
	return -ESRCH;
}

/* A task stopped by job control reports its stop signal with the event. */
static void note_group_stop(struct task *t, int status)
{
	bool stopped = status >> 16 == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP;

	t->group_stop_signal = stopped ? WSTOPSIG(status) : 0;
}

int task_seize_begin(struct task *t, unsigned long options)
{
	unsigned long opts = PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP | options;
	int status;

	if (ptrace(PTRACE_SEIZE, t->tid, 0, opts) < 0) {
		if (errno != EPERM)
			return neg_errno();
		/* An engine with a seccomp filter of its own may not suspend another's. */
		opts &= ~(unsigned long)PTRACE_O_SUSPEND_SECCOMP;
		if (ptrace(PTRACE_SEIZE, t->tid, 0, opts) < 0)
			return neg_errno();
	}
	t->seized = true;
	t->filters_suspended = opts & PTRACE_O_SUSPEND_SECCOMP;
	if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) == 0)
		return 0;
	if (errno != ESRCH)
		return neg_errno();
	t->seized = false;
	/* It has ended; or it has executed a program meanwhile, and has the main thread's number now. */
	return waitpid(t->tid, &status, __WALL | WNOHANG) < 0 && errno == ECHILD ? -EAGAIN : -ESRCH;
}

int task_seize(struct task *t, unsigned long options, uint64_t timeout_usec)
{
	int r = task_seize_begin(t, options);

	return r < 0 ? r : task_seize_wait(t, timeout_usec);
}

int task_seize_wait(struct task *t, uint64_t timeout_usec)
{
	int status, r;

	for (;;) {
		r = task_wait_timeout(t, &status, timeout_usec);
		if (r < 0)
			return r;
		if (status >> 16)
			break;
		/* A signal that came before the stop was asked for: it takes effect, or it would be lost. */
		if (ptrace(PTRACE_CONT, t->tid, 0, WSTOPSIG(status)) < 0)
			return neg_errno();
	}
	note_group_stop(t, status);
	return 0;
}

void task_adopt(struct task *t, pid_t tid, struct remote *remote)
{
	*t = (struct task){ .tid = tid, .remote = remote, .seized = true };
}

int task_detach(struct task *t)
{
	int r = t->seized && ptrace(PTRACE_DETACH, t->tid, 0, 0) < 0 ? neg_errno() : 0;

	/* One that has been killed, or whose sibling executes a program, is ours to reap. */
	t->seized = r == -ESRCH;
	return r;
}

/* Not as a register set: of a task in 32-bit code that is another one, which hides what it runs. */
static int regs_set(pid_t tid, struct user_regs_struct *regs)
{
	return ptrace(PTRACE_SETREGS, tid, 0, regs) < 0 ? neg_errno() : 0;
}

static int regs_get(pid_t tid, struct user_regs_struct *regs)
{
	return ptrace(PTRACE_GETREGS, tid, 0, regs) < 0 ? neg_errno() : 0;
}

int task_get_regs(struct task *t)
{
	int r = regs_get(t->tid, &t->regs);

	if (r < 0)
		return r;
	if (ptrace(PTRACE_GETSIGMASK, t->tid, 8, &t->sigmask) < 0)
		return neg_errno();
	t->regs_read = true;
	return 0;
}

int task_put_regs(struct task *t)
{
	/* The mask first: should we die now, the dump's stub sees to the registers, not to that. */
	if (ptrace(PTRACE_SETSIGMASK, t->tid, 8, &t->sigmask) < 0)
		return neg_errno();
	return regs_set(t->tid, &t->regs);
}

int task_block_signals(struct task *t)
{
	uint64_t mask = MASK_IN_BATCH;

	return ptrace(PTRACE_SETSIGMASK, t->tid, 8, &mask) < 0 ? neg_errno() : 0;
}

int task_step(struct task *t)
{
	int status, r;

	if (ptrace(PTRACE_SINGLESTEP, t->tid, 0, 0) < 0)
		return neg_errno();
	r = task_wait(t, &status);
	if (r < 0)
		return r;
	return WSTOPSIG(status) == SIGTRAP ? 0 : -EIO;
}

int task_nudge(struct task *t)
{
	int status, signal = 0, r;
	bool asked = false;

	for (;;) {
		if (ptrace(PTRACE_CONT, t->tid, 0, signal) < 0)
			return neg_errno();
		/* Asked for before it runs, the stop would come at once. */
		if (!asked) {
			nanosleep(&(struct timespec){ .tv_nsec = 1000 }, NULL);
			if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0)
				return neg_errno();
			asked = true;
		}
		r = task_wait_timeout(t, &status, NUDGE_TIMEOUT_USEC);
		if (r < 0)
			return r;
		if (status >> 16 == PTRACE_EVENT_STOP) {
			note_group_stop(t, status);
			return task_get_regs(t);
		}
		signal = status >> 16 ? 0 : WSTOPSIG(status);
	}
}

/* Of the restore's stub: a task that runs on from there would do what is behind it in the zone. */
static int regs_for_call(struct task *t, uint64_t mask, uint64_t nr, const uint64_t arg[6])
{
	int64_t off = code_find_syscall(stub_begin, (size_t)(stub_end - stub_begin));
	struct user_regs_struct regs = t->regs;

	if (off < 0)
		return (int)off;
	arch_regs_for_syscall(&regs, t->remote->zone + (uint64_t)off, nr, arg);
	if (ptrace(PTRACE_SETSIGMASK, t->tid, 8, &mask) < 0)
		return neg_errno();
	return regs_set(t->tid, &regs);
}

int task_park(struct task *t, int open)
{
	const uint64_t none[6] = { 0 };

	return regs_for_call(t, open ? ~(1ull << (open - 1)) : ~0ull, SYS_pause, none);
}

int task_leave(struct task *t, uint64_t nr, const uint64_t arg[6])
{
	int r = regs_for_call(t, ~0ull, nr, arg);

	return r < 0 ? r : task_detach(t);
}

int task_end(struct task *t, uint64_t nr, const uint64_t arg[6])
{
	int status, signal = 0, r;

	r = regs_for_call(t, 0, nr, arg);
	while (r >= 0) {
		if (ptrace(PTRACE_CONT, t->tid, 0, signal) < 0)
			return neg_errno();
		while (waitpid(t->tid, &status, __WALL) < 0)
			if (errno != EINTR)
				return neg_errno();
		if (!WIFSTOPPED(status)) {
			t->seized = false;
			break;
		}
		signal = status >> 16 ? 0 : WSTOPSIG(status);
	}
	return r;
}

int task_syscall(struct task *t, int64_t *ret_result, uint64_t nr, const uint64_t arg[6])
{
	struct user_regs_struct regs;
	int status, r;

	r = task_block_signals(t);
	if (r < 0)
		return r;
	r = regs_get(t->tid, &regs);
	if (r < 0)
		return r;
	arch_regs_for_syscall(&regs, t->remote->syscall_insn, nr, arg);
	r = regs_set(t->tid, &regs);
	if (r < 0)
		return r;
	/* A task that job control had stopped reports that once more before it runs. */
	for (unsigned int i = 0; i < GROUP_STOP_REPORTS; i++) {
		if (ptrace(PTRACE_SYSCALL, t->tid, 0, 0) < 0)
			return neg_errno();
		r = task_wait(t, &status);
		if (r < 0)
			return r;
		if (status >> 16 != PTRACE_EVENT_STOP)
			break;
	}
	if (WSTOPSIG(status) != (SIGTRAP | 0x80))
		return log_fail(-EIO, "task %d: no system-call stop (wait status 0x%x)", t->tid,
				(unsigned int)status);
	/* The stop after the call is asked for now, so it is an event and no SIGTRAP. */
	if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0 || ptrace(PTRACE_CONT, t->tid, 0, 0) < 0)
		return neg_errno();
	r = task_wait(t, &status);
	if (r < 0)
		return r;
	if (status >> 16 != PTRACE_EVENT_STOP)
		return log_fail(-EIO, "task %d: no event stop (wait status 0x%x)", t->tid,
				(unsigned int)status);
	r = regs_get(t->tid, &regs);
	if (r < 0)
		return r;
	*ret_result = (int64_t)regs.rax;
	return 0;
}

bool task_reap(struct task *t)
{
	int status;
	pid_t pid;

	do
		pid = waitpid(t->tid, &status, __WALL | WNOHANG);
	while (pid < 0 ? errno == EINTR : pid && WIFSTOPPED(status));
	if (pid)
		t->seized = false;
	return pid;
}
