/*
 * Restartable sequences: the per-thread area that the kernel and the C library share.
 *
 *   dump     PTRACE_GET_RSEQ_CONFIGURATION (Linux 5.13); extensions of the time slice (7.0): prctl(2) in the batch
 *   restore  rseq(2), prctl(2)
 *
 * The trap: a thread may be stopped inside a critical section. When it runs anything else, as a
 * batch does, the kernel sees its instruction pointer outside and forgets the section: the abort
 * is lost and the section would go on with a stale CPU number. So the abort is carried out here
 * before the first batch, the way the kernel does it for a signal.
 */
#include <linux/rseq.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "task/parts.h"

#define RSEQ_CS_FIELD_OFF 8	/* struct rseq: cpu_id_start, cpu_id, then rseq_cs */
#ifndef PR_RSEQ_SLICE_EXTENSION
#define PR_RSEQ_SLICE_EXTENSION		79
#define PR_RSEQ_SLICE_EXTENSION_GET	1
#define PR_RSEQ_SLICE_EXTENSION_SET	2
#define PR_RSEQ_SLICE_EXT_ENABLE	1
#endif

struct rseq_cookie {
	int slice;
};

/* 0: no rseq, also where the kernel cannot tell. */
static int rseq_config(pid_t tid, struct __ptrace_rseq_configuration *ret)
{
	long n = ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(*ret), ret);

	if (n < 0)
		return neg_errno();
	if ((size_t)n < offsetof(struct __ptrace_rseq_configuration, flags))
		return -EIO;
	return ret->rseq_abi_pointer != 0;
}

/* Where the kernel would send the thread; it kills one whose section is malformed, we do not. */
static bool cs_abort_is_valid(struct task *t, const struct rseq_cs *cs, uint32_t signature)
{
	uint32_t found;

	if (cs->version != 0 || cs->abort_ip - cs->start_ip < cs->post_commit_offset)
		return false;
	if (remote_read(t, cs->abort_ip - sizeof(found), &found, sizeof(found)) < 0)
		return false;
	return found == signature;
}

int rseq_leave_critical_section(struct task *t, uint64_t *ret_cs)
{
	const uint64_t none = 0;
	struct __ptrace_rseq_configuration conf;
	uint64_t t_cs, t_field;
	struct rseq_cs cs;
	int changed = 0, r;

	if (ret_cs)
		*ret_cs = 0;
	r = rseq_config(t->tid, &conf);
	if (r <= 0)
		return r;
	t_field = conf.rseq_abi_pointer + RSEQ_CS_FIELD_OFF;
	r = remote_read(t, t_field, &t_cs, sizeof(t_cs));
	if (r < 0 || !t_cs)
		return r;
	r = remote_read(t, t_cs, &cs, sizeof(cs));
	if (r < 0)
		return r;
	if (t->regs.rip - cs.start_ip < cs.post_commit_offset) {
		if (cs.flags & RSEQ_CS_FLAG_NO_RESTART_ON_SIGNAL) {
			if (ret_cs)
				*ret_cs = t_cs;
		} else if (cs_abort_is_valid(t, &cs, conf.signature)) {
			t->regs.rip = cs.abort_ip;
			changed = 1;
		} else {
			log_warn("thread %d is inside a malformed restartable sequence", t->tid);
		}
	}
	/* As the kernel does after an abort, and lazily for a section that was left. */
	r = remote_write(t, t_field, &none, sizeof(none));
	return r < 0 ? r : changed;
}

static int rseq_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	RseqEntry *e = ARENA_MSG(&ctx->arena, RseqEntry, rseq_entry);
	struct __ptrace_rseq_configuration conf = { 0 };
	int r;

	(void)p;
	if (!tc || !e)
		return -ENOMEM;
	r = rseq_config(th->task.tid, &conf);
	if (r == -EIO || r == -EINVAL)
		return log_obstacle("use Linux 5.13 or later, with CONFIG_RSEQ",
				    "thread %d: its rseq registration cannot be read",
				    th->task.tid);
	if (r < 0)
		return log_err(r, "cannot read the rseq registration of thread %d", th->task.tid);
	e->rseq_abi_pointer = conf.rseq_abi_pointer;
	e->rseq_abi_size = conf.rseq_abi_size;
	e->signature = conf.signature;
	/* Put there already by whoever kept rseq_leave_critical_section()'s section. */
	if (tc->rseq_entry && tc->rseq_entry->has_rseq_cs_pointer) {
		e->has_rseq_cs_pointer = true;
		e->rseq_cs_pointer = tc->rseq_entry->rseq_cs_pointer;
	}
	tc->rseq_entry = e;
	return 0;
}

