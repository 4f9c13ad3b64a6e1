/*
 * Pages shared by copy-on-write, saved once.
 *
 * A page is shared when the page tables of both processes have the same frame (or place in swap)
 * at the same address and neither calls it exclusive. Nothing is read for that. Of a process's
 * ancestors one is its source: the topmost that shares nearly as much with it as the best does,
 * so that the workers of one master agree on it.
 *
 * In the images the source's pages are in the directory "shared", which `parent` leads to. There
 * the source and all who refer to it have the same page map and the same pages file; in the images
 * proper their shared pages are PE_PARENT. So to any reader of CRIU's format it is an earlier dump
 * of the same tree. See docs/engine.md.
 *
 * Frames are told to CAP_SYS_ADMIN only. Without it everything is saved in full.
 */
#include "image/pages.h"
#include "task/mem_cow.h"
#include "task/mem_scan.h"

#define CHUNK_PAGES	512u
/* How far up a source is looked for. */
#define ANCESTORS_MAX	8u
/* The best ancestor's share that a higher one must reach: 3/4. */
#define NEARLY(best)	((best) - (best) / 4)
/*
 * Each who refers to a source has a copy of its page map, about 24 bytes a run, and a file more:
 * to be worth it, several times that must be saved.
 */
#define WORTH_PAGES(runs)	(4 + (runs) / 32)

struct compare {
	int own_fd, source_fd;		/* pagemaps */
	struct mem_runs *runs;
};

static bool is_shared(uint64_t own, uint64_t theirs)
{
	const uint64_t same = PM_PRESENT | PM_SWAPPED | PM_FRAME;

	return (own & same) == (theirs & same) && own & PM_FRAME &&
	       own & (PM_PRESENT | PM_SWAPPED) && !((own | theirs) & PM_EXCLUSIVE);
}

static int compare_range(void *arg, uint64_t start, uint64_t end, bool written _unused_)
{
	struct compare *c = arg;
	uint64_t own[CHUNK_PAGES], theirs[CHUNK_PAGES];

	while (start < end) {
		size_t n = MIN((end - start) / PAGE_BYTES, (uint64_t)CHUNK_PAGES);
		int r = mem_pagemap_read(c->own_fd, start, own, n);

		if (r >= 0)
			r = mem_pagemap_read(c->source_fd, start, theirs, n);
		for (size_t i = 0; i < n && r >= 0; i++, start += PAGE_BYTES)
			r = mem_runs_add(c->runs, start, start + PAGE_BYTES,
					 is_shared(own[i], theirs[i]) ? PE_PARENT : PE_PRESENT);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What p shares with an ancestor, as runs. */
static int compare(const struct dump_process *p, const struct dump_process *ancestor,
		   struct mem_runs *runs)
{
	_cleanup_close_ int own = mem_pagemap_open(p);
	_cleanup_close_ int source = mem_pagemap_open(ancestor);
	struct compare c = { own, source, runs };
	int r = MIN(own, source);

	for (size_t i = 0; i < p->n_vmas && r >= 0; i++)
		if (mem_has_pages(&p->vmas[i]))
			r = mem_scan(own, &p->vmas[i], TRACK_NOT, compare_range, &c);
	return r < 0 ? r : 0;
}

/* Nearest first; runs[k] of the k-th. */
static int compare_all(const struct dump_process *p, struct dump_process **ancestor,
		       struct mem_runs *runs, size_t *ret_n)
{
	size_t n = 0;

	for (struct dump_process *a = p->parent; a && n < ANCESTORS_MAX; a = a->parent) {
		int r;

		if (a->life == TASK_DEAD)
			break;
		r = compare(p, a, &runs[n]);
		if (r < 0)
			return r;
		ancestor[n++] = a;
		*ret_n = n;
		/* The line ends where a program was executed. */
		if (!runs[n - 1].n_parent)
			break;
	}
	return 0;
}

static void choose(struct dump_process *p, struct dump_process **ancestor, struct mem_runs *runs,
		   size_t n)
{
	uint64_t best = 0;
	size_t at = 0;

	for (size_t k = 0; k < n; k++)
		best = MAX(best, runs[k].n_parent);
	for (size_t k = 0; k < n; k++)
		if (runs[k].n_parent >= NEARLY(best))
			at = k;
	if (!n || runs[at].n_parent < WORTH_PAGES(runs[at].n))
		return;
	p->cow_from = ancestor[at];
	p->runs = runs[at];
	runs[at] = (struct mem_runs){ 0 };
}

static void mark_sources(struct dump_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_procs; i++)
		ctx->procs[i]->is_cow_source = false;
	for (size_t i = 0; i < ctx->n_procs; i++)
		if (ctx->procs[i]->cow_from)
			ctx->procs[i]->cow_from->is_cow_source = true;
}

/* A source's pages are in "shared" whole: it refers to nobody. */
static int settle(struct dump_ctx *ctx)
{
	bool any = false;

	mark_sources(ctx);
	for (size_t i = 0; i < ctx->n_procs; i++) {
		struct dump_process *p = ctx->procs[i];

		if (p->is_cow_source && p->cow_from) {
			p->cow_from = NULL;
			mem_runs_done(&p->runs);
		}
		any |= p->cow_from != NULL;
	}
	mark_sources(ctx);
	return any ? image_store_make_shared(ctx->store, &ctx->shared_store) : 0;
}

static void share_nothing(struct dump_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		ctx->procs[i]->cow_from = NULL;
		mem_runs_done(&ctx->procs[i]->runs);
	}
	mark_sources(ctx);
}

int mem_cow_plan(struct dump_ctx *ctx)
{
	int r;

	/* `parent` is taken, or this is to be one, out of which CRIU may punch pages. */
	if (!ctx->opts->share_pages || ctx->parent || ctx->opts->track_mem ||
	    ctx->opts->auto_dedup)
		return 0;
	for (size_t i = 0; i < ctx->n_procs; i++) {
		struct dump_process *p = ctx->procs[i], *ancestor[ANCESTORS_MAX];
		struct mem_runs runs[ANCESTORS_MAX] = { 0 };
		size_t n = 0;

		r = 0;
		if (p->life != TASK_DEAD) {
			LOG_SCOPE("process %d (%s)", p->pid, p->comm);
			r = compare_all(p, ancestor, runs, &n);
		}
		if (r >= 0)
			choose(p, ancestor, runs, n);
		for (size_t k = 0; k < ANCESTORS_MAX; k++)
			mem_runs_done(&runs[k]);
		if (r < 0)
			return r;
	}
	r = settle(ctx);
	if (r != -EEXIST)
		return r;
	/* Somebody's `parent` that leads nowhere: not ours to remove. */
	share_nothing(ctx);
	return 0;
}
