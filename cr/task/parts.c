/* What all parts share: a thread's status text, and its messages made on demand. */
#include "task/parts.h"
#include "util/parallel.h"

#define PIECE	32u	/* fewer are read before a thread has begun */

struct statuses {
	const struct dump_process *p;
	struct proc_status *of;		/* by thread; in the arena */
	int *errors;			/* idem */
};

static int statuses_read(void *arg, unsigned int worker _unused_, uint64_t off, size_t n)
{
	struct statuses *s = arg;

	for (size_t i = off; i < off + n; i++)
		if (!s->p->threads[i].status)
			s->errors[i] = proc_status_read(s->p->proc_fd, s->p->threads[i].task.tid, &s->of[i]);
	return 0;
}

/* Groups are on the heap until here. */
static int status_keep(struct dump_ctx *ctx, struct dump_thread *th, struct proc_status *st)
{
	uint32_t *groups = st->groups;

	if (st->n_groups) {
		st->groups = arena_memdup(&ctx->arena, groups, st->n_groups * sizeof(*groups));
		free(groups);
		if (!st->groups)
			return -ENOMEM;
	}
	th->status = st;
	return 0;
}

/* All threads at once, by all processors: the kernel takes long to print one. */
static int status_read_all(struct dump_ctx *ctx, struct dump_process *p)
{
	struct statuses s = { .p = p };
	int r, ret = 0;

	s.of = arena_alloc(&ctx->arena, p->n_threads * sizeof(*s.of));
	s.errors = arena_alloc(&ctx->arena, p->n_threads * sizeof(*s.errors));
	r = s.of && s.errors ? parallel(p->n_threads, PIECE, statuses_read, &s) : -ENOMEM;
	if (r < 0)
		return r;
	for (size_t i = 0; i < p->n_threads; i++) {
		if (p->threads[i].status)
			continue;
		r = s.errors[i] < 0 ? log_err(s.errors[i], "cannot read status of thread %d", p->threads[i].task.tid)
				    : status_keep(ctx, &p->threads[i], &s.of[i]);
		ret = ret < 0 ? ret : r;
	}
	return ret;
}

int task_status(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th,
		const struct proc_status **ret)
{
	int r = th->status ? 0 : status_read_all(ctx, p);

	*ret = th->status;
	return r;
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
