/*
 * What is queued in a pseudo terminal: output that the master has not read, input that the
 * slave has not read.
 *
 * No call looks into these queues; reading is the only way, and writing puts it back. Between
 * the two the data exist nowhere else, so a process of its own does both in one go: a dump that
 * is killed meanwhile leaves it working for the microseconds it needs.
 *
 * Output goes back by the slave with its processing (OPOST) off. Input goes back by TIOCSTI,
 * which is synchronous where writing to the master is not, into a line discipline whose
 * characters have no meaning but the two that are needed: one ends a line as end-of-file does,
 * one quotes. So lines that are complete stay lines, and a line half typed can still be edited.
 *
 * The trap: changing between canonical and raw input makes the kernel forget where lines end,
 * so complete lines are read before that.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "kind/tty.h"

#define PUT_TRIES	1000u	/* of 1 ms */
/* Pieces of this size pack the kernel's buffers best: what was in them fits in again (measured). */
#define PUT_PIECE	1020u
/* N_TTY_BUF_SIZE - 1: what the line discipline takes of TIOCSTI; the rest waits before it. */
#define LDISC_BYTES	4095u

static int poll_now(int fd, short events)
{
	struct pollfd p = { fd, events, 0 };

	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

int tty_open_peer(int master, int flags, int *ret_fd)
{
	int locked = 0, zero = 0, one = 1, fd, r = 0;

	if (ioctl(master, TIOCGPTLCK, &locked) < 0 ||
	    (locked && ioctl(master, TIOCSPTLCK, &zero) < 0))
		return neg_errno();
	fd = ioctl(master, TIOCGPTPEER, flags | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		r = neg_errno();
	if (locked && ioctl(master, TIOCSPTLCK, &one) < 0 && !r)
		r = neg_errno();
	if (r < 0) {
		close_fdp(&fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static bool is_canonical(const struct termios2 *t)
{
	return t->c_lflag & ICANON && !(t->c_lflag & EXTPROC);
}

static bool ends_line(const struct termios2 *t, uint8_t c)
{
	return c == '\n' || (c && (c == t->c_cc[VEOL] || c == t->c_cc[VEOL2]));
}

/* Settings under which characters are only stored; two codes that end no line get a meaning. */
static struct termios2 quiet_termios(const struct termios2 *real, bool canonical)
{
	struct termios2 t = *real;
	uint8_t c = 1;

	t.c_iflag = 0;
	t.c_oflag &= ~(tcflag_t)OPOST;
	t.c_lflag = real->c_lflag & EXTPROC;
	memset(t.c_cc, 0, sizeof(t.c_cc));
	t.c_cc[VMIN] = 1;
	if (!canonical)
		return t;
	t.c_lflag |= ICANON | IEXTEN;
	t.c_cc[VMIN] = 0;
	t.c_cc[VEOL] = real->c_cc[VEOL];
	t.c_cc[VEOL2] = real->c_cc[VEOL2];
	while (ends_line(real, c))
		c++;
	t.c_cc[VEOF] = c++;
	while (ends_line(real, c))
		c++;
	t.c_cc[VLNEXT] = c;
	return t;
}

static int take_lines(int slave, const struct termios2 *real, struct tty_queues *q)
{
	while (q->n_in < TTY_QUEUE_MAX && q->n_pushed < TTY_PUSHED_MAX) {
		ssize_t n = read(slave, q->in + q->n_in, TTY_QUEUE_MAX - q->n_in);

		if (n < 0)
			return errno == EAGAIN ? 0 : neg_errno();
		q->n_in += (uint32_t)n;
		if (!n || !ends_line(real, q->in[q->n_in - 1]))
			q->pushed[q->n_pushed++] = q->n_in;
	}
	return 0;
}

static int take_raw(int slave, struct tty_queues *q)
{
	while (q->n_in < TTY_QUEUE_MAX) {
		ssize_t n = read(slave, q->in + q->n_in, TTY_QUEUE_MAX - q->n_in);

		if (n < 0)
			return errno == EAGAIN ? 0 : neg_errno();
		if (!n)
			return 0;
		q->n_in += (uint32_t)n;
	}
	return 0;
}

/* The tree's descriptor may block; nobody else reads now. */
static int take_output(int master, struct tty_queues *q)
{
	while (q->n_out < TTY_QUEUE_MAX && poll_now(master, POLLIN) & POLLIN) {
		ssize_t n = read(master, q->out + q->n_out, TTY_QUEUE_MAX - q->n_out);

		if (n < 0)
			return errno == EIO ? 0 : neg_errno();
		q->n_out += (uint32_t)n;
	}
	return 0;
}

/*
 * With nothing queued a slave that takes no output is stopped. tcflow(TCOON) undoes only what
 * tcflow(TCOOFF) did, which tells the two ways apart; afterwards it flows.
 */
static uint32_t take_stopped(int slave)
{
	if (poll_now(slave, POLLOUT) & POLLOUT)
		return TTY_FLOWS;
	if (ioctl(slave, TCXONC, TCOON) < 0)
		return TTY_FLOWS;
	if (poll_now(slave, POLLOUT) & POLLOUT)
		return TTY_STOPPED_BY_FLOW;
	if (!ioctl(slave, TCXONC, TCOOFF) && !ioctl(slave, TCXONC, TCOON))
		return TTY_STOPPED_BY_CHAR;
	return TTY_FLOWS;
}

static int put_stopped(int slave, const struct termios2 *real, uint32_t stopped)
{
	char stop = (char)real->c_cc[VSTOP];

	if (stopped == TTY_FLOWS)
		return 0;
	if (stopped == TTY_STOPPED_BY_CHAR && stop && real->c_iflag & IXON)
		return ioctl(slave, TIOCSTI, &stop) < 0 ? neg_errno() : 0;
	return ioctl(slave, TCXONC, TCOOFF) < 0 ? neg_errno() : 0;
}

/* Room comes as the kernel's worker moves what was written before. fd does not block. */
static int put_all(int fd, const uint8_t *p, size_t n)
{
	for (unsigned int tries = 0; n && tries < PUT_TRIES;) {
		ssize_t k = write(fd, p, MIN(n, (size_t)PUT_PIECE));

		if (k < 0 && errno != EAGAIN)
			return neg_errno();
		if (k <= 0) {
			tries++;
			usleep(1000);
			continue;
		}
		tries = 0;
		p += k;
		n -= (size_t)k;
	}
	return n ? -ENOSPC : 0;
}

/* A master belongs to the tree and may block, which a write that finds too little room would. */
static int put_rest(int master, const uint8_t *p, size_t n)
{
	int flags, r;

	if (!n)
		return 0;
	flags = fcntl(master, F_GETFL);
	if (flags < 0 || fcntl(master, F_SETFL, flags | O_NONBLOCK) < 0)
		return neg_errno();
	r = put_all(master, p, n);
	if (fcntl(master, F_SETFL, flags) < 0 && r >= 0)
		r = neg_errno();
	return r;
}

static int put_char(int slave, const struct termios2 *quiet, uint8_t c)
{
	char quote = (char)quiet->c_cc[VLNEXT], ch = (char)c;

	if (quote && (c == quiet->c_cc[VEOF] || c == quiet->c_cc[VLNEXT]) &&
	    ioctl(slave, TIOCSTI, &quote) < 0)
		return neg_errno();
	return ioctl(slave, TIOCSTI, &ch) < 0 ? neg_errno() : 0;
}

/* *ret: how much of it is in. */
static int put_input(int slave, const struct termios2 *quiet, const struct tty_queues *q,
		     uint32_t *ret)
{
	uint32_t done = 0, push = 0, room = LDISC_BYTES;
	char eof = (char)quiet->c_cc[VEOF];
	int r;

	for (; room; room--) {
		if (push < q->n_pushed && q->pushed[push] == done) {
			if (eof && ioctl(slave, TIOCSTI, &eof) < 0)
				return neg_errno();
			push++;
			continue;
		}
		if (done == q->n_in)
			break;
		r = put_char(slave, quiet, q->in[done]);
		if (r < 0)
			return r;
		done++;
	}
	*ret = done;
	return 0;
}

/* In a dump this is all there is of the data: whatever fails, all else is put. */
int tty_queues_put(int master, int slave, const struct termios2 *real, const struct tty_queues *q)
{
	struct termios2 quiet = quiet_termios(real, is_canonical(real));
	uint32_t done = q->n_in;
	int r = 0, out = 0, stopped;

	if (q->n_out || q->n_in || q->n_pushed) {
		if (ioctl(slave, TCSETS2, &quiet) < 0)
			return neg_errno();
		out = put_all(slave, q->out, q->n_out);
		r = put_input(slave, &quiet, q, &done);
	}
	if (ioctl(slave, TCSETS2, real) < 0)
		r = neg_errno();
	/* What did not fit waits as it came: not yet seen by the line discipline. */
	if (r >= 0)
		r = put_rest(master, q->in + done, q->n_in - done);
	stopped = put_stopped(slave, real, q->stopped);
	return out < 0 ? out : r < 0 ? r : stopped;
}

static int take_input(int slave, const struct termios2 *real, struct tty_queues *q)
{
	struct termios2 raw = quiet_termios(real, false);
	int r;

	if (!is_canonical(real))
		return take_raw(slave, q);
	r = take_lines(slave, real, q);
	if (r >= 0 && ioctl(slave, TCSETS2, &raw) < 0)
		r = neg_errno();
	return r < 0 ? r : take_raw(slave, q);
}

static int peek_one(int master, struct tty_queues *q)
{
	int packet = 0, on = 1, off = 0, slave, r, put;
	/* The locked bits are the kernel's older struct, without speeds, which is shorter. */
	struct termios2 real, locked = { 0 }, none = { 0 };

	r = tty_open_peer(master, O_RDWR | O_NONBLOCK, &slave);
	if (r < 0)
		return r;
	if (ioctl(slave, TCGETS2, &real) < 0 || ioctl(slave, TIOCGLCKTRMIOS, &locked) < 0 ||
	    ioctl(master, TIOCGPKT, &packet) < 0 ||
	    ioctl(slave, TIOCSLCKTRMIOS, &none) < 0 || (packet && ioctl(master, TIOCPKT, &off) < 0)) {
		r = neg_errno();
		close(slave);
		return r;
	}
	r = take_output(master, q);
	q->stopped = take_stopped(slave);
	if (r >= 0)
		r = take_input(slave, &real, q);
	put = tty_queues_put(master, slave, &real, q);
	if (ioctl(slave, TIOCSLCKTRMIOS, &locked) < 0 ||
	    (packet && ioctl(master, TIOCPKT, &on) < 0))
		put = put < 0 ? put : neg_errno();
	close(slave);
	return put < 0 ? put : r;
}

static void __attribute__((noreturn)) peek_child(struct tty_peek *peeks, size_t n)
{
	sigset_t all;

	/* Out of reach of what is sent to the dump and its group. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	setsid();
	for (size_t i = 0; i < n; i++) {
		int r = peek_one(peeks[i].master, peeks[i].queues);

		if (r < 0)
			_exit(-r);
	}
	_exit(0);
}

int tty_queues_peek(struct tty_peek *peeks, size_t n)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return neg_errno();
	if (!pid)
		peek_child(peeks, n);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return neg_errno();
	if (!WIFEXITED(status))
		return -EINTR;
	return -WEXITSTATUS(status);
}
