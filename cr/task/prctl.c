/*
 * Small things of a process behind prctl(2), membarrier(2) and umask(2).
 *
 *   dump     the "get" calls in the batch; the umask from /proc/PID/status
 *   restore  the "set" calls. Every change of credentials clears the parent-death signal and
 *            resets dumpable, so both come after them, in each thread.
 *
 * personality is written here for information: what is restored is each thread's own (traits.c).
 */
#include <linux/membarrier.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "task/parts.h"

#ifndef PR_THP_DISABLE_EXCEPT_ADVISED
#define PR_THP_DISABLE_EXCEPT_ADVISED (1 << 1)	/* Linux 6.18 */
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65				/* Linux 6.3 */
#define PR_GET_MDWE 66
#endif
#ifndef PR_GET_MEMORY_MERGE
#define PR_GET_MEMORY_MERGE 68			/* Linux 6.4 */
#endif
#define MDWE_KNOWN 3u				/* REFUSE_EXEC_GAIN, NO_INHERIT */
#define MEMBARRIER_GET_REGISTRATIONS (1 << 9)	/* Linux 6.3 */
#define MEMBARRIER_REGISTER_ALL						\
	(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED |			\
	 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED |			\
	 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE |		\
	 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ)
#define SIGNAL_LAST 64

struct prctl_cookie {
	uint64_t t_subreaper;
	int dumpable, thp, personality, mdwe, merge;
};

static int prctl_dump_calls(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th,
			    struct batch *b, void **cookie)
{
	struct prctl_cookie *c = ARENA_NEW(&ctx->arena, struct prctl_cookie);

	(void)p;
	(void)th;
	if (!c)
		return -ENOMEM;
	c->t_subreaper = batch_put(b, NULL, 4);
	batch_call(b, SYS_prctl, PR_GET_CHILD_SUBREAPER, c->t_subreaper);
	c->dumpable = batch_call(b, SYS_prctl, PR_GET_DUMPABLE);
	c->thp = batch_call(b, SYS_prctl, PR_GET_THP_DISABLE);
	c->personality = batch_call(b, SYS_personality, 0xffffffffu);
	c->mdwe = batch_try(b, SYS_prctl, PR_GET_MDWE, 0, 0, 0, 0);
	c->merge = batch_try(b, SYS_prctl, PR_GET_MEMORY_MERGE, 0, 0, 0, 0);
	*cookie = c;
	return 0;
}

static int prctl_dump_results(struct dump_ctx *ctx, struct dump_process *p,
			      struct dump_thread *th, struct batch *b, void *cookie)
{
	struct prctl_cookie *c = cookie;
	TaskCoreEntry *tc = part_tc(ctx, th);
	MmEntry *mm = part_mm(ctx, p);
	int64_t thp = batch_ret(b, c->thp);

	if (!tc || !mm)
		return -ENOMEM;
	tc->has_child_subreaper = true;
	tc->child_subreaper = *(int32_t *)batch_data(b, c->t_subreaper) != 0;
	tc->personality = (uint32_t)batch_ret(b, c->personality);
	mm->has_dumpable = true;
	mm->dumpable = (int32_t)batch_ret(b, c->dumpable);
	mm->has_thp_disabled = true;
	mm->thp_disabled = thp != 0;
	mm->has_thp_disable_flags = mm->thp_disable_flags = thp & PR_THP_DISABLE_EXCEPT_ADVISED;
	mm->mdwe = (uint32_t)MAX(batch_ret(b, c->mdwe), (int64_t)0);
	mm->has_mdwe = mm->mdwe != 0;
	mm->has_memory_merge = mm->memory_merge = batch_ret(b, c->merge) == 1;
	return 0;
}

static int prctl_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
			       struct restore_thread *th, struct batch *b)
{
	(void)ctx;
	if (p->mm && p->mm->has_thp_disabled)
		batch_call(b, SYS_prctl, PR_SET_THP_DISABLE, p->mm->thp_disabled != 0,
			   p->mm->thp_disabled ? p->mm->thp_disable_flags : 0, 0, 0);
	if (th->core->tc && th->core->tc->has_child_subreaper)
		batch_call(b, SYS_prctl, PR_SET_CHILD_SUBREAPER,
			   th->core->tc->child_subreaper != 0);
	return 0;
}

const struct task_part part_prctl = {
	.name		= "prctl",
	.leader_only	= true,
	.stage		= STAGE_STATE,
	.dump_calls	= prctl_dump_calls,
	.dump_results	= prctl_dump_results,
	.restore_calls	= prctl_restore_calls,
};

/* Of the engine's own mappings some are writable and executable: when all else stands. */
static int mdwe_restore_calls(struct restore_ctx *ctx _unused_, struct restore_process *p,
			      struct restore_thread *th _unused_, struct batch *b)
{
	if (!p->mm || !p->mm->mdwe)
		return 0;
	if (p->mm->mdwe & ~MDWE_KNOWN)
		return part_bad("mm-%u.img: PR_SET_MDWE 0x%x", p->pst->pid, p->mm->mdwe);
	batch_call(b, SYS_prctl, PR_SET_MDWE, p->mm->mdwe, 0, 0, 0);
	return 0;
}

