/*
 * Files of slaves that were hung up: they read as ended and cannot be written, whatever becomes
 * of their terminal.
 *
 *   dump     an end of its own for each, without settings
 *   restore  opened on the master of that number, then hung up (TIOCVHANGUP); a master that is
 *            gone is made for them, for the number stayed theirs
 */
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "kind/tty.h"

static bool is_hung(const struct tty_end *end, uint32_t index)
{
	return end->hung && end->e->pty->index == index;
}

bool tty_hung_needs_master(struct restore_ctx *ctx, const struct tty_end *end)
{
	const struct tty_ends *s = tty_ends(ctx);
	bool first = true;

	if (!end->hung)
		return false;
	for (size_t i = 0; i < s->n; i++) {
		const struct tty_end *other = s->ends[i];

		if (other->master && other->e->pty->index == end->e->pty->index)
			return false;
		if (other == end)
			first = false;
		else if (first && is_hung(other, end->e->pty->index))
			return false;
	}
	return true;
}

/* Beside its slave, as in every devpts; a slave with another name: the engine's own. */
const RegFileEntry *tty_hung_ptmx(struct restore_ctx *ctx, const struct tty_end *end)
{
	RegFileEntry *ptmx = ARENA_MSG(&ctx->arena, RegFileEntry, reg_file_entry);
	const char *slash = end->reg ? strrchr(end->reg->name, '/') : NULL;

	if (!ptmx)
		return NULL;
	if (slash && major(end->e->rdev) == TTY_MAJOR_PTS) {
		ptmx->name = arena_printf(&ctx->arena, "%.*s/ptmx", (int)(slash - end->reg->name),
					  end->reg->name);
		ptmx->has_mnt_id = end->reg->has_mnt_id;
		ptmx->mnt_id = end->reg->mnt_id;
	} else {
		ptmx->name = (char *)"/dev/pts/ptmx";
	}
	return ptmx->name ? ptmx : NULL;
}

int tty_hung_make(struct restore_ctx *ctx, struct tty_end *end)
{
	int r, fd = -EBADF;

	for (size_t i = 0; i < ctx->n_files; i++) {
		struct restore_file *f = ctx->files[i];

		if (f->fe->type != FD_TYPES__TTY ||
		    !is_hung(tty_end_of(ctx, f), end->e->pty->index))
			continue;
		r = tty_open_peer(end->fd, (int)f->fe->tty->flags & O_ACCMODE, &fd);
		if (r < 0)
			return log_err(r, "file %u: cannot open a terminal to be hung up", f->id);
		r = tty_ready_put(ctx, f->id, fd);
		if (r < 0)
			return r;
	}
	/* One call for all files that are open. */
	if (fd >= 0 && ioctl(fd, TIOCVHANGUP) < 0)
		return log_err(neg_errno(), "cannot hang terminal %u up", end->e->pty->index);
	if (!end->master) {
		close_fdp(&end->fd);
		end->fd = -EBADF;
	}
	return 0;
}
