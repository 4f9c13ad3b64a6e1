/*
 * Restore: sessions and groups as lineage.h plans them, from pstree.img to the last helper's end.
 *
 * The trap: a root's helper is a child of whoever asked for siblings (--restore-sibling), like the
 * roots: it finds a child with status 0 that it does not know. For PID 1 that is every day's work.
 */
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/restore_pids.h"
#include "core/restore_steps.h"
#include "ns/ns.h"

/* The engine's own session and group may have their leaders outside its PID namespace. */
static uint32_t seen(pid_t id)
{
	return id > 0 ? (uint32_t)id : LINEAGE_UNSEEN;
}

/* In a PID namespace of its own 0 is what is outside, and the engine's do not show. */
static void outside_inside(struct kin *k)
{
	if (k->sid)
		return;
	k->sid = LINEAGE_UNSEEN;
	k->pgid = k->pgid ? k->pgid : LINEAGE_UNSEEN;
}

/* With --shell-job the engine's session and group take the place of the root's, as in CRIU. */
static int kin_add(struct restore_ctx *ctx, struct restore_process *p)
{
	const PstreeEntry *e = p->pst, *root = ctx->procs[0].pst;
	struct kin kin = { .pid = e->pid, .sid = e->sid, .pgid = e->pgid, .dead = !p->alive,
			   .exit_signal = restore_exit_signal(p), .process = p, .place = restore_place(p) };
	struct kin *k;

	if (ctx->lineage.own_numbers) {
		outside_inside(&kin);
	} else if (ctx->lineage.outside) {
		if (e->pgid == root->pgid)
			kin.pgid = seen(getpgrp());
		if (e->sid == root->sid)
			kin.sid = ctx->lineage.outside;
	}
	if (!p->parent && !p->alive)
		return log_fail(-EINVAL, "the root process %u is dead", e->pid);
	return lineage_add(&ctx->lineage, p->parent ? lineage_find(&ctx->lineage, e->ppid) : NULL, &kin, &k);
}

static int helper_add(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = ARENA_NEW(&ctx->arena, struct restore_process);

	if (!p)
		return -ENOMEM;
	*p = (struct restore_process){ .ctx = ctx, .pst = ARENA_MSG(&ctx->arena, PstreeEntry, pstree_entry) };
	if (!p->pst)
		return -ENOMEM;
	p->pst->pid = k->pid;
	k->process = p;
	return restore_pids_of_helper(ctx, p->pst, k->place.ns);
}

/* A runtime has no job control, and the terminal that a container's session may have is its own. */
static bool is_container(const struct restore_ctx *ctx)
{
	const PstreeEntry *root = ctx->procs[0].pst;

	return ctx->opts->orphan_pts_master && root->sid == root->pid;
}

int restore_lineage(struct restore_ctx *ctx)
{
	struct lineage *l = &ctx->lineage;
	int r = 0;

	l->own_numbers = ns_restore_has_pidns(ctx);
	if (l->own_numbers)
		l->outside = LINEAGE_UNSEEN;
	else if (ctx->opts->shell_job && !is_container(ctx))
		l->outside = seen(getsid(0));
	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++)
		r = kin_add(ctx, &ctx->procs[i]);
	if (r < 0)
		return r;
	r = lineage_plan(l);
	for (size_t i = 0; i < l->n; i++)
		if (l->kin[i]->problem)
			log_fail(-EOPNOTSUPP, "process %u (session %u, group %u): %s", l->kin[i]->pid,
				 l->kin[i]->sid, l->kin[i]->pgid, l->kin[i]->problem);
	for (size_t i = ctx->n_procs; r >= 0 && i < l->n; i++)
		r = helper_add(ctx, l->kin[i]);
	return r;
}

static int group_set(struct restore_ctx *ctx, struct kin *k, uint32_t pgid)
{
	struct restore_process *p = k->process;

	LOG_SCOPE("process %u", k->pid);
	batch_begin(&ctx->batch, &p->threads[0].task);
	batch_call(&ctx->batch, SYS_setpgid, 0, restore_pgid_inside(p, pgid));
	return batch_run(&ctx->batch);
}

static int helper_end(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process, *parent;
	const uint64_t none[6] = { 0 };
	int r;

	LOG_SCOPE("stand-in for process %u", k->pid);
	r = task_end(&p->threads[0].task, SYS_exit_group, none);
	if (r < 0)
		return r;
	p->task_made = false;
	if (!k->parent)
		return 0;
	parent = k->parent->process;
	batch_begin(&ctx->batch, &parent->threads[0].task);
	batch_call(&ctx->batch, SYS_wait4, restore_pid_for(p, parent), 0, __WALL, 0);
	return batch_run(&ctx->batch);
}

/*
 * Everybody was born into the first group of its session. Leaders first, then members; last
 * those who made a group for others and are in another one themselves.
 */
int restore_groups(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < l->n; i++)
		if (l->kin[i]->leads_group)
			r = group_set(ctx, l->kin[i], 0);
	for (unsigned int leads = 0; leads < 2; leads++)
		for (size_t i = 0; r >= 0 && i < l->n; i++) {
			struct kin *k = l->kin[i];

			/* A shell job's group may be the shell's. */
			if (k->leads_group != leads || k->pgid == k->pid ||
			    (!leads && k->pgid == k->sid) || !lineage_find(l, k->pgid))
				continue;
			r = group_set(ctx, k, k->pgid);
		}
	for (size_t i = l->n; r >= 0 && i-- > 0;)
		if (l->kin[i]->helper)
			r = helper_end(ctx, l->kin[i]);
	return r;
}
