/* What all parts share: a thread's status text, and its messages made on demand. */
#include "task/parts.h"

int task_status(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th,
		const struct proc_status **ret)
{
	_cleanup_proc_status_ struct proc_status st = { 0 };
	struct proc_status *keep;
	int r;

	if (!th->status) {
		r = proc_status_read(p->proc_fd, th->task.tid, &st);
		if (r < 0)
			return log_err(r, "cannot read status of thread %d", th->task.tid);
		keep = arena_memdup(&ctx->arena, &st, sizeof(st));
		if (!keep)
			return -ENOMEM;
		keep->groups = NULL;
		if (st.n_groups) {
			keep->groups = arena_memdup(&ctx->arena, st.groups,
						    st.n_groups * sizeof(*st.groups));
			if (!keep->groups)
				return -ENOMEM;
		}
		th->status = keep;
	}
	*ret = th->status;
	return 0;
}

static CoreEntry *part_core(struct dump_ctx *ctx, struct dump_thread *th)
{
	if (!th->core) {
		th->core = ARENA_MSG(&ctx->arena, CoreEntry, core_entry);
		if (th->core)
			th->core->mtype = CORE_ENTRY__MARCH__X86_64;
	}
	return th->core;
}

TaskCoreEntry *part_tc(struct dump_ctx *ctx, struct dump_thread *th)
{
	CoreEntry *core = part_core(ctx, th);

	if (core && !core->tc)
		core->tc = ARENA_MSG(&ctx->arena, TaskCoreEntry, task_core_entry);
	return core ? core->tc : NULL;
}

ThreadCoreEntry *part_thread_core(struct dump_ctx *ctx, struct dump_thread *th)
{
	CoreEntry *core = part_core(ctx, th);

	if (core && !core->thread_core)
		core->thread_core = ARENA_MSG(&ctx->arena, ThreadCoreEntry, thread_core_entry);
	return core ? core->thread_core : NULL;
}

ThreadInfoX86 *part_thread_info(struct dump_ctx *ctx, struct dump_thread *th)
{
	CoreEntry *core = part_core(ctx, th);

	if (core && !core->thread_info)
		core->thread_info = ARENA_MSG(&ctx->arena, ThreadInfoX86, thread_info_x86);
	return core ? core->thread_info : NULL;
}

MmEntry *part_mm(struct dump_ctx *ctx, struct dump_process *p)
{
	if (!p->mm)
		p->mm = ARENA_MSG(&ctx->arena, MmEntry, mm_entry);
	return p->mm;
}
