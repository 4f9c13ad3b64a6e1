/*
 * Pairs made again, each with its old number, settings and queues; other terminals opened for
 * what their sessions need.
 *
 * The kernel gives the lowest free number. So pairs are made in ascending order, and numbers
 * below that nobody wants are held meanwhile.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "kind/tty.h"
#include "ns/ns.h"

#define NUMBER_TRIES		100u
#define NUMBER_WAIT_USEC	10000

int tty_open_node(struct restore_ctx *ctx, const RegFileEntry *reg, dev_t rdev, int flags,
		  int *ret_fd)
{
	_cleanup_close_ int pfd = -EBADF;
	struct stat st;
	int r;

	/* Opening a device may do anything: it is looked at first. */
	r = restore_open(ctx, reg->name, reg->has_mnt_id ? reg->mnt_id : -1, O_PATH, &pfd);
	if (r < 0)
		return r;
	if (fstat(pfd, &st) < 0)
		return neg_errno();
	if (!S_ISCHR(st.st_mode) || st.st_rdev != rdev)
		return -ESTALE;
	return reopen_fd(pfd, flags, ret_fd);
}

/* A process has the node open as its standard input, output or error. */
static bool process_uses(const char *pid, dev_t instance, dev_t rdev)
{
	char path[48];
	struct stat st;

	for (int fd = 0; fd < 3; fd++) {
		snprintf(path, sizeof(path), "/proc/%.20s/fd/%d", pid, fd);
		if (!stat(path, &st) && st.st_rdev == rdev && st.st_dev == instance)
			return true;
	}
	return false;
}

/* The first that uses a terminal, for the message: "" when nobody is found. */
static void user_find(dev_t instance, uint32_t index, char *text, size_t room)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	struct dirent *de;

	*text = '\0';
	while (dir && (de = readdir(dir))) {
		_cleanup_free_ char *comm = NULL, *path = NULL;

		if (*de->d_name < '0' || *de->d_name > '9' ||
		    !process_uses(de->d_name, instance, makedev(TTY_MAJOR_PTS, index)))
			continue;
		path = str_fmt("/proc/%s/comm", de->d_name);
		if (path && read_file_at(AT_FDCWD, path, 64, &comm, NULL) >= 0)
			comm[strcspn(comm, "\n")] = '\0';
		snprintf(text, room, " by process %s (%s)", de->d_name, comm ? comm : "?");
		return;
	}
}

static int number_taken(struct restore_ctx *ctx, const RegFileEntry *ptmx, uint32_t index)
{
	_cleanup_close_ int other = -EBADF, node = -EBADF;
	char user[128] = "";
	struct stat st;

	/* Any slave's node tells which devpts it is. */
	if (tty_open_node(ctx, ptmx, TTY_DEV_PTMX, O_RDWR, &other) >= 0)
		node = ioctl(other, TIOCGPTPEER, O_PATH | O_CLOEXEC);
	if (node >= 0 && !fstat(node, &st))
		user_find(st.st_dev, index, user, sizeof(user));
	return log_fail(-EBUSY, "terminal number %u is in use%s, and programs of the tree know theirs as"
			" /dev/pts/%u: close that one and try again", index, user, index);
}

static int hold(struct restore_ctx *ctx, int fd)
{
	struct tty_ends *s = tty_ends(ctx);
	int *slot = ARENA_PUSH(&ctx->arena, s->held, s->n_held);

	if (!slot) {
		close(fd);
		return -ENOMEM;
	}
	*slot = fd;
	return 0;
}

static void held_close(struct tty_ends *s)
{
	while (s->n_held)
		close(s->held[--s->n_held]);
}

/* A master of this number. -EBUSY (silent): it is taken, perhaps held by another restore. */
static int number_get(struct restore_ctx *ctx, const RegFileEntry *ptmx, uint32_t want, int *ret_fd)
{
	uint32_t got;
	int r, fd;

	for (;;) {
		r = tty_open_node(ctx, ptmx, TTY_DEV_PTMX, O_RDWR, &fd);
		if (r < 0)
			return log_err(r, "cannot make terminal %u with %s", want, ptmx->name);
		if (ioctl(fd, TIOCGPTN, &got) < 0 || got > want) {
			close(fd);
			return -EBUSY;
		}
		if (got == want) {
			*ret_fd = fd;
			return 0;
		}
		r = hold(ctx, fd);
		if (r < 0)
			return log_err(r, "terminal %u", want);
	}
}

/*
 * Several trees may be restored at once, each holding numbers that another one wants: all let
 * go of them before they try again.
 */
