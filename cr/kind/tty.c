/*
 * Terminals: pseudo terminals (a master and its slaves), /dev/tty, the console, virtual
 * consoles, serial lines.
 *
 *   dump     TIOCGPTN, TIOCGDEV: which terminal; its settings (tty_params.c); when all files are
 *            known, sessions and queues (tty_judge.c, tty_queue.c)
 *   restore  pairs before any task exists, since a session's members inherit its terminal at
 *            birth (tty_restore.c, tty_session.c); slaves and others opened by their paths
 *
 * The trap: the kernel chooses the number of a pair, always the lowest that is free.
 *
 * A file that was hung up (its master closed, its session over) is dead for ever, whatever its
 * terminal does now: tty_hung.c.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "kind/tty.h"

static bool tty_match(const struct dump_file *f)
{
	unsigned int major = major(f->st.st_rdev), minor = minor(f->st.st_rdev);

	if (!S_ISCHR(f->st.st_mode) || f->flags & O_PATH)
		return false;
	switch (major) {
	case 4:			/* virtual consoles, serial lines */
	case 136:
	case 166:		/* USB modems */
	case 188:		/* USB serial converters */
	case 204:		/* low-density serial ports: ttyAMA ... */
	case 229:		/* hvc: hypervisors' consoles */
		return true;
	case 5:			/* tty, console, ptmx */
		return minor <= 2;
	default:
		return false;
	}
}

static void tty_dump_done(struct dump_ctx *ctx)
{
	struct tty_sides *s = ctx->kind_state[FD_TYPES__TTY];

	for (size_t i = 0; s && i < s->n; i++)
		close_fdp(&s->sides[i]->master_fd);
}

/* Its node as the program knows it; the kernel's way when that leads elsewhere. */
static int slave_open(struct restore_ctx *ctx, const TtyFileEntry *e, const struct tty_end *end,
		      int *ret_fd)
{
	int flags = (int)e->flags & (O_ACCMODE | O_NONBLOCK);
	struct stat by_path, peer;
	_cleanup_close_ int fd = -EBADF, node = -EBADF;
	int r;

	if (!end->peer || end->peer->fd < 0)
		return log_fail(-EBADMSG, "its terminal has no master");
	node = ioctl(end->peer->fd, TIOCGPTPEER, O_PATH | O_CLOEXEC);
	if (node < 0 || fstat(node, &peer) < 0)
		return log_err(neg_errno(), "cannot find its node");
	r = tty_open_node(ctx, tty_path_of(ctx, e), peer.st_rdev, flags, &fd);
	if (r >= 0 && !fstat(fd, &by_path) && by_path.st_ino == peer.st_ino &&
	    by_path.st_dev == peer.st_dev) {
		*ret_fd = take_fd(&fd);
		return 0;
	}
	r = tty_open_peer(end->peer->fd, flags, ret_fd);
	return r < 0 ? log_err(r, "cannot open slave %u", end->e->pty->index) : 0;
}

static int outside_open(const TtyFileEntry *e, int *ret_fd)
{
	int r = reopen_fd(STDIN_FILENO, (int)e->flags & (O_ACCMODE | O_NONBLOCK), ret_fd);

	return r < 0 ? log_err(r, "cannot open the terminal of our standard input") : 0;
}

static int external_open(struct restore_ctx *ctx, const struct tty_end *end, int *ret_fd)
{
	char key[TTY_KEY_MAX];
	int r;

	tty_external_key(key, end->e->rdev, end->e->dev);
	r = external_dup(ctx->opts, key, ret_fd);
	return r < 0 ? log_err(r, "an external terminal: give --inherit-fd fd[N]:%s", key) : 0;
}

static int device_open(struct restore_ctx *ctx, const TtyFileEntry *e, const struct tty_end *end,
		       int *ret_fd)
{
	const RegFileEntry *reg = tty_path_of(ctx, e);
	/* A serial line without O_NONBLOCK may wait for a carrier. */
	int r = tty_open_node(ctx, reg, end->e->rdev, ((int)e->flags & O_ACCMODE) | O_NONBLOCK, ret_fd);

	return r < 0 ? log_err(r, "cannot open %s (it was device %u:%u)", reg->name,
			       major(end->e->rdev), minor(end->e->rdev)) : 0;
}

static int file_open(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	struct tty_ready *ready = map_get(&tty_ends(ctx)->ready, f->id);
	struct tty_end *end = tty_end_of(ctx, f);

	if (ready) {
		*ret_fd = take_fd(&ready->fd);
		return *ret_fd < 0 ? log_fail(-EBADMSG, "it is wanted twice") : 0;
	}
	/* One of /dev/tty that no process could open. */
	if (end->e->type == TTY_TYPE__CTTY) {
		end = tty_behind(ctx, end);
		if (!end)
			return log_fail(-EBADMSG, "/dev/tty of no terminal in the images");
	}
	if (end->outside)
		return outside_open(f->fe->tty, ret_fd);
	if (end->e->type == TTY_TYPE__EXT_TTY)
		return external_open(ctx, end, ret_fd);
	if (end->master) {
		*ret_fd = fcntl(end->fd, F_DUPFD_CLOEXEC, 3);
		return *ret_fd < 0 ? log_err(neg_errno(), "its master is gone") : 0;
	}
	if (end->e->type == TTY_TYPE__PTY)
		return slave_open(ctx, f->fe->tty, end, ret_fd);
	return device_open(ctx, f->fe->tty, end, ret_fd);
}

static int tty_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const TtyFileEntry *e = f->fe->tty;
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = file_open(ctx, f, &fd);
	if (r < 0)
		return r;
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct kind kind_tty = {
	.name = "terminal",
	.type = FD_TYPES__TTY,
	.match = tty_match,
	.dump = tty_dump,
	.dump_end = tty_dump_end,
	.dump_done = tty_dump_done,
	.prepare = tty_prepare,
	.restore = tty_restore,
	.restore_done = tty_pairs_done,
};
