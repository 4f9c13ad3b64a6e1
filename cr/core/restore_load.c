/*
 * Restore, first part: the images of the tree are read and judged before any task exists.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "core/files.h"
#include "core/restore_pids.h"
#include "core/restore_steps.h"
#include "kernel/stat.h"
#include "ns/ns.h"
#include "task/mem.h"
#include "task/parts.h"
#include "task/regs.h"
#include "task/vma.h"

#define THREADS_MAX	(1u << 20)
#define SIGNAL_LAST	64

struct restore_process *restore_process_find(struct restore_ctx *ctx, uint32_t pid)
{
	return map_get(&ctx->procs_by_pid, pid);
}

pid_t restore_pid(struct restore_ctx *ctx, uint32_t pid)
{
	const struct restore_process *p = restore_process_find(ctx, pid);

	if (p)
		return p->pid;
	for (size_t i = 0; i < ctx->n_procs; i++) {
		p = &ctx->procs[i];
		for (size_t k = 1; k < p->n_threads; k++)
			if (p->pst->threads[k] == pid && p->threads[k].task.seized)
				return p->threads[k].task.tid;
	}
	return 0;
}

pid_t restore_pgid(struct restore_ctx *ctx, uint32_t pgid)
{
	for (size_t i = 0; i < ctx->n_procs; i++)
		if (ctx->procs[i].pst->pgid == pgid && ctx->procs[i].task_made)
			return MAX(getpgid(ctx->procs[i].pid), 0);
	return 0;
}

static int load_inventory(struct restore_ctx *ctx)
{
	InventoryEntry *inv;
	int r;

	r = image_read_one(ctx->store, &ctx->arena, &image_inventory, inventory_entry, &inv);
	if (r < 0)
		return log_err(r, "no inventory: not a complete dump");
	if (!inv->img_version)
		return log_fail(-EOPNOTSUPP, "these images are a pre-dump's, the memory alone: restore those of the "
				"dump that was made after it");
	if (inv->img_version < 1 || inv->img_version > 2)
		return log_fail(-EOPNOTSUPP, "inventory.img: image version %u is unknown", inv->img_version);
	if (!inv->has_fdinfo_per_id || !inv->fdinfo_per_id)
		return log_fail(-EOPNOTSUPP, "inventory.img: images of this age are not supported");
	for (size_t i = 0; i < inv->n_images; i++)
		if (image_store_find(ctx->store, inv->images[i]) < 0)
			return log_fail(-ENOENT, "image %.64s, which the dump has written, is missing",
					inv->images[i]);
	ctx->inventory = inv;
	return 0;
}

static int check_entry(struct restore_ctx *ctx, const PstreeEntry *e)
{
	if (!e->pid || e->pid >= PIDS_MAX || e->pgid >= PIDS_MAX || e->sid >= PIDS_MAX ||
	    e->n_threads > THREADS_MAX)
		return log_fail(-EBADMSG, "pstree.img: entry of process %u is malformed", e->pid);
	if (restore_process_find(ctx, e->pid))
		return log_fail(-EBADMSG, "pstree.img: process %u is there twice", e->pid);
	/* Roots that were saved together may follow the first. */
	if (e->ppid && !ctx->n_procs)
		return log_fail(-EBADMSG, "pstree.img: the root must come first");
	if (e->ppid && !restore_process_find(ctx, e->ppid))
		return log_fail(-EBADMSG, "pstree.img: process %u before its parent %u", e->pid, e->ppid);
	return 0;
}

static int load_pstree(struct restore_ctx *ctx)
{
	_cleanup_image_reader_ struct image_reader r = { 0 };
	PstreeEntry **entries = NULL, *e, **slot;
	size_t n = 0;
	int k;

	k = image_open(ctx->store, &image_pstree, &r);
	if (k < 0)
		return log_err(k, "pstree.img");
	while ((k = image_get(&r, &ctx->arena, pstree_entry, &e)) > 0) {
		slot = ARENA_PUSH(&ctx->arena, entries, n);
		if (!slot)
			return -ENOMEM;
		*slot = e;
	}
	if (k < 0)
		return k;
	if (!n)
		return log_fail(-EBADMSG, "pstree.img is empty");
	ctx->procs = arena_alloc(&ctx->arena, n * sizeof(*ctx->procs));
	if (!ctx->procs)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct restore_process *p = &ctx->procs[ctx->n_procs];

		k = check_entry(ctx, entries[i]);
		if (k < 0)
			return k;
		*p = (struct restore_process){
			.ctx = ctx, .pst = entries[i],
			.parent = restore_process_find(ctx, entries[i]->ppid),
		};
		k = map_put(&ctx->procs_by_pid, entries[i]->pid, p);
		if (k < 0)
			return k;
		ctx->n_procs++;
	}
	return 0;
}