const struct task_part part_mdwe = {
	.name		= "memory-deny-write-execute",
	.leader_only	= true,
	.stage		= STAGE_LATE,
	.restore_calls	= mdwe_restore_calls,
};

struct membarrier_cookie {
	int call;
};

static int membarrier_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
				 struct dump_thread *th, struct batch *b, void **cookie)
{
	struct membarrier_cookie *c = ARENA_NEW(&ctx->arena, struct membarrier_cookie);

	(void)p;
	(void)th;
	if (!c)
		return -ENOMEM;
	c->call = batch_try(b, SYS_membarrier, MEMBARRIER_GET_REGISTRATIONS, 0, 0);
	*cookie = c;
	return 0;
}

static int membarrier_dump_results(struct dump_ctx *ctx, struct dump_process *p,
				   struct dump_thread *th, struct batch *b, void *cookie)
{
	int64_t mask = batch_ret(b, ((struct membarrier_cookie *)cookie)->call);
	TaskCoreEntry *tc = part_tc(ctx, th);

	if (!tc)
		return -ENOMEM;
	if (mask < 0)	/* before Linux 6.3 nothing tells */
		log_debug("process %d: membarrier registrations are unknown", p->pid);
	if (mask <= 0)
		return 0;
	tc->has_membarrier_registration_mask = true;
	tc->membarrier_registration_mask = (uint32_t)mask;
	return 0;
}

static int membarrier_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
				    struct restore_thread *th, struct batch *b)
{
	const TaskCoreEntry *tc = th->core->tc;
	uint32_t mask;

	(void)ctx;
	(void)p;
	if (!tc || !tc->has_membarrier_registration_mask)
		return 0;
	mask = tc->membarrier_registration_mask;
	if (mask & ~(uint32_t)MEMBARRIER_REGISTER_ALL)
		return part_bad("core image: membarrier registrations 0x%x", mask);
	for (uint32_t bit = 1; bit <= mask; bit <<= 1)
		if (mask & bit)
			batch_call(b, SYS_membarrier, bit, 0, 0);
	return 0;
}

const struct task_part part_membarrier = {
	.name		= "membarrier",
	.leader_only	= true,
	.stage		= STAGE_STATE,
	.dump_calls	= membarrier_dump_calls,
	.dump_results	= membarrier_dump_results,
	.restore_calls	= membarrier_restore_calls,
};

static int umask_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
			       struct restore_thread *th, struct batch *b)
{
	(void)ctx;
	(void)th;
	if (p->fs && p->fs->has_umask)
		batch_call(b, SYS_umask, p->fs->umask & 0777);
	return 0;
}

const struct task_part part_umask = {
	.name		= "umask",
	.leader_only	= true,
	.stage		= STAGE_STATE,
	.restore_calls	= umask_restore_calls,
};

struct pdeath_cookie {
	uint64_t t_sig;
};

static int pdeath_dump_calls(struct dump_ctx *ctx, struct dump_process *p,
			     struct dump_thread *th, struct batch *b, void **cookie)
{
	struct pdeath_cookie *c = ARENA_NEW(&ctx->arena, struct pdeath_cookie);

	(void)p;
	(void)th;
	if (!c)
		return -ENOMEM;
	c->t_sig = batch_put(b, NULL, 4);
	batch_call(b, SYS_prctl, PR_GET_PDEATHSIG, c->t_sig);
	*cookie = c;
	return 0;
}

static int pdeath_dump_results(struct dump_ctx *ctx, struct dump_process *p,
			       struct dump_thread *th, struct batch *b, void *cookie)
{
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	int32_t sig = *(int32_t *)batch_data(b, ((struct pdeath_cookie *)cookie)->t_sig);

	(void)p;
	if (!tc)
		return -ENOMEM;
	if (sig > 0) {
		tc->has_pdeath_sig = true;
		tc->pdeath_sig = (uint32_t)sig;
	}
	return 0;
}

static int pdeath_dumpable_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
					 struct restore_thread *th, struct batch *b)
{
	const ThreadCoreEntry *tc = th->core->thread_core;

	(void)ctx;
	if (tc && tc->has_pdeath_sig) {
		if (tc->pdeath_sig > SIGNAL_LAST)
			return part_bad("core image: parent-death signal %u", tc->pdeath_sig);
		batch_call(b, SYS_prctl, PR_SET_PDEATHSIG, tc->pdeath_sig);
	}
	/*
	 * 2 ("root only") comes from fs.suid_dumpable and cannot be asked for: 0 is the stricter.
	 * Of the whole process: each thread repeats it since each one's credentials reset it.
	 */
	if (p->mm && p->mm->has_dumpable)
		batch_call(b, SYS_prctl, PR_SET_DUMPABLE, p->mm->dumpable == 1);
	return 0;
}

const struct task_part part_pdeath_dumpable = {
	.name		= "parent-death signal, dumpable",
	.stage		= STAGE_LATE,
	.dump_calls	= pdeath_dump_calls,
	.dump_results	= pdeath_dump_results,
	.restore_calls	= pdeath_dumpable_restore_calls,
};
