/*
 * Small things that each thread has for itself, and that it hands on to what it clones: I/O
 * priority, timer slack, personality, rdtsc and cpuid allowed or not, what memory errors do to
 * it, controls of speculation.
 *
 *   dump     ioprio_get(2) from outside; prctl(2), personality(2), arch_prctl(2) in the batch
 *   restore  the "set" calls, where it differs from what the engine has and so hands on
 *
 * Late: READ_IMPLIES_EXEC makes every later mapping executable. What a thread would go back to
 * (PR_SET_TIMERSLACK 0) nothing tells: that is the engine's timer slack.
 *
 * CRIU's personality is the hexadecimal text of /proc read as decimal, and never used.
 */
#include <linux/ioprio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "kernel/stat.h"
#include "task/parts.h"

#ifndef ARCH_GET_CPUID
#define ARCH_GET_CPUID 0x1011
#define ARCH_SET_CPUID 0x1012
#endif
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57			/* Linux 5.6 */
#define PR_GET_IO_FLUSHER 58
#endif
#ifndef PR_SPEC_L1D_FLUSH
#define PR_SPEC_L1D_FLUSH 2			/* Linux 5.15 */
#endif
#ifndef PR_SPEC_DISABLE_NOEXEC
#define PR_SPEC_DISABLE_NOEXEC (1 << 4)		/* Linux 5.1 */
#endif
#define PERSONALITY_ASK	0xffffffffu
/* PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE, include/linux/sched.h of the kernel: what PR_SET_IO_FLUSHER sets. */
#define PF_IO_FLUSHER	0x180000u

static const struct spec {
	unsigned long which;
	const char *name;
	long usual;			/* what nobody has to ask for */
} specs[] = {
	{ PR_SPEC_STORE_BYPASS, "PR_SPEC_STORE_BYPASS", PR_SPEC_ENABLE },
	{ PR_SPEC_INDIRECT_BRANCH, "PR_SPEC_INDIRECT_BRANCH", PR_SPEC_ENABLE },
	/* Here it is the flush that is enabled, not a speculation. */
	{ PR_SPEC_L1D_FLUSH, "PR_SPEC_L1D_FLUSH", PR_SPEC_DISABLE },
};

struct traits_cookie {
	uint64_t t_tsc;
	int slack, personality, tsc, mce, cpuid, flusher, spec[ARRAY_SIZE(specs)];
};

ThreadTraitsEntry *part_traits(struct dump_ctx *ctx, struct dump_thread *th)
{
	ThreadCoreEntry *tc = part_thread_core(ctx, th);

	if (tc && !tc->traits)
		tc->traits = ARENA_MSG(&ctx->arena, ThreadTraitsEntry, thread_traits_entry);
	return tc ? tc->traits : NULL;
}

/* Before Linux 6.0 "none" may come with a level, which cannot be set. */
static uint32_t io_priority(long prio)
{
	return IOPRIO_PRIO_CLASS(prio) == IOPRIO_CLASS_NONE ? 0 : (uint32_t)prio;
}

void traits_inherit(struct task_inherit *in)
{
	long prio = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);

	in->io_priority = prio < 0 ? 0 : io_priority(prio);
	in->timer_slack_nsec = (uint64_t)syscall(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
	in->personality = (uint32_t)personality(PERSONALITY_ASK);
}

static int traits_dump(struct dump_ctx *ctx, struct dump_process *p _unused_, struct dump_thread *th)
{
	ThreadTraitsEntry *e = part_traits(ctx, th);
	long prio = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, th->task.tid);

	if (!e)
		return -ENOMEM;
	if (prio < 0 && errno == ENOSYS)	/* no CONFIG_BLOCK */
		return 0;
	if (prio < 0)
		return log_err(neg_errno(), "cannot read the I/O priority of thread %d", th->task.tid);
	e->has_io_priority = true;
	e->io_priority = io_priority(prio);
	return 0;
}

static int traits_dump_calls(struct dump_ctx *ctx, struct dump_process *p _unused_,
			     struct dump_thread *th _unused_, struct batch *b, void **cookie)
{
	struct traits_cookie *c = ARENA_NEW(&ctx->arena, struct traits_cookie);

