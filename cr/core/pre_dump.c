/*
 * A pre-dump: one generation of a chain of page images, while the tree runs.
 *
 * The tree is stopped to see which pages there are and to begin the tracking anew, then it goes
 * on and they are copied. What is copied may be newer than the stop, or gone: then it was written
 * or unmapped since, and the next dump does not refer to it.
 *
 * No hooks are run and no network is locked.
 */
#include <fcntl.h>
#include <string.h>

#include "core/dump_process.h"
#include "core/dump_steps.h"
#include "task/mem.h"
#include "task/mem_chain.h"
#include "task/mem_track.h"
#include "util/timer.h"

#define PRE_DUMP_MODE_READ 2

static int look(struct dump_ctx *ctx, struct dump_process *p)
{
	uint64_t begin;
	int r;

	r = dump_process_collect(ctx, p);
	if (r >= 0)
		r = dump_process_track(ctx, p);
	if (r < 0 || p->life == TASK_DEAD)
		return r;
	begin = clock_usec(CLOCK_MONOTONIC);
	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	r = mem_chain_find(ctx, p);
	ctx->stats.memdump_usec += clock_usec(CLOCK_MONOTONIC) - begin;
	return r;
}

/* Short, and for nothing but looking. Afterwards mem_fd[i] is the memory of ctx->procs[i]. */
static int look_at_tree(struct dump_ctx *ctx, int **ret_mem_fd)
{
	int r = dump_seize(ctx), released;

	for (size_t i = 0; i < ctx->n_procs && r >= 0; i++) {
		r = dump_check_cancelled(ctx);
		if (r >= 0)
			r = look(ctx, ctx->procs[i]);
	}
	*ret_mem_fd = r < 0 ? NULL : arena_alloc(&ctx->arena, ctx->n_procs * sizeof(int));
	if (r >= 0 && !*ret_mem_fd)
		r = -ENOMEM;
	/* Letting go closes them; an open one needs no tracer any more. */
	for (size_t i = 0; i < ctx->n_procs && r >= 0; i++) {
		(*ret_mem_fd)[i] = ctx->procs[i]->remote.mem_fd;
		ctx->procs[i]->remote.mem_fd = -EBADF;
	}
	released = dump_release(ctx, CR_LEAVE_RUNNING);
	return r < 0 ? r : released;
}

static int copy(struct dump_ctx *ctx, int *mem_fd)
{
	int r = 0;

	ctx->tree_runs = true;
	for (size_t i = 0; i < ctx->n_procs && r >= 0; i++) {
		struct dump_process *p = ctx->procs[i];

		/* Closed when it has been read. */
		p->remote.mem_fd = take_fd(&mem_fd[i]);
		if (p->life != TASK_DEAD)
			r = dump_process_memory(ctx, p);
	}
	return r;
}

static int write_inventory(struct dump_ctx *ctx)
{
	InventoryEntry *inv = ctx->inventory;
	int r;

	/* As CRIU leaves it: nothing can be restored from this directory alone. */
	inv->img_version = 0;
	inv->has_pre_dump_mode = true;
	inv->pre_dump_mode = PRE_DUMP_MODE_READ;
	r = dump_mark_generation(ctx);
	return r < 0 ? r : image_write_one(ctx->store, &image_inventory, &inv->base);
}

int cr_pre_dump(const struct cr_opts *opts, struct cr_stats *ret_stats)
{
	struct cr_opts o = *opts;
	struct dump_ctx ctx = { 0 };
	int *mem_fd = NULL;
	int r;

	o.track_mem = true;
	ctx.pre_dump = true;
	r = dump_init(&ctx, &o);
	if (r >= 0)
		r = mem_track_check(&ctx);
	if (r >= 0)
		r = dump_begin_images(&ctx);
	if (r >= 0)
		r = look_at_tree(&ctx, &mem_fd);
	if (r >= 0)
		r = copy(&ctx, mem_fd);
	if (r >= 0)
		r = write_inventory(&ctx);
	for (size_t i = 0; mem_fd && i < ctx.n_procs; i++)
		close_fdp(&mem_fd[i]);
	if (r < 0 && ctx.tracking_begun)
		mem_track_spoil(&ctx);
	if (r >= 0 && o.auto_dedup)
		mem_chain_dedup(&ctx);
	if (ret_stats)
		*ret_stats = ctx.stats;
	dump_done(&ctx);
	return r < 0 ? log_err(r, "pre-dump of process %d failed", o.pid) : 0;
}
