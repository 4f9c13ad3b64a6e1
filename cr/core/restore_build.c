/*
 * Restore, second part: the tasks.
 *
 * The engine clones a seed with the root's pid; nearly everything else is cloned by the task that
 * is its parent, after that parent's memory is in place. A new task stands in a ptrace stop
 * before its first instruction and runs nothing but our batches until the end.
 *
 * A session id can only be inherited or made (setsid). Who makes whom, and when, so that all have
 * theirs and their parents, is planned beforehand: lineage.h.
 */
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

#include "core/restore_steps.h"
#include "kind/tty.h"
#include "ns/cgroup.h"
#include "ns/ns.h"
#include "task/mem.h"
#include "task/parts.h"
#include "task/regs.h"
#include "util/timer.h"

/*
 * The engine's pidfd, at a number above all of the images' and free here: seeds inherit it
 * and nothing else.
 */
static int place_pidfd(struct restore_ctx *ctx)
{
	int fd;

	ctx->pidfd_self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (ctx->pidfd_self < 0)
		return log_err(neg_errno(), "pidfd_open");
	fd = fcntl(ctx->pidfd_self, F_DUPFD_CLOEXEC, MAX(ctx->pidfd_t_fd, 64));
	if (fd < 0)
		return log_err(neg_errno(), "cannot place the engine's pidfd at %d or above",
			       ctx->pidfd_t_fd);
	close(ctx->pidfd_self);
	ctx->pidfd_self = ctx->pidfd_t_fd = fd;
	return 0;
}

int restore_zone(struct restore_ctx *ctx)
{
	struct remote zone;
	int r;

	r = vdso_read_own(&ctx->arena, &ctx->own_vdso);
	if (r < 0)
		return log_err(r, "cannot read the engine's own vDSO");
	/* The kernel's vDSO may have to stay behind the zone. */
	r = mem_find_free(ctx, vdso_own_vvar_bytes(ctx->own_vdso) +
				vdso_bytes(ctx->own_vdso) + PAGE_BYTES, &ctx->zone);
	if (r >= 0)
		r = remote_map_shared(&zone, ctx->zone);
	if (r < 0)
		return log_err(r, "cannot map the call zone at 0x%lx", ctx->zone);
	ctx->zone_mirror = zone.mirror;
	return place_pidfd(ctx);
}

static int move_to_cgroup(struct restore_ctx *ctx, struct restore_process *p)
{
	uint32_t from = 0, to;

	if (!ctx->cgroup_state || !p->alive)
		return 0;
	to = p->threads[0].core->thread_core->cg_set;
	if (p->mem_from)
		from = p->mem_from->threads[0].core->thread_core->cg_set;
	return cgroup_restore_process(ctx, ctx->cgroup_state, p->pid, to, from);
}

static int process_create(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process, *maker = k->maker ? k->maker->process : NULL;

	p->remote = restore_remote(ctx);
	if (p->remote && !p->threads) {	/* a helper or zombie to be has no thread state */
		p->threads = ARENA_NEW(&ctx->arena, struct restore_thread);
		p->n_threads = 1;
	}
	if (!p->remote || !p->threads)
		return -ENOMEM;
	if (!maker)
		return restore_seed(ctx, p);
	p->made_early = !ctx->early_done;
	if (!p->made_early)
		p->mem_from = maker->alive ? maker : maker->mem_from;
	return restore_birth(ctx, k);
}

/* Whose memory k's begins with, as process_create() will find it. */
static struct restore_process *mem_source(const struct kin *k)
{
	while (k) {
		const struct restore_process *p = k->process;

		if (p->made_early)
			return NULL;
		k = k->maker;
		if (k && ((struct restore_process *)k->process)->alive)
			return k->process;
	}
	return NULL;
}

/* The page images of a process stay open for those whose memory begins with its own. */
static void pages_count_users(const struct lineage *l)
{
	for (size_t i = 0; i < l->n_steps; i++) {
		const struct kin *k = l->steps[i].kin;
		struct restore_process *p = k->process, *from = mem_source(k);

		if (l->steps[i].op == LINEAGE_MAKE && p->alive && from)
			from->n_mem_users++;
	}
}

static void pages_release(struct restore_ctx *ctx, struct restore_process *p)
{
	if (!p->n_mem_users)
		mem_restore_used(ctx, p);
	if (!p->mem_from || --p->mem_from->n_mem_users)
		return;
	mem_restore_used(ctx, p->mem_from);
}

static int process_make(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process;
	int r;

	r = p->task_made ? 0 : process_create(ctx, k);
	if (r < 0 || !p->alive)
		return r;
	r = move_to_cgroup(ctx, p);
	if (r >= 0)
		r = remote_open(p->remote, p->pid);
	if (r >= 0)
		r = mem_restore(ctx, p);
	if (r >= 0)
		pages_release(ctx, p);
	return r;
}

/* A session that has lost its leader has none. */
static int session_terminal(struct restore_ctx *ctx, struct kin *k)
{
	return k->helper || k->dead ? 0 : tty_restore_session(ctx, k->process);
}

static int session_make(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process;
	int r;

	batch_begin(&ctx->batch, &p->threads[0].task);
	batch_call(&ctx->batch, SYS_setsid);
	r = batch_run(&ctx->batch);
	return r < 0 || !ctx->early_done ? r : session_terminal(ctx, k);
}

/*
 * What has to be there before the mounts: the first process of each PID namespace, so that a proc can show
 * it, and those above them. Still empty.
 */
static size_t count_early(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	size_t n = ns_restore_has_pidns(ctx);

	for (size_t i = 0; i < l->n_steps; i++)
		if (l->steps[i].kin->place.ns && l->steps[i].kin->place.first)
			n = MAX(n, i + 1);
	return n;
}

int restore_first(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	int r = cpus_pin(ctx);

	if (r >= 0)
		r = rlimits_prepare(ctx);
	ctx->n_early = count_early(ctx);
	for (size_t i = 0; r >= 0 && i < ctx->n_early; i++) {
		struct kin *k = l->steps[i].kin;
		struct restore_process *p = k->process;

		LOG_SCOPE("process %u", k->pid);
		r = l->steps[i].op == LINEAGE_MAKE ? process_create(ctx, k) : session_make(ctx, k);
		if (r >= 0 && !i && ns_restore_has_pidns(ctx))
			r = ns_restore_pidns_made(ctx, p->pid, 0);
	}
	ctx->early_done = true;
	return r;
}

int restore_tasks(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	int r = 0;

	pages_count_users(l);
	for (size_t i = 0; r >= 0 && i < l->n_steps; i++) {
		struct kin *k = l->steps[i].kin;

		LOG_SCOPE("process %u", k->pid);
		if (l->steps[i].op == LINEAGE_MAKE)
			r = process_make(ctx, k);
		else
			r = i < ctx->n_early ? session_terminal(ctx, k) : session_make(ctx, k);
	}
	return r;
}
