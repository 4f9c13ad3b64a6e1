/*
 * Sessions and process groups: can they be made again? Looked at when the tree has stopped, by
 * the rules that restore_build.c follows.
 *
 * The trap: a session can only be made by its leader or inherited at birth, so one whose leader
 * has ended exists as long as its members but cannot be entered again.
 */
#include "core/dump_process.h"

#define REMEDY	"restart it so that its processes keep their leaders (no double fork), or leave it out"

/* The session p was born into, as far as restore can tell: its parent's, then or now. */
static uint32_t session_born(const struct dump_ctx *ctx, const struct dump_process *p)
{
	const struct dump_process *parent = p->parent;

	if (!parent)
		return ctx->opts->shell_job ? p->sid : 0;
	return p->sid == parent->sid_born && p->sid != (uint32_t)p->pid ? p->sid : parent->sid;
}

static int session_check(struct dump_ctx *ctx, struct dump_process *p)
{
	p->sid_born = session_born(ctx, p);
	if (p->life == TASK_DEAD || p->sid == (uint32_t)p->pid || p->sid == p->sid_born)
		return 0;
	if (!p->parent)
		return log_obstacle("start it so that it leads its session (setsid), or leave it "
				    "out; for a job of a shell give --shell-job",
				    "process %d (%s): the leader of its session %u is outside the tree, or has ended",
				    p->pid, p->comm, p->sid);
	return log_obstacle(REMEDY, "process %d (%s): its session %u has lost its leader", p->pid,
			    p->comm, p->sid);
}

static int group_check(struct dump_ctx *ctx, const struct dump_process *p)
{
	const struct dump_process *leader;

	if (p->life == TASK_DEAD || p->sid == (uint32_t)p->pid || p->pgid == (uint32_t)p->pid ||
	    ctx->opts->shell_job)
		return 0;
	/* Its parent has been looked at. */
	if (p->parent && p->parent->pgid == p->pgid)
		return 0;
	leader = dump_process_find(ctx, (pid_t)p->pgid);
	if (leader)
		return 0;
	return log_obstacle(REMEDY, "process %d (%s): its process group %u has lost its leader", p->pid,
			    p->comm, p->pgid);
}

int sessions_check(struct dump_ctx *ctx)
{
	int refused = 0;

	/* Parents come before their children. */
	for (size_t i = 0; i < ctx->n_procs; i++) {
		if (session_check(ctx, ctx->procs[i]) < 0)
			refused = -EOPNOTSUPP;
		if (group_check(ctx, ctx->procs[i]) < 0)
			refused = -EOPNOTSUPP;
	}
	return refused;
}
