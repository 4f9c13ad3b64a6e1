/*
 * Pending signals: the thread's own queue and the process's shared one, siginfo for siginfo.
 *
 *   dump     PTRACE_PEEKSIGINFO, which takes nothing out; bits of SigPnd/ShdPnd that have no
 *            entry (the kernel was out of queue memory) become plain SI_USER ones, as the
 *            program would have seen them
 *   restore  rt_tgsigqueueinfo / rt_sigqueueinfo by the thread itself: only to itself may a task
 *            send codes that claim to come from the kernel. All signals are blocked meanwhile.
 *            That of a POSIX timer is sent by the timer, if it can (posix_timers_arm.c)
 *
 * Two cannot be queued within a batch: SIGTRAP is not blocked there, SIGSTOP cannot be. They are
 * sent from outside when the batches are over; their sender is then the engine.
 */
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "core/restore_pids.h"
#include "task/posix_timers.h"

#define SIGINFO_BYTES	128
#define PEEK_AT_ONCE	32
#define SIGNAL_LAST	64
/* RLIMIT_SIGPENDING is usually below 2^17; more than this is a damaged image. */
#define QUEUE_MAX	(1u << 20)

static int queue_add(struct dump_ctx *ctx, SignalQueueEntry *q, const void *info)
{
	SiginfoEntry *e = ARENA_MSG(&ctx->arena, SiginfoEntry, siginfo_entry);
	SiginfoEntry **slot;

	if (!e)
		return -ENOMEM;
	e->siginfo.data = arena_memdup(&ctx->arena, info, SIGINFO_BYTES);
	e->siginfo.len = SIGINFO_BYTES;
	slot = ARENA_PUSH(&ctx->arena, q->signals, q->n_signals);
	if (!slot || !e->siginfo.data)
		return -ENOMEM;
	*slot = e;
	return 0;
}

static int queue_add_bare(struct dump_ctx *ctx, SignalQueueEntry *q, uint64_t bits)
{
	bits &= ~(1ull << (SIGKILL - 1));
	for (int sig = 1; sig <= SIGNAL_LAST; sig++) {
		int32_t info[SIGINFO_BYTES / 4] = { sig, 0, SI_USER };
		int r;

		if (!(bits & 1ull << (sig - 1)))
			continue;
		r = queue_add(ctx, q, info);
		if (r < 0)
			return r;
	}
	return 0;
}

/* pending: the bit set of /proc/PID/status. */
static int queue_peek(struct dump_ctx *ctx, pid_t tid, uint32_t flags, uint64_t pending,
		      SignalQueueEntry **ret)
{
	SignalQueueEntry *q = ARENA_MSG(&ctx->arena, SignalQueueEntry, signal_queue_entry);
	_Alignas(siginfo_t) char infos[PEEK_AT_ONCE][SIGINFO_BYTES];
	struct __ptrace_peeksiginfo_args args = { .flags = flags, .nr = PEEK_AT_ONCE };
	int r;

	if (!q)
		return -ENOMEM;
	for (;;) {
		long n = ptrace(PTRACE_PEEKSIGINFO, tid, &args, infos);

		if (n < 0)
			return log_err(neg_errno(), "cannot read the pending signals of thread %d",
				       tid);
		for (long i = 0; i < n; i++) {
			int32_t signo;

			memcpy(&signo, infos[i], sizeof(signo));
			if (signo == SIGKILL)
				continue;
			if (signo >= 1 && signo <= SIGNAL_LAST)
				pending &= ~(1ull << (signo - 1));
			r = queue_add(ctx, q, infos[i]);
			if (r < 0)
				return r;
		}
		if (n < PEEK_AT_ONCE)
			break;
		args.off += (uint64_t)n;
	}
	*ret = q;
	return queue_add_bare(ctx, q, pending);
}

int sigpending_note_timer(struct dump_ctx *ctx, SignalQueueEntry **q, const PosixTimerEntry *e)
{
	siginfo_t si = {
		.si_signo = (int)e->si_signo, .si_code = SI_TIMER, .si_timerid = (int)e->it_id,
		.si_overrun = (int)MIN(e->expired - 1, (uint64_t)INT_MAX),
	};

	si.si_ptr = (void *)e->sival_ptr;
	if (!*q)
		*q = ARENA_MSG(&ctx->arena, SignalQueueEntry, signal_queue_entry);
	if (!*q)
		return -ENOMEM;
	for (size_t i = 0; i < (*q)->n_signals; i++) {
		uint8_t *data = (*q)->signals[i]->siginfo.data;
		siginfo_t is;

		memcpy(&is, data, SIGINFO_BYTES);
		if (is.si_signo == si.si_signo && is.si_code == SI_TIMER && is.si_timerid == si.si_timerid) {
			memcpy(data, &si, SIGINFO_BYTES);
			return 0;
		}
	}
	return queue_add(ctx, *q, &si);
}

static bool queue_has(const SignalQueueEntry *q, int sig)
{
	for (size_t i = 0; q && i < q->n_signals; i++) {
		int32_t signo;

		memcpy(&signo, q->signals[i]->siginfo.data, sizeof(signo));
		if (signo == sig)
			return true;
	}
	return false;
}