/* The kernel's doing, so asked for once. */
static bool slices_are_extended(void)
{
	static int are = -1;

	if (are < 0)
		are = prctl(PR_RSEQ_SLICE_EXTENSION, PR_RSEQ_SLICE_EXTENSION_GET, 0, 0, 0) >= 0;
	return are;
}

static int rseq_dump_calls(struct dump_ctx *ctx, struct dump_process *p _unused_, struct dump_thread *th _unused_,
			   struct batch *b, void **cookie)
{
	struct rseq_cookie *c = ARENA_NEW(&ctx->arena, struct rseq_cookie);

	if (!c)
		return -ENOMEM;
	if (slices_are_extended())
		c->slice = batch_try(b, SYS_prctl, PR_RSEQ_SLICE_EXTENSION, PR_RSEQ_SLICE_EXTENSION_GET, 0, 0, 0);
	*cookie = c;
	return 0;
}

static int rseq_dump_results(struct dump_ctx *ctx, struct dump_process *p _unused_, struct dump_thread *th,
			     struct batch *b, void *cookie)
{
	const struct rseq_cookie *c = cookie;
	ThreadTraitsEntry *e;

	if (!slices_are_extended() || batch_ret(b, c->slice) != PR_RSEQ_SLICE_EXT_ENABLE)
		return 0;
	e = part_traits(ctx, th);
	if (!e)
		return -ENOMEM;
	e->has_rseq_slice = e->rseq_slice = true;
	return 0;
}

static const RseqEntry *rseq_of(const struct restore_thread *th)
{
	const ThreadCoreEntry *tc = th->core->thread_core;

	return tc && tc->rseq_entry && tc->rseq_entry->rseq_abi_pointer ? tc->rseq_entry : NULL;
}

static int rseq_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
			      struct restore_thread *th, struct batch *b)
{
	const RseqEntry *e = rseq_of(th);

	(void)ctx;
	(void)p;
	if (!e)
		return 0;
	batch_call_(b, "rseq", false, 334 /* SYS_rseq */,
		    BATCH_ARGS_(e->rseq_abi_pointer, e->rseq_abi_size, 0, e->signature, 0, 0, 0));
	if (!th->core->thread_core->traits || !th->core->thread_core->traits->rseq_slice)
		return 0;
	/* Without it a thread only waits longer for others that hold a lock: no reason to refuse it. */
	if (slices_are_extended())
		batch_try(b, SYS_prctl, PR_RSEQ_SLICE_EXTENSION, PR_RSEQ_SLICE_EXTENSION_SET, PR_RSEQ_SLICE_EXT_ENABLE,
			  0, 0);
	else
		log_warn("thread %d loses the extension of its time slice (PR_RSEQ_SLICE_EXTENSION): this kernel has none",
			 th->task.tid);
	return 0;
}

static int rseq_finish(struct restore_ctx *ctx, struct restore_process *p,
		       struct restore_thread *th)
{
	const RseqEntry *e = rseq_of(th);
	int r;

	(void)ctx;
	(void)p;
	if (!e || !e->has_rseq_cs_pointer)
		return 0;
	r = remote_write(&th->task, e->rseq_abi_pointer + RSEQ_CS_FIELD_OFF, &e->rseq_cs_pointer,
			 sizeof(e->rseq_cs_pointer));
	if (r < 0)
		return log_err(r, "thread %d: cannot put its restartable sequence back",
			       th->task.tid);
	return 0;
}

const struct task_part part_rseq = {
	.name		= "rseq",
	.stage		= STAGE_LATE,
	.dump		= rseq_dump,
	.dump_calls	= rseq_dump_calls,
	.dump_results	= rseq_dump_results,
	.restore_calls	= rseq_restore_calls,
	.finish		= rseq_finish,
};
