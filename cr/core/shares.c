/*
 * Who shares what by clone(2): any task may with any other, for only their birth decides, and neither the tree nor
 * a session tells afterwards. Judged by core/thread_shares.c.
 *
 *   dump     where the kernel has it, of all tasks of the machine in one go (kernel/peek.h): 0.5 µs each.
 *            Elsewhere kcmp(2), 1.2 µs, by whose order sharers within the tree are found: 40 µs for each of
 *            1,000 processes. Those outside are not looked for then, that would be as much for each of them.
 *
 * What shares a signal handler table (CLONE_SIGHAND) shares its memory, too: the kernel allows nothing else.
 */
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/shares.h"

/* include/linux/sched.h of the kernel. It borrows memory of processes that it works for. */
#define PF_KTHREAD	0x200000u

struct sharer *shares_first(const struct dump_ctx *ctx, const struct dump_thread *th, enum task_share s)
{
	return th->shares[s] ? map_get(&ctx->sharers, th->shares[s]) : NULL;
}

static int threads_by_tid(struct dump_ctx *ctx, struct map *ret)
{
	int r = 0;

	for (size_t i = 0; i < ctx->n_procs; i++)
		for (size_t k = 0; r >= 0 && k < ctx->procs[i]->n_threads; k++) {
			struct dump_thread *th = &ctx->procs[i]->threads[k];

			r = map_put(ret, (uint64_t)th->task.tid, th);
		}
	return r;
}

static int sharers_of_tree(struct dump_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		struct dump_process *p = ctx->procs[i];

		for (size_t k = 0; k < p->n_threads; k++)
			/* All have the same namespaces, as a rule, and who else has them is no matter. */
			for (enum task_share s = 0; s < SHARE_NS; s++) {
				const struct dump_thread *th = &p->threads[k];
				struct sharer *h;

				if (!th->shares[s] || map_get(&ctx->sharers, th->shares[s]))
					continue;
				h = ARENA_NEW(&ctx->arena, struct sharer);
				if (!h || map_put(&ctx->sharers, th->shares[s], h) < 0)
					return -ENOMEM;
				*h = (struct sharer){ .p = p, .tid = th->task.tid };
			}
	}
	return 0;
}

/* One that is being killed has lost them. */
static bool has_all(const struct dump_thread *th)
{
	return th->shares[SHARE_VM] && th->shares[SHARE_FILES] && th->shares[SHARE_FS];
}

/* -EOPNOTSUPP: it is not all there. */
static int see(struct dump_ctx *ctx, const struct peek_task_shares *all, size_t n)
{
	_cleanup_(map_done) struct map by_tid = { 0 };
	size_t left;
	int r = threads_by_tid(ctx, &by_tid);

	left = by_tid.n;
	for (size_t i = 0; r >= 0 && i < n; i++) {
		struct dump_thread *th = map_get(&by_tid, all[i].tid);

		if (!th)
			continue;
		memcpy(th->shares, all[i].at, sizeof(th->shares));
		th->flags = (unsigned int)all[i].flags;
		left -= has_all(th);
	}
	if (r >= 0)
		r = left ? -EOPNOTSUPP : sharers_of_tree(ctx);
	for (size_t i = 0; r >= 0 && i < n; i++) {
		if (all[i].flags & PF_KTHREAD || dump_process_find(ctx, (pid_t)all[i].pid))
			continue;
		for (enum task_share s = 0; s < SHARE_NS; s++) {
			struct sharer *h = all[i].at[s] ? map_get(&ctx->sharers, all[i].at[s]) : NULL;

			if (h)
				h->outside = (pid_t)all[i].pid;
		}
	}
	return r;
}

/* Numbers take the place of addresses. In kcmp's order, for each of the three. */
struct order {
	const struct dump_thread **v;
	size_t n;
};

/* As in enum task_share. */
static const int kcmp_types[] = { KCMP_VM, KCMP_FILES, KCMP_FS };

/* 0: the same; 1, 2: an order that does not change. */
static int compare_tasks(const struct dump_thread *a, const struct dump_thread *b, enum task_share s)
{
	long c = syscall(SYS_kcmp, a->task.tid, b->task.tid, kcmp_types[s], 0, 0);

	return c < 0 ? log_err(neg_errno(), "kcmp of tasks %d and %d", a->task.tid, b->task.tid) : (int)c;
}

static int order_find(struct dump_ctx *ctx, struct order *o, struct dump_thread *th, enum task_share s, uint64_t *next)
{
	size_t lo = 0, hi = o->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = compare_tasks(th, o->v[mid], s);

		if (c < 0)
			return c;
		if (!c) {
			th->shares[s] = o->v[mid]->shares[s];
			return 0;
		}
		if (c == 1)
			hi = mid;
		else
			lo = mid + 1;
	}
	if (!ARENA_PUSH(&ctx->arena, o->v, o->n))
		return -ENOMEM;
	memmove(o->v + lo + 1, o->v + lo, (o->n - 1 - lo) * sizeof(*o->v));
	o->v[lo] = th;
	th->shares[s] = ++*next;
	return 0;
}

/* near: whoever most probably has the same. NULL: nobody. */
static int compare(struct dump_ctx *ctx, struct order orders[], struct dump_thread *th, const struct dump_thread *near,
		   uint64_t *next)
{
	for (enum task_share s = 0; s < ARRAY_SIZE(kcmp_types); s++) {
		int r = near ? compare_tasks(th, near, s) : 1;

		if (!r)
			th->shares[s] = near->shares[s];
		else if (r > 0)
			r = order_find(ctx, &orders[s], th, s, next);
		if (r < 0)
			return r;
	}
	return 0;
}

static int compare_all(struct dump_ctx *ctx)
{
	struct order orders[ARRAY_SIZE(kcmp_types)] = { 0 };
	uint64_t next = 0;
	int r = 0;

	for (size_t i = 0; i < ctx->n_procs; i++) {
		struct dump_process *p = ctx->procs[i], *parent = p->parent;

		for (size_t k = 0; r >= 0 && k < p->n_threads; k++) {
			struct dump_thread *th = &p->threads[k];

			memset(th->shares, 0, sizeof(th->shares));
			r = compare(ctx, orders, th, k ? p->threads : parent ? parent->threads : NULL, &next);
		}
	}
	return r < 0 ? r : sharers_of_tree(ctx);
}

int shares_find(struct dump_ctx *ctx)
{
	_cleanup_free_ struct peek_task_shares *all = NULL;
	size_t n;
	int r = ctx->peek ? peek_shares(ctx->peek, &all, &n) : -EOPNOTSUPP;

	if (r >= 0)
		r = see(ctx, all, n);
	return r < 0 && r != -ENOMEM ? compare_all(ctx) : r;
}