static int load_threads(struct restore_ctx *ctx, struct restore_process *p)
{
	p->n_threads = p->pst->n_threads ? p->pst->n_threads : 1;
	p->threads = arena_alloc(&ctx->arena, p->n_threads * sizeof(*p->threads));
	if (!p->threads)
		return -ENOMEM;
	for (size_t i = 0; i < p->n_threads; i++) {
		struct restore_thread *th = &p->threads[i];
		uint32_t tid = i ? p->pst->threads[i] : p->pst->pid;
		int r = 0;

		if (!tid || tid >= PIDS_MAX)
			return log_fail(-EBADMSG, "pstree.img: thread %u of process %u", tid, p->pst->pid);
		th->core = p->core;
		if (i)
			r = image_read_one(ctx->store, &ctx->arena, &image_core, core_entry, &th->core,
					   tid);
		if (r < 0)
			return r;
		r = regs_check(th->core);
		if (r < 0)
			return r;
		if (!th->core->thread_core || (!i && !th->core->tc))
			return log_fail(-EBADMSG, "core-%u.img lacks its thread's state", tid);
		th->task.tid = (pid_t)tid;
	}
	return 0;
}

/* Its status is repeated by an end of the same kind: a signal must be one that ends it. */
static int check_zombie(const struct restore_process *p)
{
	const uint64_t harmless = 1ull << SIGCHLD | 1ull << SIGCONT | 1ull << SIGURG | 1ull << SIGWINCH |
				  1ull << SIGSTOP | 1ull << SIGTSTP | 1ull << SIGTTIN | 1ull << SIGTTOU;
	uint32_t status = p->core->tc->exit_code;

	if (status > 0xffff || (WIFSIGNALED(status) && (status >> 8 || WTERMSIG(status) > 64 ||
							harmless >> (WTERMSIG(status) & 63) & 1)) ||
	    (!WIFSIGNALED(status) && !WIFEXITED(status)))
		return log_fail(-EBADMSG, "core-%u.img: 0x%x is no exit status", p->pst->pid, status);
	return 0;
}

static int load_process(struct restore_ctx *ctx, struct restore_process *p)
{
	uint32_t pid = p->pst->pid;
	int r;

	LOG_SCOPE("process %u", pid);
	r = image_read_one(ctx->store, &ctx->arena, &image_core, core_entry, &p->core, pid);
	if (r < 0)
		return r;
	if (!p->core->tc)
		return log_fail(-EBADMSG, "core-%u.img has no task state", pid);
	if (p->core->tc->exit_signal > SIGNAL_LAST)
		return log_fail(-EBADMSG, "core-%u.img: exit signal %u", pid, p->core->tc->exit_signal);
	if (p->core->tc->task_state == TASK_DEAD)
		return check_zombie(p);
	p->alive = true;
	r = image_read_one(ctx->store, &ctx->arena, &image_ids, task_kobj_ids_entry, &p->ids, pid);
	if (r >= 0)
		r = image_read_one(ctx->store, &ctx->arena, &image_mm, mm_entry, &p->mm, pid);
	if (r >= 0)
		r = image_read_one(ctx->store, &ctx->arena, &image_fs, fs_entry, &p->fs, pid);
	if (r >= 0)
		r = load_threads(ctx, p);
	p->main_ended = p->core->tc->has_main_ended && p->core->tc->main_ended;
	if (r >= 0 && p->main_ended && (p->n_threads < 2 || p->core->tc->task_state != TASK_ALIVE))
		r = log_fail(-EBADMSG, "core-%u.img: the main thread has ended, and no other runs", pid);
	if (r >= 0)
		r = guards_load(p);
	if (r >= 0)
		r = mem_check(p);
	return r;
}

int restore_load(struct restore_ctx *ctx)
{
	int r;

	r = load_inventory(ctx);
	if (r >= 0)
		r = load_pstree(ctx);
	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++)
		r = load_process(ctx, &ctx->procs[i]);
	if (r >= 0)
		r = ns_restore_check_pidns(ctx);
	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++)
		r = restore_pids_check(ctx, ctx->procs[i].pst);
	if (r >= 0)
		r = restore_lineage(ctx);
	if (r >= 0)
		r = restore_shares(ctx);
	if (r >= 0)
		r = restore_pids_check_free(ctx);
	/* Who leads the session of a job is a shell that lives, as a rule. */
	if (r == -EEXIST && !ctx->opts->shell_job && ctx->procs[0].pst->sid != ctx->procs[0].pst->pid)
		return log_fail(r, "for a job of a shell, whose session %u is not in the images, give --shell-job",
				ctx->procs[0].pst->sid);
	return r;
}
