/*
 * tty-info.img and tty-data.img read back and checked, before anything is made of them: ends
 * are matched to pairs, files to ends.
 */
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kind/tty.h"

#define ID_MAX 0x40000000u	/* of processes and groups: beyond any pid_max */

struct tty_ends *tty_ends(struct restore_ctx *ctx)
{
	void **slot = &ctx->kind_state[FD_TYPES__TTY];

	if (!*slot)
		*slot = ARENA_NEW(&ctx->arena, struct tty_ends);
	return *slot;
}

int tty_ready_put(struct restore_ctx *ctx, uint32_t id, int fd)
{
	struct tty_ready *ready = ARENA_NEW(&ctx->arena, struct tty_ready);
	int r = ready ? map_put(&tty_ends(ctx)->ready, id, ready) : -ENOMEM;

	if (r < 0) {
		close(fd);
		return log_err(r, "file %u", id);
	}
	ready->fd = fd;
	return 0;
}

struct tty_end *tty_end_of(struct restore_ctx *ctx, const struct restore_file *f)
{
	return map_get(&tty_ends(ctx)->by_id, f->fe->tty->tty_info_id);
}

const RegFileEntry *tty_path_of(struct restore_ctx *ctx, const TtyFileEntry *e)
{
	struct restore_file *path = e->has_regf_id ? restore_file_find(ctx, e->regf_id) : NULL;

	return path && path->fe->type == FD_TYPES__REG ? path->fe->reg : NULL;
}

struct tty_end *tty_behind(struct restore_ctx *ctx, const struct tty_end *ctty)
{
	struct tty_ends *s = tty_ends(ctx);

	for (size_t i = 0; i < s->n; i++) {
		struct tty_end *end = s->ends[i];

		if (end->e->type == TTY_TYPE__CTTY || end->master || end->hung)
			continue;
		if (ctty->e->has_terminal ? end->e->id == ctty->e->terminal
					  : end->sid && end->sid == ctty->sid)
			return end;
	}
	return NULL;
}

static int bad(const TtyInfoEntry *e, const char *what)
{
	return log_fail(-EBADMSG, "tty-info.img: terminal 0x%x: %s", e->id, what);
}

static int end_check(const TtyInfoEntry *e)
{
	if (e->type < TTY_TYPE__PTY || e->type > TTY_TYPE__SERIAL)
		return bad(e, "its type is unknown");
	if (e->type == TTY_TYPE__PTY && !e->pty)
		return bad(e, "it has no number");
	if (e->pty && e->pty->index >= PTY_INDEX_MAX)
		return bad(e, "its number is out of range");
	if (e->sid >= ID_MAX || e->pgrp >= ID_MAX)
		return bad(e, "its session or group is out of range");
	if (e->has_stopped && e->stopped > TTY_STOPPED_BY_FLOW)
		return bad(e, "it is stopped in an unknown way");
	return tty_params_check(e) < 0 ? bad(e, "its settings are malformed") : 0;
}

static int end_load(struct restore_ctx *ctx, struct tty_ends *s, const TtyInfoEntry *e)
{
	struct tty_end *end = ARENA_NEW(&ctx->arena, struct tty_end), **slot;
	int r = end_check(e);

	if (r < 0)
		return r;
	if (map_get(&s->by_id, e->id))
		return bad(e, "it is there twice");
	slot = ARENA_PUSH(&ctx->arena, s->ends, s->n);
	if (!end || !slot)
		return log_err(-ENOMEM, "tty-info.img");
	*slot = end;
	*end = (struct tty_end){ .e = e, .fd = -EBADF, .sid = e->sid, .pgrp = e->pgrp };
	end->master = e->type == TTY_TYPE__PTY && e->id & 1;
	end->hung = e->type == TTY_TYPE__PTY && !end->master && !e->termios;
	r = map_put(&s->by_id, e->id, end);
	return r < 0 ? log_err(r, "tty-info.img") : 0;
}

static int ends_load(struct restore_ctx *ctx, struct tty_ends *s)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	TtyInfoEntry *e;
	int r, k;

	r = image_open_optional(ctx->store, &image_tty_info, &rd);
	if (r < 0)
		return log_err(r, "cannot open tty-info.img");
	while ((r = image_get(&rd, &ctx->arena, tty_info_entry, &e)) > 0) {
		k = end_load(ctx, s, e);
		if (k < 0)
			return k;
	}
	return r;
}

static int data_check(const TtyDataEntry *e)
{
	if (e->data.len > TTY_QUEUE_MAX || e->n_pushed > TTY_PUSHED_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < e->n_pushed; i++)
		if (e->pushed[i] > e->data.len || (i && e->pushed[i] < e->pushed[i - 1]))
			return -EBADMSG;
	return 0;
}

