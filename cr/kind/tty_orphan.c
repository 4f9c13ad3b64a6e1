/*
 * A container's terminal: the tree has the slave, in a devpts of its own; the master is in the
 * runtime that shows it, outside.
 *
 *   dump     the slave is saved alone. What was written to it is there for the master's holder to
 *            read; input that is unread would be lost and is an obstacle.
 *   restore  a new pair in the new devpts, as if the images had a master; its descriptor goes to the
 *            client (orphan_pts_master), which is the runtime
 */
#include <string.h>
#include <sys/sysmacros.h>

#include "kind/tty.h"
#include "ns/ns.h"

bool tty_side_is_orphan(struct dump_ctx *ctx, const struct tty_side *side)
{
	return ctx->opts->orphan_pts_master && side->e->has_dev &&
	       ns_dump_is_own_devpts(ctx, side->mnt_id);
}

int tty_judge_orphan(const struct tty_side *side)
{
	return side->unread ? log_obstacle("try again when the program has read it",
					   "%s: %d bytes of input are unread", side->f->link,
					   side->unread) : 0;
}

static bool is_saved(const struct tty_sides *s, dev_t devpts, uint32_t index)
{
	for (size_t i = 0; s && i < s->n; i++) {
		const struct tty_side *side = s->sides[i];

		if (side->e->type == TTY_TYPE__PTY && !side->master && !side->hung && side->e->has_dev &&
		    side->e->dev == (uint32_t)devpts && minor(side->tty) == index)
			return true;
	}
	return false;
}

static int judge_mount(void *arg, const char *mountpoint, dev_t devpts, uint32_t index)
{
	if (is_saved(arg, devpts, index))
		return 0;
	return log_obstacle("unmount it", "mount %s shows terminal %u, which no process of the tree has"
			    " open", mountpoint, index);
}

int tty_judge_mounts(struct dump_ctx *ctx)
{
	return ns_list_terminals(ctx, judge_mount, ctx->kind_state[FD_TYPES__TTY]);
}

/* Mounts are not known yet. */
bool tty_may_be_orphan(struct restore_ctx *ctx, const struct tty_end *end)
{
	return ctx->opts->orphan_pts_master && end->e->type == TTY_TYPE__PTY && !end->master &&
	       !end->hung && !end->peer && !end->outside && end->reg && end->reg->has_mnt_id;
}

static RegFileEntry *ptmx_of(struct restore_ctx *ctx, const MntEntry *devpts)
{
	RegFileEntry *reg = ARENA_MSG(&ctx->arena, RegFileEntry, reg_file_entry);

	if (!reg)
		return NULL;
	reg->name = arena_printf(&ctx->arena, "%s/ptmx", devpts->mountpoint);
	reg->has_mnt_id = true;
	reg->mnt_id = (int32_t)devpts->mnt_id;
	return reg->name ? reg : NULL;
}

static int master_add(struct restore_ctx *ctx, struct tty_ends *s, struct tty_end *slave,
		      const MntEntry *devpts)
{
	struct tty_end *m = ARENA_NEW(&ctx->arena, struct tty_end), **slot;
	TtyInfoEntry *e = ARENA_MSG(&ctx->arena, TtyInfoEntry, tty_info_entry);
	const RegFileEntry *ptmx = ptmx_of(ctx, devpts);

	slot = m && e && ptmx ? ARENA_PUSH(&ctx->arena, s->ends, s->n) : NULL;
	if (!slot)
		return log_err(-ENOMEM, "terminals");
	e->id = slave->e->id | 1;
	e->type = TTY_TYPE__PTY;
	e->pty = slave->e->pty;
	*m = (struct tty_end){ .e = e, .peer = slave, .reg = ptmx, .fd = -EBADF, .master = true,
			       .orphan = true };
	slave->peer = m;
	*slot = m;
	return 0;
}

int tty_orphans_find(struct restore_ctx *ctx)
{
	struct tty_ends *s = tty_ends(ctx);
	const size_t n = s->n;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		struct tty_end *end = s->ends[i];
		const MntEntry *devpts;

		if (!tty_may_be_orphan(ctx, end))
			continue;
		devpts = ns_restore_own_devpts(ctx, end->reg->mnt_id);
		if (!devpts)
			r = tty_outside_take(ctx, end);
		else if (!ctx->opts->give_master)
			r = log_fail(-EINVAL, "%s: a container's terminal needs a client that takes its"
				     " master: orphan_pts_master goes with notify_scripts",
				     end->reg->name);
		else
			r = master_add(ctx, s, end, devpts);
	}
	return r;
}

int tty_restore_orphans(struct restore_ctx *ctx)
{
	struct tty_ends *s = tty_ends(ctx);
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->n; i++)
		if (s->ends[i]->orphan)
			r = ctx->opts->give_master(ctx->opts->notify_arg, s->ends[i]->fd);
	return r;
}
