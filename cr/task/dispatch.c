/*
 * Syscall user dispatch (prctl PR_SET_SYSCALL_USER_DISPATCH): system calls that become SIGSYS, as
 * emulators want it. Of each thread.
 *
 *   dump     PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG (Linux 6.4; before, the kernel's structure) before anything
 *            runs in the thread
 *   restore  PTRACE_SET_..., when nothing of ours runs in it any more
 *
 * The trap: our calls would be dispatched as well, and to switch it off meanwhile would not
 * survive an engine that is killed. So the selector must allow calls at that moment, as it does wherever a
 * thread waits in one.
 */
#include <inttypes.h>
#include <sys/ptrace.h>

#include "kernel/peek.h"
#include "task/parts.h"
#include "task/vma.h"

#define SET_DISPATCH_CONFIG	0x4210
#define GET_DISPATCH_CONFIG	0x4211
#define DISPATCH_ALLOWS		0		/* SYSCALL_DISPATCH_FILTER_ALLOW */
#define DISPATCH_EXCLUSIVE	1		/* PR_SYS_DISPATCH_ON */
#define DISPATCH_INCLUSIVE	2		/* PR_SYS_DISPATCH_INCLUSIVE_ON, Linux 6.17 */

#define WORK_DISPATCH		(1u << 5)	/* SYSCALL_WORK_SYSCALL_USER_DISPATCH, linux/thread_info.h */

/* struct ptrace_sud_config */
struct dispatch_config {
	uint64_t mode, selector, offset, len;
};

/*
 * Calls from a range only: the kernel notes, and tells, that all from outside of it are let through, as a range
 * that goes around the end of memory. It takes no such range back.
 */
static void tell_inclusive(struct dispatch_config *c)
{
	uint64_t end = c->offset;

	if (!end || end + c->len > end)
		return;
	c->mode = DISPATCH_INCLUSIVE;
	c->offset = end + c->len;
	c->len = end - c->offset;
}

static int config_peek(struct dump_ctx *ctx, pid_t tid, struct dispatch_config *c)
{
	uint64_t task, work;
	struct peek *pk;
	int r = dump_peek(ctx, &pk);

	if (r >= 0)
		r = peek_task(pk, tid, &task);
	if (r >= 0)
		r = peek_member(pk, task, "task_struct", "thread_info.syscall_work", 8, &work);
	if (r >= 0)
		r = peek_member(pk, task, "task_struct", "syscall_dispatch.selector", 8, &c->selector);
	if (r >= 0)
		r = peek_member(pk, task, "task_struct", "syscall_dispatch.offset", 8, &c->offset);
	if (r >= 0)
		r = peek_member(pk, task, "task_struct", "syscall_dispatch.len", 8, &c->len);
	c->mode = r >= 0 && work & WORK_DISPATCH;
	return r;
}

int dispatch_dump(struct dump_ctx *ctx, struct dump_thread *th)
{
	struct dispatch_config c = { 0 };
	SyscallDispatchEntry *e;
	uint8_t selector = DISPATCH_ALLOWS;
	int r;

	/* Without either nothing tells. */
	if ((ptrace(GET_DISPATCH_CONFIG, th->task.tid, sizeof(c), &c) < 0 && config_peek(ctx, th->task.tid, &c) < 0) ||
	    !c.mode)
		return 0;
	r = c.selector ? remote_read(&th->task, c.selector, &selector, sizeof(selector)) : 0;
	if (r < 0)
		return log_err(r, "cannot read the selector of its syscall user dispatch");
	if (!c.selector || selector != DISPATCH_ALLOWS)
		return log_obstacle("try again when the thread waits in a system call",
				    "thread %d does not let system calls through just now (syscall user dispatch)",
				    th->task.tid);
	if (!part_traits(ctx, th))
		return -ENOMEM;
	e = part_traits(ctx, th)->dispatch = ARENA_MSG(&ctx->arena, SyscallDispatchEntry, syscall_dispatch_entry);
	if (!e)
		return -ENOMEM;
	tell_inclusive(&c);
	e->mode = (uint32_t)c.mode;
	e->selector = c.selector;
	e->offset = c.offset;
	e->len = c.len;
	return 0;
}

static const SyscallDispatchEntry *entry_of(const struct restore_thread *th)
{
	const ThreadCoreEntry *tc = th->core->thread_core;

	return tc && tc->traits ? tc->traits->dispatch : NULL;
}

/* Makes no call: what the kernel would refuse when the whole tree stands is refused here, for what it is. */
static int dispatch_check(struct restore_ctx *ctx _unused_, struct restore_process *p _unused_,
			  struct restore_thread *th, struct batch *b _unused_)
{
	const SyscallDispatchEntry *e = entry_of(th);

	if (!e)
		return 0;
	if (e->mode != DISPATCH_EXCLUSIVE && e->mode != DISPATCH_INCLUSIVE)
		return log_fail(-EBADMSG, "syscall user dispatch of mode %u", e->mode);
	/* Without one no call is let through: of no thread that could be dumped. */
	if (!e->selector || e->selector >= TASK_END)
		return log_fail(-EBADMSG, "syscall user dispatch with its selector at 0x%" PRIx64, e->selector);
	/* None is a range only if calls from it are those that are let through. */
	if (e->offset + e->len < e->offset || (!e->len && (e->offset || e->mode == DISPATCH_INCLUSIVE)))
		return log_fail(-EBADMSG, "syscall user dispatch with a range of 0x%" PRIx64 " bytes at 0x%" PRIx64,
				e->len, e->offset);
	return 0;
}

static int dispatch_finish(struct restore_ctx *ctx _unused_, struct restore_process *p _unused_,
			   struct restore_thread *th)
{
	const SyscallDispatchEntry *e = entry_of(th);
	struct dispatch_config c;

	if (!e)
		return 0;
	c = (struct dispatch_config){ e->mode, e->selector, e->offset, e->len };
	if (ptrace(SET_DISPATCH_CONFIG, th->task.tid, sizeof(c), &c) < 0)
		return log_err(neg_errno(), "cannot set syscall user dispatch of thread %d (it takes Linux %s)",
			       th->task.tid, c.mode == DISPATCH_INCLUSIVE ? "6.17" : "6.4");
	return 0;
}

const struct task_part part_dispatch = {
	.name		= "syscall user dispatch",
	.stage		= STAGE_LATE,
	.restore_calls	= dispatch_check,
	.finish		= dispatch_finish,
};