	if (!c)
		return -ENOMEM;
	/* It never fails: what looks like an error is a slack without end (PR_SET_TIMERSLACK -1). */
	c->slack = batch_try(b, SYS_prctl, PR_GET_TIMERSLACK);
	c->personality = batch_call(b, SYS_personality, PERSONALITY_ASK);
	c->t_tsc = batch_put(b, NULL, 4);
	c->tsc = batch_try(b, SYS_prctl, PR_GET_TSC, c->t_tsc);
	c->mce = batch_try(b, SYS_prctl, PR_MCE_KILL_GET, 0, 0, 0, 0);
	c->cpuid = batch_try(b, SYS_arch_prctl, ARCH_GET_CPUID);
	c->flusher = batch_try(b, SYS_prctl, PR_GET_IO_FLUSHER, 0, 0, 0, 0);
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
		c->spec[i] = batch_try(b, SYS_prctl, PR_GET_SPECULATION_CTRL, specs[i].which, 0, 0, 0);
	*cookie = c;
	return 0;
}

/* 0: the machine's, or what it would be anyway. */
static uint32_t spec_of(const struct spec *s, int64_t value)
{
	if (value < 0 || !(value & PR_SPEC_PRCTL) || value == (int64_t)PR_SPEC_PRCTL + s->usual)
		return 0;
	return (uint32_t)value & ~(uint32_t)PR_SPEC_PRCTL;
}

/* What it is told by needs CAP_SYS_RESOURCE, which it may have dropped since. */
static int is_io_flusher(const struct dump_thread *th, int64_t told)
{
	struct proc_stat st = { .flags = th->flags };
	int r;

	if (told != -EPERM)
		return told == 1;
	r = st.flags ? 0 : proc_stat_of(th->task.tid, &st);
	if (r < 0)
		return log_fail(r, "cannot read /proc/%d/stat: %s", th->task.tid, strerror(-r));
	return (st.flags & PF_IO_FLUSHER) == PF_IO_FLUSHER;
}

static int traits_dump_results(struct dump_ctx *ctx, struct dump_process *p _unused_,
			       struct dump_thread *th, struct batch *b, void *cookie)
{
	struct traits_cookie *c = cookie;
	ThreadTraitsEntry *e = part_traits(ctx, th);
	int64_t mce = batch_ret(b, c->mce);
	int flusher = is_io_flusher(th, batch_ret(b, c->flusher));

	if (!e)
		return -ENOMEM;
	if (flusher < 0)
		return flusher;
	e->has_timer_slack_nsec = e->has_personality = true;
	e->timer_slack_nsec = (uint64_t)batch_ret(b, c->slack);
	e->personality = (uint32_t)batch_ret(b, c->personality);
	e->tsc = (uint32_t)*(int32_t *)batch_data(b, c->t_tsc);
	e->has_tsc = !batch_ret(b, c->tsc) && e->tsc != PR_TSC_ENABLE;
	e->has_mce_kill = mce >= 0 && mce != PR_MCE_KILL_DEFAULT;
	e->mce_kill = (uint32_t)mce;
	e->has_cpuid_faults = e->cpuid_faults = !batch_ret(b, c->cpuid);
	e->has_io_flusher = e->io_flusher = flusher;
	e->spec_store_bypass = spec_of(&specs[0], batch_ret(b, c->spec[0]));
	e->spec_indirect_branch = spec_of(&specs[1], batch_ret(b, c->spec[1]));
	e->spec_l1d_flush = spec_of(&specs[2], batch_ret(b, c->spec[2]));
	e->has_spec_store_bypass = e->spec_store_bypass != 0;
	e->has_spec_indirect_branch = e->spec_indirect_branch != 0;
	e->has_spec_l1d_flush = e->spec_l1d_flush != 0;
	return 0;
}

static bool is_spec_value(uint32_t v)
{
	return v == PR_SPEC_ENABLE || v == PR_SPEC_DISABLE || v == PR_SPEC_FORCE_DISABLE ||
	       v == PR_SPEC_DISABLE_NOEXEC;
}

