/*
 * Sessions and process groups: can they be made again? Looked at when the tree has stopped, by
 * the plan that restore will follow (lineage.h).
 *
 * The trap: the number of a session or group whose leader is gone is taken as long as it has
 * members. Should one of them be outside the tree, nobody could lead it again.
 */
#include <dirent.h>

#include "core/dump_process.h"
#include "core/lineage.h"
#include "core/pids.h"
#include "kernel/stat.h"

static int kin_add(struct lineage *l, struct dump_process *p)
{
	struct kin kin = { .pid = p->pid_virtual, .sid = p->sid, .pgid = p->pgid,
			   .dead = p->life == TASK_DEAD, .exit_signal = (uint32_t)p->exit_signal,
			   .process = p };
	struct kin *k;
	int r = pids_place(p, &kin.place);

	if (r < 0)
		return r;
	if (l->outside == LINEAGE_UNSEEN && !kin.sid) {
		kin.sid = LINEAGE_UNSEEN;
		kin.pgid = kin.pgid ? kin.pgid : LINEAGE_UNSEEN;
	}
	if (kin.dead && !p->parent)
		return log_fail(-ESRCH, "process %d (%s) has ended", p->pid, p->comm);
	return lineage_add(l, p->parent ? lineage_find(l, p->parent->pid_virtual) : NULL, &kin, &k);
}

static int check_kin(const struct kin *k)
{
	const struct dump_process *p = k->process;

	if (k->problem)
		return log_obstacle("restart the service",
				    "process %d (%s), session %u, group %u: %s", p->pid, p->comm, p->sid,
				    p->pgid, k->problem);
	if (!kin_may_share_files(k) && p->ids && p->parent && p->parent->ids &&
	    p->ids->files_id == p->parent->ids->files_id)
		return log_obstacle("restart the service",
				    "process %d (%s) shares its descriptors with its parent, but its session %u is not from there",
				    p->pid, p->comm, p->sid);
	return 0;
}

/* A process outside in a session or group that a helper would have to lead. */
static int check_stranger(const struct lineage *l, pid_t pid)
{
	const struct kin *session, *group;
	struct proc_stat st;

	if (proc_stat_of(pid, &st) < 0)
		return 0;
	session = lineage_find(l, (uint32_t)st.session);
	group = lineage_find(l, (uint32_t)st.pgrp);
	if ((session && session->helper) || (group && group->helper))
		return log_obstacle("end it, or save both together",
				    "process %d (%s) is outside the tree, but in session %d and group %d of processes of it",
				    pid, st.comm, st.session, st.pgrp);
	return 0;
}

/* For a job of a shell the leader is one of these. */
static int check_strangers(const struct dump_ctx *ctx, const struct lineage *l)
{
	_cleanup_closedir_ DIR *d = opendir("/proc");
	struct dirent *e;
	int refused = 0;

	if (!d)
		return log_err(neg_errno(), "cannot read /proc");
	while ((e = readdir(d))) {
		pid_t pid = atoi(e->d_name);

		if (pid > 0 && !map_get(&ctx->procs_by_pid, (uint64_t)pid) && check_stranger(l, pid) < 0)
			refused = -EOPNOTSUPP;
	}
	return refused;
}

static int check_all(const struct dump_ctx *ctx, const struct lineage *l)
{
	bool helpers = false;
	int refused = 0, r;

	for (size_t i = 0; i < l->n; i++) {
		if (l->kin[i]->helper)
			helpers = true;
		else if (check_kin(l->kin[i]) < 0)
			refused = -EOPNOTSUPP;
	}
	/* In a PID namespace of the tree's own there are none: ns/shared.c. */
	r = helpers && !ctx->pid_level ? check_strangers(ctx, l) : 0;
	return r < 0 ? r : refused;
}

/* Nobody in the tree leads it, but somebody does. */
static int check_root(const struct dump_process *root)
{
	static const char remedy[] =
		"start it so that it leads its session (setsid), or leave it out; for a job of a shell give --shell-job";
	struct proc_stat st;

	if (!root->sid)
		return log_obstacle(remedy,
				    "process %d (%s): the leader of its session is outside the tree and its PID namespace",
				    root->pid, root->comm);
	if (root->sid == (uint32_t)root->pid || proc_stat_of((pid_t)root->sid, &st) < 0 || st.state == 'Z')
		return 0;
	return log_obstacle(remedy,
			    "process %d (%s): the leader of its session, process %u (%s), is outside the tree",
			    root->pid, root->comm, root->sid, st.comm);
}

/*
 * The first process of a PID namespace may have its session from outside. The tree cannot tell which
 * one; unless that has a terminal, any other will do.
 */
static int check_first(const struct dump_process *root)
{
	if (root->sid || !root->tty)
		return 0;
	return log_obstacle("start it with setsid(1), or give --shell-job",
			    "process %d (%s): the terminal of its session, whose leader is outside the tree and its PID namespace",
			    root->pid, root->comm);
}

/* Its end would be there only after the leaders that take it. */
static int check_terminals(const struct dump_ctx *ctx)
{
	for (size_t i = 0; ctx->nested_pids && i < ctx->n_procs; i++)
		if (ctx->procs[i]->tty)
			return log_obstacle("run it without a terminal",
					    "process %d (%s) has a terminal, and the tree has a PID namespace in a part of it only",
					    ctx->procs[i]->pid, ctx->procs[i]->comm);
	return 0;
}

int sessions_check(struct dump_ctx *ctx)
{
	const struct dump_process *root = ctx->procs[0];
	struct lineage l;
	int r = check_terminals(ctx);

	if (r >= 0 && !ctx->opts->shell_job)
		r = ctx->pid_level ? check_first(root) : check_root(root);
	if (r < 0)
		return r;
	lineage_init(&l, &ctx->arena);
	l.own_numbers = ctx->pid_level;
	if (l.own_numbers)
		l.outside = LINEAGE_UNSEEN;
	else if (ctx->opts->shell_job && root->sid != root->pid_virtual)
		l.outside = root->sid ? root->sid : LINEAGE_UNSEEN;
	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++)
		r = kin_add(&l, ctx->procs[i]);
	if (r >= 0)
		r = lineage_plan(&l);
	if (r >= 0 || r == -EOPNOTSUPP)
		r = check_all(ctx, &l);
	lineage_done(&l);
	return r;
}
