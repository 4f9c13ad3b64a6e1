/*
 * Terminals and sessions: whose controlling terminal, which group is in the foreground, the
 * files of /dev/tty.
 *
 * Only a session's leader can take a terminal (TIOCSCTTY), members get it by birth: so it is
 * taken between setsid(2) and the first child. Only members can set the foreground group and
 * open /dev/tty.
 *
 * With --shell-job the terminal from outside is replaced by the one the engine was started on,
 * and so is the session above the tree: its members inherit both.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "kind/tty.h"

static struct tty_end *end_of_session(struct restore_ctx *ctx, uint32_t sid)
{
	struct tty_ends *s = tty_ends(ctx);

	for (size_t i = 0; i < s->n; i++)
		if (s->ends[i]->sid == sid && s->ends[i]->fd >= 0 && !s->ends[i]->master)
			return s->ends[i];
	return NULL;
}

/* Adds a fetch of the engine's fd; its number is 0, for the table has only the engine's pidfd. */
static void begin_with_fd(struct restore_ctx *ctx, struct restore_process *p, int fd)
{
	batch_begin(&ctx->batch, &p->threads[0].task);
	batch_call(&ctx->batch, SYS_pidfd_getfd, ctx->pidfd_t_fd, fd, 0);
}

int tty_restore_session(struct restore_ctx *ctx, struct restore_process *leader)
{
	struct tty_end *end = end_of_session(ctx, leader->pst->pid);
	int r;

	if (!end)
		return 0;
	begin_with_fd(ctx, leader, end->fd);
	/* The operator's terminal has a session, which loses it to the tree's. */
	batch_call(&ctx->batch, SYS_ioctl, 0, TIOCSCTTY, end->outside);
	batch_call(&ctx->batch, SYS_close, 0);
	r = batch_run(&ctx->batch);
	return r < 0 ? log_err(r, "cannot take its controlling terminal (0x%x)", end->e->id) : 0;
}

static bool group_exists(struct restore_ctx *ctx, uint32_t sid, uint32_t pgrp)
{
	for (size_t i = 0; i < ctx->n_procs; i++)
		if (ctx->procs[i].pst->pgid == pgrp && ctx->procs[i].pst->sid == sid)
			return true;
	return false;
}

/* The group that reads the terminal. One that has ended cannot be made again. */
static int foreground_set(struct restore_ctx *ctx, struct restore_process *leader,
			  const struct tty_end *end)
{
	uint32_t pgrp = end->pgrp;
	int r;

	if (!pgrp || pgrp == leader->pst->pid)
		return 0;
	if (!group_exists(ctx, end->sid, pgrp)) {
		log_warn("terminal 0x%x: its foreground group %u has ended: that of the session's"
			 " leader %u takes its place", end->e->id, pgrp, leader->pst->pid);
		return 0;
	}
	begin_with_fd(ctx, leader, end->fd);
	batch_call(&ctx->batch, SYS_ioctl, 0, TIOCSPGRP,
		   batch_put(&ctx->batch, &pgrp, sizeof(pgrp)));
	batch_call(&ctx->batch, SYS_close, 0);
	r = batch_run(&ctx->batch);
	return r < 0 ? log_err(r, "terminal 0x%x: cannot bring group %u to the foreground",
			       end->e->id, pgrp) : 0;
}

static struct restore_process *member_find(struct restore_ctx *ctx, uint32_t sid)
{
	for (size_t i = 0; sid && i < ctx->n_procs; i++)
		if (ctx->procs[i].alive && ctx->procs[i].pst->sid == sid)
			return &ctx->procs[i];
	return NULL;
}

static int fd_from_task(const struct restore_process *p, int t_fd, int *ret_fd)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);

	if (pidfd < 0)
		return neg_errno();
	*ret_fd = (int)syscall(SYS_pidfd_getfd, pidfd, t_fd, 0);
	return *ret_fd < 0 ? neg_errno() : 0;
}

/* -ENXIO: that process has no controlling terminal. */
static int ctty_open_by(struct restore_ctx *ctx, struct restore_process *p, int node, int flags,
			int *ret_fd)
{
	struct batch *b = &ctx->batch;
	int call, r, fd = -EBADF;
	int64_t opened;

	begin_with_fd(ctx, p, node);
	call = batch_try(b, SYS_open, batch_str(b, "/proc/self/fd/0"), flags | O_NOCTTY | O_CLOEXEC);
	r = batch_run(b);
	opened = r < 0 ? r : batch_ret(b, call);
	if (r >= 0 && opened >= 0)
		r = fd_from_task(p, (int)opened, &fd);
	batch_begin(b, &p->threads[0].task);
	if (opened >= 0)
		batch_call(b, SYS_close, opened);
	batch_call(b, SYS_close, 0);
	if (r >= 0)
		r = batch_run(b);
	if (r < 0 || opened < 0) {
		close_fdp(&fd);
		return r < 0 ? r : (int)opened;
	}
	*ret_fd = fd;
	return 0;
}