static int master_make(struct restore_ctx *ctx, struct tty_end *end)
{
	const RegFileEntry *ptmx = end->hung ? tty_hung_ptmx(ctx, end) : end->reg;
	uint32_t index = end->e->pty->index;
	int r = -EBUSY;

	if (!ptmx)
		return log_fail(-EBADMSG, "tty-info.img: nobody holds master %u", index);
	/* Hung up, and known as /dev/tty only. */
	if (end->hung && major(end->e->rdev) != TTY_MAJOR_PTS)
		return tty_open_node(ctx, ptmx, TTY_DEV_PTMX, O_RDWR, &end->fd);
	for (unsigned int i = 0; r == -EBUSY && i < NUMBER_TRIES; i++) {
		if (i) {
			held_close(tty_ends(ctx));
			usleep(NUMBER_WAIT_USEC);
		}
		r = number_get(ctx, ptmx, index, &end->fd);
	}
	/* The number of a dead one is no name any more. */
	if (r == -EBUSY && end->hung)
		r = tty_open_node(ctx, ptmx, TTY_DEV_PTMX, O_RDWR, &end->fd);
	return r == -EBUSY ? number_taken(ctx, ptmx, index) : r;
}

static int by_index(const void *a, const void *b)
{
	const struct tty_end *x = *(struct tty_end *const *)a, *y = *(struct tty_end *const *)b;

	return (x->e->pty->index > y->e->pty->index) - (x->e->pty->index < y->e->pty->index);
}

static int masters_make(struct restore_ctx *ctx, struct tty_ends *s)
{
	struct tty_end **masters = arena_alloc(&ctx->arena, (s->n + 1) * sizeof(*masters));
	size_t n = 0;
	int r = 0;

	if (!masters)
		return log_err(-ENOMEM, "terminals");
	for (size_t i = 0; i < s->n; i++)
		if (s->ends[i]->master || tty_hung_needs_master(ctx, s->ends[i]))
			masters[n++] = s->ends[i];
	if (n)
		qsort(masters, n, sizeof(*masters), by_index);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = master_make(ctx, masters[i]);
	held_close(s);
	/* Before a slave is opened that shall not be hung up. */
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = tty_hung_make(ctx, masters[i]);
	return r;
}

/* Owner and mode of a terminal's node. fd may be O_PATH. */
static int node_set(struct restore_ctx *ctx, int fd, const struct tty_end *end)
{
	const TtyInfoEntry *e = end->e;
	char path[48];

	if (e->has_uid && e->has_gid &&
	    fchownat(fd, "", ns_restore_uid(ctx, e->uid), ns_restore_gid(ctx, e->gid),
		     AT_EMPTY_PATH) < 0)
		return log_err(neg_errno(), "cannot give its node to user %u, group %u", e->uid, e->gid);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (e->has_mode && chmod(path, e->mode & 07777) < 0)
		return log_err(neg_errno(), "cannot give its node mode %o", e->mode & 07777);
	/* CRIU has the mode with the path. */
	if (!e->has_mode && end->reg && end->reg->has_mode &&
	    chmod(path, end->reg->mode & 07777) < 0)
		return log_err(neg_errno(), "cannot give its node mode %o", end->reg->mode & 07777);
	return 0;
}