static int data_load(struct restore_ctx *ctx, struct tty_ends *s)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	TtyDataEntry *e;
	int r;

	r = image_open_optional(ctx->store, &image_tty_data, &rd);
	if (r < 0)
		return log_err(r, "cannot open tty-data.img");
	while ((r = image_get(&rd, &ctx->arena, tty_data_entry, &e)) > 0) {
		struct tty_end *end = map_get(&s->by_id, e->tty_id);

		if (!end || end->e->type != TTY_TYPE__PTY || end->data || data_check(e) < 0)
			return log_fail(-EBADMSG, "tty-data.img: data of terminal 0x%x are malformed",
					e->tty_id);
		end->data = e;
	}
	return r;
}

/* CRIU asks each end by itself, and a slave's answers only inside of its session. */
static void session_share(struct tty_end *a, struct tty_end *b)
{
	struct tty_end *from = a->sid ? a : b, *to = a->sid ? b : a;

	if (to->sid)
		return;
	to->sid = from->sid;
	to->pgrp = from->pgrp;
}

/* Hung up ends are nobody's peer. */
static int pairs_find(struct tty_ends *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct tty_end *a = s->ends[i];

		for (size_t k = 0; a->e->type == TTY_TYPE__PTY && !a->hung && k < i; k++) {
			struct tty_end *b = s->ends[k];

			if (b->e->type != TTY_TYPE__PTY || b->hung ||
			    a->e->pty->index != b->e->pty->index)
				continue;
			if (a->master == b->master)
				return bad(a->e, "another one has its number");
			a->peer = b;
			b->peer = a;
			session_share(a, b);
		}
	}
	return 0;
}

static int files_check(struct restore_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_files; i++) {
		struct restore_file *f = ctx->files[i];
		const RegFileEntry *reg;
		struct tty_end *end;

		if (f->fe->type != FD_TYPES__TTY)
			continue;
		end = tty_end_of(ctx, f);
		if (!end)
			return log_fail(-EBADMSG, "files.img: file %u is of terminal 0x%x, which is"
					" not there", f->id, f->fe->tty->tty_info_id);
		reg = tty_path_of(ctx, f->fe->tty);
		if (!reg && end->e->type != TTY_TYPE__EXT_TTY)
			return log_fail(-EBADMSG, "files.img: terminal file %u has no path", f->id);
		if (!end->reg)
			end->reg = reg;
	}
	return 0;
}

/* With --shell-job the terminal of the session above the tree is the one we were started on. */
static bool is_outside(struct restore_ctx *ctx, const struct tty_end *end)
{
	const PstreeEntry *root = ctx->procs[0].pst;

	switch (end->e->type) {
	case TTY_TYPE__PTY:
		return !end->master && !end->hung && !end->peer;
	case TTY_TYPE__CONSOLE:
	case TTY_TYPE__VT:
	case TTY_TYPE__SERIAL:
		return ctx->opts->shell_job && end->sid == root->sid;
	default:
		return false;
	}
}

int tty_outside_take(struct restore_ctx *ctx, struct tty_end *end)
{
	const struct tty_ends *s = tty_ends(ctx);

	for (size_t i = 0; i < s->n; i++)
		if (s->ends[i]->outside)
			return bad(end->e, "a second terminal from outside the tree");
	end->outside = true;
	if (!ctx->opts->shell_job)
		return log_fail(-EINVAL, "the tree was saved from a terminal outside of it (%s):"
				" give --shell-job to move it to the one you are on; a container's"
				" runtime gives orphan_pts_master", end->reg ? end->reg->name : "?");
	if (!isatty(STDIN_FILENO))
		return log_fail(-ENOTTY, "--shell-job: the standard input is no terminal for the tree");
	return 0;
}

static int outside_find(struct restore_ctx *ctx, struct tty_ends *s)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < s->n; i++)
		if (is_outside(ctx, s->ends[i]) && !tty_may_be_orphan(ctx, s->ends[i]))
			r = tty_outside_take(ctx, s->ends[i]);
	return r;
}

int tty_prepare(struct restore_ctx *ctx)
{
	struct tty_ends *s = tty_ends(ctx);
	int r;

	if (!s)
		return log_err(-ENOMEM, "terminals");
	r = ends_load(ctx, s);
	if (r >= 0)
		r = data_load(ctx, s);
	if (r >= 0)
		r = pairs_find(s);
	if (r >= 0)
		r = files_check(ctx);
	return r < 0 ? r : outside_find(ctx, s);
}