int sigpending_note_itimer(struct dump_ctx *ctx, struct dump_thread *th, int sig)
{
	const siginfo_t si = { .si_signo = sig, .si_code = SI_KERNEL };
	TaskCoreEntry *tc = part_tc(ctx, th);
	ThreadCoreEntry *thc = part_thread_core(ctx, th);

	if (!tc || !thc)
		return -ENOMEM;
	if (queue_has(tc->signals_s, sig) || queue_has(thc->signals_p, sig))
		return 0;
	if (!tc->signals_s)
		tc->signals_s = ARENA_MSG(&ctx->arena, SignalQueueEntry, signal_queue_entry);
	return tc->signals_s ? queue_add(ctx, tc->signals_s, &si) : -ENOMEM;
}

static int sigpending_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	ThreadCoreEntry *thc = part_thread_core(ctx, th);
	const struct proc_status *st;
	TaskCoreEntry *tc;
	int r;

	if (!thc)
		return -ENOMEM;
	r = task_status(ctx, p, th, &st);
	if (r < 0)
		return r;
	r = queue_peek(ctx, th->task.tid, 0, st->sig_pnd, &thc->signals_p);
	if (r < 0 || th != &p->threads[0])
		return r;
	tc = part_tc(ctx, th);
	if (!tc)
		return -ENOMEM;
	return queue_peek(ctx, th->task.tid, PTRACE_PEEKSIGINFO_SHARED, st->shd_pnd,
			  &tc->signals_s);
}

static int siginfo_check(const SiginfoEntry *e, int *ret_sig)
{
	int32_t signo;

	if (e->siginfo.len != SIGINFO_BYTES)
		return part_bad("core image: siginfo of %zu bytes", e->siginfo.len);
	memcpy(&signo, e->siginfo.data, sizeof(signo));
	if (signo < 1 || signo > SIGNAL_LAST || signo == SIGKILL)
		return part_bad("core image: pending signal %d", signo);
	*ret_sig = signo;
	return 0;
}

static bool needs_outside(int sig)
{
	return sig == SIGSTOP || sig == SIGTRAP;
}

/* tid 0: the shared queue. */
static int queue_restore(struct restore_process *p, struct batch *b, const SignalQueueEntry *q, uint32_t tid)
{
	const uint32_t pid = restore_pid_inside(p, 0);
	int sig = 0, r;

	if (!q)
		return 0;
	if (q->n_signals > QUEUE_MAX)
		return part_bad("core image: %zu pending signals", q->n_signals);
	for (size_t i = 0; i < q->n_signals; i++) {
		PosixTimerEntry *timer;
		uint64_t t_info;

		r = siginfo_check(q->signals[i], &sig);
		if (r < 0)
			return r;
		if (needs_outside(sig))
			continue;
		r = batch_make_room(b, 2, 256);
		timer = posix_timer_of(p, q->signals[i]->siginfo.data);
		if (r >= 0 && timer)
			r = posix_timer_send(p, b, timer);
		if (r < 0)
			return r;
		if (r > 0)
			continue;
		t_info = batch_put(b, q->signals[i]->siginfo.data, SIGINFO_BYTES);
		if (tid)
			batch_call(b, SYS_rt_tgsigqueueinfo, pid, tid, sig, t_info);
		else
			batch_call(b, SYS_rt_sigqueueinfo, pid, sig, t_info);
	}
	return 0;
}

static int sigpending_restore_calls(struct restore_ctx *ctx _unused_, struct restore_process *p,
				    struct restore_thread *th, struct batch *b)
{
	size_t i = (size_t)(th - p->threads);
	int r;

	if (i >= p->pst->n_threads)
		return part_bad("pstree image: process %u has no thread %zu", p->pst->pid, i);
	if (th->core->thread_core) {
		r = queue_restore(p, b, th->core->thread_core->signals_p, restore_pid_inside(p, i));
		if (r < 0)
			return r;
	}
	if (i == 0 && th->core->tc)
		return queue_restore(p, b, th->core->tc->signals_s, 0);
	return 0;
}

/* The task is stopped by ptrace: what is sent now is acted upon when it is let go. */
static int queue_finish(const SignalQueueEntry *q, pid_t tgid, pid_t tid)
{
	for (size_t i = 0; q && i < q->n_signals; i++) {
		long sent;
		int sig = 0, r;

		r = siginfo_check(q->signals[i], &sig);
		if (r < 0)
			return r;
		if (!needs_outside(sig))
			continue;
		if (tid)
			sent = syscall(SYS_tgkill, tgid, tid, sig);
		else
			sent = kill(tgid, sig);
		if (sent < 0)
			return log_err(neg_errno(), "cannot send pending signal %d to %d", sig,
				       tid ? tid : tgid);
	}
	return 0;
}

static int sigpending_finish(struct restore_ctx *ctx, struct restore_process *p,
			     struct restore_thread *th)
{
	pid_t tgid = p->threads[0].task.tid;
	int r;

	(void)ctx;
	if (th->core->thread_core) {
		r = queue_finish(th->core->thread_core->signals_p, tgid, th->task.tid);
		if (r < 0)
			return r;
	}
	if (th == &p->threads[0] && th->core->tc)
		return queue_finish(th->core->tc->signals_s, tgid, 0);
	return 0;
}

const struct task_part part_sigpending = {
	.name		= "pending signals",
	.stage		= STAGE_LATE,
	.dump		= sigpending_dump,
	.restore_calls	= sigpending_restore_calls,
	.finish		= sigpending_finish,
};