/* The slave need not be opened for that. */
static int slave_node_set(struct restore_ctx *ctx, const struct tty_end *m)
{
	_cleanup_close_ int fd = -EBADF;

	if (!m->peer)
		return 0;
	fd = ioctl(m->fd, TIOCGPTPEER, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot find its slave's node");
	return node_set(ctx, fd, m->peer);
}

/* Of an image, whose limits have been checked. */
static uint32_t copy(void *to, const void *from, size_t n, size_t size)
{
	if (n)
		memcpy(to, from, n * size);
	return (uint32_t)n;
}

static int queues_put(const struct tty_end *m, int slave, const struct termios2 *t)
{
	struct tty_queues *q = calloc(1, sizeof(*q));
	const TtyDataEntry *out = m->data, *in = m->peer ? m->peer->data : NULL;
	int r;

	if (!q)
		return -ENOMEM;
	if (out)
		q->n_out = copy(q->out, out->data.data, out->data.len, 1);
	if (in) {
		q->n_in = copy(q->in, in->data.data, in->data.len, 1);
		q->n_pushed = copy(q->pushed, in->pushed, in->n_pushed, sizeof(*in->pushed));
	}
	q->stopped = m->e->has_stopped ? m->e->stopped : TTY_FLOWS;
	r = tty_queues_put(m->fd, slave, t, q);
	free(q);
	return r;
}

static int modes_set(const struct tty_end *m, int slave)
{
	int on = 1;

	if ((m->e->packet_mode && ioctl(m->fd, TIOCPKT, &on) < 0) ||
	    (m->e->exclusive && ioctl(m->fd, TIOCEXCL) < 0) ||
	    (slave >= 0 && m->peer && m->peer->e->exclusive && ioctl(slave, TIOCEXCL) < 0))
		return log_err(neg_errno(), "cannot set packet or exclusive mode");
	return 0;
}

/* A slave that nobody has opened yet stays so: its settings go through the master. */
static int pair_settle(struct restore_ctx *ctx, struct tty_end *m)
{
	const TtyInfoEntry *e = m->peer && m->peer->e->termios ? m->peer->e : m->e;
	bool fresh = m->e->has_fresh && m->e->fresh;
	_cleanup_close_ int own = -EBADF;
	int *slave = m->peer ? &m->peer->fd : &own, zero = 0, r;
	struct termios2 t;

	if (ioctl(m->fd, TIOCSPTLCK, &zero) < 0)
		return log_err(neg_errno(), "cannot unlock it");
	r = slave_node_set(ctx, m);
	if (r < 0)
		return r;
	if (!fresh) {
		r = tty_open_peer(m->fd, O_RDWR | O_NONBLOCK, slave);
		if (r < 0)
			return log_err(r, "cannot open its slave");
	}
	r = tty_size_set(m->fd, e);
	if (r < 0)
		return log_err(r, "cannot set its size");
	if (e->termios) {
		t = tty_termios_of(e->termios);
		r = fresh ? (ioctl(m->fd, TCSETS2, &t) < 0 ? neg_errno() : 0) :
			    queues_put(m, *slave, &t);
		if (r < 0)
			return log_err(r, "cannot fill its queues or set its mode");
	}
	r = tty_locked_set(m->fd, e);
	if (r < 0)
		return log_err(r, "cannot lock its settings");
	return modes_set(m, *slave);
}

/* A console or serial line, and what is the operator's: opened once for settings and session. */
static int device_open(struct restore_ctx *ctx, struct tty_end *end)
{
	bool own = end->sid && restore_process_find(ctx, end->sid);
	struct termios2 t;
	int r;

	if (end->outside)
		r = reopen_fd(STDIN_FILENO, O_RDWR | O_NONBLOCK, &end->fd);
	else if (end->reg && end->e->type != TTY_TYPE__PTY && end->e->type != TTY_TYPE__CTTY &&
		 end->e->type != TTY_TYPE__EXT_TTY)
		r = tty_open_node(ctx, end->reg, end->e->rdev, O_RDWR | O_NONBLOCK, &end->fd);
	else
		return 0;
	if (r < 0)
		return log_err(r, "cannot open %s", end->outside ? "the terminal of our standard input" :
								   end->reg->name);
	/* The console is everybody's, and the kernel's command line sets it, but for a login on it. */
	if (end->outside || !end->e->termios || (end->e->type == TTY_TYPE__CONSOLE && !own))
		return 0;
	/* A login's terminal is its user's. */
	r = own ? node_set(ctx, end->fd, end) : 0;
	if (r < 0)
		return r;
	t = tty_termios_of(end->e->termios);
	r = ioctl(end->fd, TCSETS2, &t) < 0 ? neg_errno() : tty_locked_set(end->fd, end->e);
	if (r < 0)
		return log_err(r, "cannot set the mode of %s", end->reg->name);
	if (end->e->exclusive && ioctl(end->fd, TIOCEXCL) < 0)
		return log_err(neg_errno(), "cannot make %s exclusive", end->reg->name);
	return 0;
}

int tty_restore_pairs(struct restore_ctx *ctx)
{
	struct tty_ends *s = tty_ends(ctx);
	int r;

	if (!s)
		return log_err(-ENOMEM, "terminals");
	r = tty_orphans_find(ctx);
	if (r >= 0)
		r = masters_make(ctx, s);
	for (size_t i = 0; r >= 0 && i < s->n; i++) {
		struct tty_end *end = s->ends[i];

		LOG_SCOPE("terminal 0x%x", end->e->id);
		r = end->master ? pair_settle(ctx, end) : device_open(ctx, end);
	}
	return r;
}

void tty_pairs_done(struct restore_ctx *ctx)
{
	struct tty_ends *s = ctx->kind_state[FD_TYPES__TTY];

	if (!s)
		return;
	held_close(s);
	for (size_t i = 0; i < s->n; i++)
		close_fdp(&s->ends[i]->fd);
	for (size_t i = 0; i < ctx->n_files; i++) {
		struct tty_ready *ready = map_get(&s->ready, ctx->files[i]->id);

		if (ready)
			close_fdp(&ready->fd);
	}
	map_done(&s->by_id);
	map_done(&s->ready);
	ctx->kind_state[FD_TYPES__TTY] = NULL;
}
