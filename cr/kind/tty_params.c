/*
 * Settings of a terminal: termios with speeds, locked bits, window size, exclusive and packet
 * mode, lock.
 *
 * CRIU copies the bytes of c_cc into the first words of the field of that name and writes no
 * speeds; one that is not in c_cflag (BOTHER) is ours.
 */
#include <string.h>

#include "kind/tty.h"

#define CC_WORDS	((NCCS + 3) / 4)
#define CC_WORDS_CRIU	19

static int termios_put(struct arena *a, TermiosEntry **ret, const struct termios2 *t)
{
	TermiosEntry *e = ARENA_MSG(a, TermiosEntry, termios_entry);

	if (!e)
		return -ENOMEM;
	e->c_cc = arena_alloc(a, CC_WORDS_CRIU * sizeof(*e->c_cc));
	if (!e->c_cc)
		return -ENOMEM;
	e->n_c_cc = CC_WORDS_CRIU;
	memcpy(e->c_cc, t->c_cc, NCCS);
	e->c_iflag = t->c_iflag;
	e->c_oflag = t->c_oflag;
	e->c_cflag = t->c_cflag;
	e->c_lflag = t->c_lflag;
	e->c_line = t->c_line;
	if ((t->c_cflag & CBAUD) == BOTHER) {
		e->c_ispeed = t->c_ispeed;
		e->c_ospeed = t->c_ospeed;
	}
	*ret = e;
	return 0;
}

struct termios2 tty_termios_of(const TermiosEntry *e)
{
	struct termios2 t = {
		.c_iflag = e->c_iflag, .c_oflag = e->c_oflag, .c_cflag = e->c_cflag,
		.c_lflag = e->c_lflag, .c_line = (cc_t)e->c_line,
		.c_ispeed = e->c_ispeed, .c_ospeed = e->c_ospeed,
	};

	memcpy(t.c_cc, e->c_cc, NCCS);
	return t;
}

int tty_params_get(struct arena *a, int fd, TtyInfoEntry *e)
{
	WinsizeEntry *w = ARENA_MSG(a, WinsizeEntry, winsize_entry);
	struct termios2 t, locked = { 0 };
	int exclusive, packet = 0, lock = 0, discipline;
	struct winsize ws;

	/* The locked bits are the kernel's older struct, without speeds, which is shorter. */
	if (ioctl(fd, TCGETS2, &t) < 0 || ioctl(fd, TIOCGLCKTRMIOS, &locked) < 0 ||
	    ioctl(fd, TIOCGWINSZ, &ws) < 0 || ioctl(fd, TIOCGEXCL, &exclusive) < 0 ||
	    ioctl(fd, TIOCGETD, &discipline) < 0)
		return log_err(neg_errno(), "cannot read the terminal's settings");
	if (discipline)
		return log_obstacle("end the connection over it before",
				    "a terminal with line discipline %d (PPP, SLIP ...)", discipline);
	/* A master's own. */
	if (e->id & 1 && e->type == TTY_TYPE__PTY &&
	    (ioctl(fd, TIOCGPKT, &packet) < 0 || ioctl(fd, TIOCGPTLCK, &lock) < 0))
		return log_err(neg_errno(), "cannot read the terminal's mode");
	if (!w || termios_put(a, &e->termios, &t) < 0 ||
	    termios_put(a, &e->termios_locked, &locked) < 0)
		return log_err(-ENOMEM, "terminal");
	w->ws_row = ws.ws_row;
	w->ws_col = ws.ws_col;
	w->ws_xpixel = ws.ws_xpixel;
	w->ws_ypixel = ws.ws_ypixel;
	e->winsize = w;
	e->exclusive = exclusive;
	e->packet_mode = packet;
	e->locked = lock;
	return 0;
}

static bool termios_is_good(const TermiosEntry *e)
{
	return !e || (e->n_c_cc >= CC_WORDS && e->c_line <= UINT8_MAX);
}

int tty_params_check(const TtyInfoEntry *e)
{
	const WinsizeEntry *w = e->winsize;

	if (!termios_is_good(e->termios) || !termios_is_good(e->termios_locked) ||
	    (w && (w->ws_row > UINT16_MAX || w->ws_col > UINT16_MAX ||
		   w->ws_xpixel > UINT16_MAX || w->ws_ypixel > UINT16_MAX)))
		return -EBADMSG;
	return 0;
}

int tty_size_set(int fd, const TtyInfoEntry *e)
{
	const WinsizeEntry *w = e->winsize;
	struct winsize ws;

	if (!w)
		return 0;
	ws = (struct winsize){ (uint16_t)w->ws_row, (uint16_t)w->ws_col, (uint16_t)w->ws_xpixel,
			       (uint16_t)w->ws_ypixel };
	return ioctl(fd, TIOCSWINSZ, &ws) < 0 ? neg_errno() : 0;
}

int tty_locked_set(int fd, const TtyInfoEntry *e)
{
	struct termios2 locked;

	if (!e->termios_locked)
		return 0;
	locked = tty_termios_of(e->termios_locked);
	return ioctl(fd, TIOCSLCKTRMIOS, &locked) < 0 ? neg_errno() : 0;
}
