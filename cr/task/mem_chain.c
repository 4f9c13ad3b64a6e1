/*
 * A dump as one of a chain: pages that were not written since the dump before are PE_PARENT.
 *
 * That holds for a page only if the dump before has it for the same process. A pid may be another
 * process's by now: the images say when they were made (inventory, dump_uptime), and who was
 * started later is new.
 */
#include "image/pages.h"
#include "image/store.h"
#include "kernel/features.h"
#include "task/mem_chain.h"
#include "task/mem_track.h"

int mem_chain_open(struct dump_ctx *ctx)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	InventoryEntry *inv;
	int r = 0;

	ctx->soft_dirty = !ctx->opts->track && kernel_has_soft_dirty();
	if (ctx->opts->parent_dir)
		r = image_store_link_parent(ctx->store, ctx->opts->parent_dir);
	if (r < 0)
		return r;
	r = image_store_parent(ctx->store, &ctx->parent);
	if (r < 0) {
		ctx->parent = NULL;
		return r == -ENOENT ? 0 : log_err(r, "cannot open the parent images");
	}
	r = image_open_optional(ctx->parent, &image_inventory, &rd);
	if (r >= 0)
		r = image_get(&rd, &ctx->arena, inventory_entry, &inv);
	if (r < 0)
		return r;
	if (r && inv->has_dump_uptime && mem_track_is_since(ctx, inv->dump_criu_run_id))
		ctx->parent_uptime_usec = inv->dump_uptime;
	if (!ctx->parent_uptime_usec)
		log_warn("memory has not been tracked since the previous images were made: everything is saved anew");
	return 0;
}

static bool is_older(const struct dump_process *p, uint64_t usec)
{
	uint64_t tick_usec = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);

	/* The tick it was started in must be over. */
	return p->start_ticks && (p->start_ticks + 1) * tick_usec <= usec;
}

struct find {
	struct mem_runs *runs;
	struct pages_reader *before;	/* NULL: nothing can be referred to */
};

static int add_range(void *arg, uint64_t start, uint64_t end, bool written)
{
	struct find *f = arg;

	if (written || !f->before)
		return mem_runs_add(f->runs, start, end, PE_PRESENT);
	while (start < end) {
		struct page_run old;
		int r = pages_at(f->before, start, (end - start) / PAGE_BYTES, &old);
		uint64_t to;

		if (r < 0)
			return r;
		to = start + old.n_pages * PAGE_BYTES;
		r = mem_runs_add(f->runs, start, to, r && old.data ? PE_PARENT : PE_PRESENT);
		if (r < 0)
			return r;
		start = to;
	}
	return 0;
}

int mem_chain_find(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_pages_ struct pages_reader *before = NULL;
	_cleanup_close_ int fd = mem_pagemap_open(p);
	enum mem_tracking how = TRACK_NOT;
	struct find f = { .runs = &p->runs };
	int r = MIN(fd, 0);

	if (r >= 0 && ctx->parent_uptime_usec && is_older(p, ctx->parent_uptime_usec)) {
		r = pages_open(ctx->parent, &image_pagemap, p->pid_virtual, &before);
		/* It was no member of the tree then. */
		r = r == -ENOENT ? 0 : r;
		f.before = before;
		how = before ? mem_track_how(ctx, p) : TRACK_NOT;
	}
	for (size_t i = 0; i < p->n_vmas && r >= 0; i++)
		if (mem_has_pages(&p->vmas[i]))
			r = mem_scan(fd, &p->vmas[i], how, add_range, &f);
	if (r >= 0 && ctx->opts->track_mem) {
		ctx->tracking_begun = true;
		r = mem_track_begin(ctx, p, fd);
	}
	return r < 0 ? r : 0;
}

void mem_chain_dedup(struct dump_ctx *ctx)
{
	uint64_t pages = 0;
	int r = 0;

	for (size_t i = 0; ctx->parent && i < ctx->n_procs && r >= 0; i++)
		if (ctx->procs[i]->life != TASK_DEAD)
			r = pages_dedup(ctx->store, &image_pagemap, ctx->procs[i]->pid_virtual, &pages);
	if (r < 0)
		log_warn("the previous images keep what is saved anew");
	log_debug("%lu pages of the previous images given back", pages);
}
