/*
 * Restore: processes that job control had stopped are stopped again, while their signal handlers
 * and their parents' are not set yet: the stop signal is the right one, and the SIGCHLD that tells
 * the parent is flushed later. A stopped task still runs our calls; the stop holds from its release.
 *
 *   dump     the stop that PTRACE_SEIZE reports; exit_code of /proc/PID/stat, before that: 0 when
 *            the parent's wait has been told
 *   restore  SIGSTOP, by ptrace exchanged for the signal it was; the parent's wait4(WUNTRACED)
 *
 * The trap: SIGTSTP and its like do not stop a process in an orphaned group. Then nothing may run
 * in it: it waits in pause(2), and is stopped by SIGSTOP.
 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/dump.h"
#include "core/restore_steps.h"

static bool is_stop_signal(uint32_t sig)
{
	return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

/* Runs it until its next stop, handing it a signal; pause() is what it would do. */
static int run_to_stop(struct task *t, int sig, int *ret_status)
{
	int r = task_park(t, sig);

	if (r < 0)
		return r;
	if (ptrace(PTRACE_CONT, t->tid, 0, sig) < 0 || ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0)
		return neg_errno();
	return task_wait(t, ret_status);
}

static bool is_group_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP;
}

/* To where a signal can be handed to it: the delivery of one of ours. */
static int meet_signal(struct task *t)
{
	int status, r;

	if (syscall(SYS_tgkill, t->tid, t->tid, SIGSTOP) < 0)
		return neg_errno();
	do
		r = run_to_stop(t, 0, &status);
	while (r >= 0 && status >> 16);
	if (r >= 0 && WSTOPSIG(status) != SIGSTOP)
		r = log_fail(-EIO, "no stop for SIGSTOP (wait status 0x%x)", (unsigned int)status);
	return r;
}

static int stop_process(struct restore_process *p, int sig)
{
	int status, r;

	r = meet_signal(&p->threads[0].task);
	if (r >= 0)
		r = run_to_stop(&p->threads[0].task, sig, &status);
	if (r >= 0 && !is_group_stop(status) && sig != SIGSTOP) {
		log_warn("it was stopped by signal %d and is now by SIGSTOP: its process group is orphaned",
			 sig);
		return stop_process(p, SIGSTOP);
	}
	for (size_t i = 1; r >= 0 && i < p->n_threads && is_group_stop(status); i++)
		r = run_to_stop(&p->threads[i].task, 0, &status);
	if (r >= 0 && !is_group_stop(status))
		r = log_fail(-EIO, "it does not stop (wait status 0x%x)", (unsigned int)status);
	return r;
}

/* Its parent knew already: wait4() must not find it again. */
static int tell_parent(struct restore_ctx *ctx, struct restore_process *p)
{
	struct batch *b = &ctx->batch;
	int call, r;

	/* Who that is, for a root, is told once more. */
	if (!p->parent)
		return 0;
	batch_begin(b, &p->parent->threads[0].task);
	call = batch_call(b, SYS_wait4, p->pst->pid, 0, WUNTRACED | WNOHANG | __WALL, 0);
	r = batch_run(b);
	if (r >= 0 && batch_ret(b, call) != p->pst->pid)
		r = log_fail(-EIO, "its parent does not see that it is stopped");
	return r;
}

int restore_stopped(struct restore_ctx *ctx)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++) {
		struct restore_process *p = &ctx->procs[i];
		const TaskCoreEntry *tc = p->core->tc;

		if (!p->alive || tc->task_state != TASK_STOPPED)
			continue;
		LOG_SCOPE("process %u", p->pst->pid);
		r = stop_process(p, is_stop_signal(tc->stop_signo) ? (int)tc->stop_signo : SIGSTOP);
		if (r >= 0 && tc->has_stop_waited && tc->stop_waited)
			r = tell_parent(ctx, p);
	}
	return r < 0 ? log_err(r, "cannot stop a process that was stopped") : 0;
}