/* A machine that has not got the flaw, or that has it switched off for all, gives what was asked for. */
static int spec_restore(const struct spec *s, uint32_t want, struct batch *b)
{
	long now;

	if (!want)
		return 0;
	if (!is_spec_value(want))
		return part_bad("core image: %s 0x%x", s->name, want);
	now = prctl(PR_GET_SPECULATION_CTRL, s->which, 0, 0, 0);
	if (now == PR_SPEC_NOT_AFFECTED || (now == PR_SPEC_DISABLE && want != PR_SPEC_ENABLE))
		return 0;
	if (now < 0 || !(now & PR_SPEC_PRCTL))
		return log_fail(-EOPNOTSUPP, "it has %s 0x%x, which this machine does not let a thread choose "
				"(see spec_store_bypass_disable=, spectre_v2_user=, l1d_flush= of the kernel)",
				s->name, want);
	batch_call(b, SYS_prctl, PR_SET_SPECULATION_CTRL, s->which, want, 0, 0);
	return 0;
}

static int specs_restore(const ThreadTraitsEntry *e, struct batch *b)
{
	int r;

	r = spec_restore(&specs[0], e->spec_store_bypass, b);
	if (r >= 0)
		r = spec_restore(&specs[1], e->spec_indirect_branch, b);
	return r < 0 ? r : spec_restore(&specs[2], e->spec_l1d_flush, b);
}

static int traits_check(const ThreadTraitsEntry *e)
{
	if (e->io_priority > UINT16_MAX)
		return part_bad("core image: I/O priority 0x%x", e->io_priority);
	if (e->personality == PERSONALITY_ASK)
		return part_bad("core image: personality 0x%x", e->personality);
	if (e->has_tsc && e->tsc != PR_TSC_ENABLE && e->tsc != PR_TSC_SIGSEGV)
		return part_bad("core image: PR_SET_TSC %u", e->tsc);
	if (e->has_mce_kill && e->mce_kill > PR_MCE_KILL_DEFAULT)
		return part_bad("core image: PR_MCE_KILL %u", e->mce_kill);
	return 0;
}

static int traits_restore_calls(struct restore_ctx *ctx, struct restore_process *p _unused_,
				struct restore_thread *th, struct batch *b)
{
	const ThreadTraitsEntry *e = th->core->thread_core ? th->core->thread_core->traits : NULL;
	const struct task_inherit *in;
	int r;

	if (!e)
		return 0;
	r = traits_check(e);
	if (r < 0)
		return r;
	in = task_inherit(ctx);
	if (!in)
		return -EIO;
	/* From outside: real-time ones take a capability that a user namespace has not. */
	if (e->has_io_priority && e->io_priority != in->io_priority &&
	    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, th->task.tid, e->io_priority) < 0)
		return log_err(neg_errno(), "cannot give thread %d its I/O priority 0x%x", th->task.tid,
			       e->io_priority);
	/* A real-time thread has none, and 0 would ask for another one. */
	if (e->timer_slack_nsec && e->timer_slack_nsec != in->timer_slack_nsec)
		batch_call(b, SYS_prctl, PR_SET_TIMERSLACK, e->timer_slack_nsec);
	if (e->has_tsc)
		batch_call(b, SYS_prctl, PR_SET_TSC, e->tsc);
	if (e->has_mce_kill)
		batch_call(b, SYS_prctl, PR_MCE_KILL, PR_MCE_KILL_SET, e->mce_kill, 0, 0);
	if (e->cpuid_faults)
		batch_call(b, SYS_arch_prctl, ARCH_SET_CPUID, 0);
	if (e->io_flusher)
		batch_call(b, SYS_prctl, PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	r = specs_restore(e, b);
	if (r >= 0 && e->has_personality && e->personality != in->personality)
		batch_call(b, SYS_personality, e->personality);
	return r;
}

const struct task_part part_thread_traits = {
	.name		= "I/O priority, timer slack, personality, speculation",
	.stage		= STAGE_LATE,
	.dump		= traits_dump,
	.dump_calls	= traits_dump_calls,
	.dump_results	= traits_dump_results,
	.restore_calls	= traits_restore_calls,
};