/* A file of /dev/tty is opened by a member of the session; else the terminal itself will do. */
static int ctty_file(struct restore_ctx *ctx, struct restore_file *f, const struct tty_end *end)
{
	struct restore_process *p = member_find(ctx, end->sid);
	const TtyFileEntry *e = f->fe->tty;
	_cleanup_close_ int node = -EBADF;
	int r = -ENXIO, fd;

	LOG_SCOPE("file %u", f->id);
	if (p) {
		r = tty_open_node(ctx, tty_path_of(ctx, e), TTY_DEV_CTTY, O_PATH, &node);
		if (r < 0)
			return log_err(r, "cannot find /dev/tty");
		r = ctty_open_by(ctx, p, node, (int)e->flags & (O_ACCMODE | O_NONBLOCK), &fd);
	}
	if (r == -ENXIO) {
		log_warn("/dev/tty: no process has this terminal as its own: it comes back as the"
			 " terminal's own file");
		return 0;
	}
	return r < 0 ? log_err(r, "cannot open /dev/tty") : tty_ready_put(ctx, f->id, fd);
}

int tty_restore_jobs(struct restore_ctx *ctx)
{
	struct tty_ends *s = tty_ends(ctx);
	int r;

	for (size_t i = 0; i < s->n; i++) {
		struct restore_process *leader = restore_process_find(ctx, s->ends[i]->sid);

		if (!leader || end_of_session(ctx, leader->pst->pid) != s->ends[i])
			continue;
		r = foreground_set(ctx, leader, s->ends[i]);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ctx->n_files; i++) {
		struct restore_file *f = ctx->files[i];
		struct tty_end *end;

		if (f->fe->type != FD_TYPES__TTY)
			continue;
		end = tty_end_of(ctx, f);
		r = end->e->type == TTY_TYPE__CTTY ? ctty_file(ctx, f, end) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* Another size than the programs remember. */
static void size_tell(const struct tty_end *end)
{
	const WinsizeEntry *was = end->e->winsize;
	struct winsize is;
	int pgrp;

	if (was && !ioctl(end->fd, TIOCGWINSZ, &is) &&
	    (is.ws_row != was->ws_row || is.ws_col != was->ws_col) &&
	    !ioctl(end->fd, TIOCGPGRP, &pgrp) && pgrp > 1)
		kill(-pgrp, SIGWINCH);
}

/*
 * The operator's terminal gets its mode when nothing can fail any more. Its size is its own.
 * Changing it from the background would stop us.
 */
static int outside_settle(struct restore_ctx *ctx, const struct tty_end *end)
{
	struct termios2 t = tty_termios_of(end->e->termios);
	sigset_t ttou, old;
	int r = 0, pgrp = (int)end->pgrp;

	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	sigprocmask(SIG_BLOCK, &ttou, &old);
	if (ioctl(end->fd, TCSETS2, &t) < 0)
		r = log_err(neg_errno(), "cannot set the mode of our terminal");
	/* A job within the job; the tree's first group is our own. */
	if (end->pgrp != ctx->procs[0].pst->pgid && group_exists(ctx, end->sid, end->pgrp) &&
	    !restore_process_find(ctx, end->sid) && ioctl(end->fd, TIOCSPGRP, &pgrp) < 0)
		log_warn("cannot bring group %d to the foreground: %m", pgrp);
	sigprocmask(SIG_SETMASK, &old, NULL);
	size_tell(end);
	return r;
}

int tty_restore_last(struct restore_ctx *ctx)
{
	struct tty_ends *s = tty_ends(ctx);
	int one = 1, r = 0;

	for (size_t i = 0; r >= 0 && i < s->n; i++) {
		struct tty_end *end = s->ends[i];

		if (end->outside && end->e->termios)
			r = outside_settle(ctx, end);
		if (end->master && end->e->locked && ioctl(end->fd, TIOCSPTLCK, &one) < 0)
			r = log_err(neg_errno(), "terminal 0x%x: cannot lock it", end->e->id);
		/* While we hold a slave its master sees no end. */
		close_fdp(&end->fd);
		end->fd = -EBADF;
	}
	return r;
}
