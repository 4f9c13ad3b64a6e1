/*
 * Pseudo terminals, both ends ours: settings, size, modes, queues both ways, slaves opened
 * several times, not yet, no more; hung up.
 */
#include "files_common.h"

#include <asm/termbits.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct tty {
	int master, slave;
	unsigned int index;
};

static struct tty tty_new(int flags)
{
	struct tty t = { .slave = -1 };
	int zero = 0;

	t.master = open("/dev/ptmx", O_RDWR | O_NOCTTY | flags);
	MAKER_MUST(t.master >= 0 && !ioctl(t.master, TIOCGPTN, &t.index));
	MAKER_MUST(!ioctl(t.master, TIOCSPTLCK, &zero));
	return t;
}

static int slave_new(const struct tty *t, int flags)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/pts/%u", t->index);
	fd = open(path, flags | O_NOCTTY);
	MAKER_MUST(fd >= 0);
	return fd;
}

static void mode_set(const struct tty *t, tcflag_t iflag, tcflag_t oflag, tcflag_t lflag)
{
	struct termios2 m;

	MAKER_MUST(!ioctl(t->slave, TCGETS2, &m));
	m.c_iflag = iflag;
	m.c_oflag = oflag;
	m.c_lflag = lflag;
	m.c_cc[VINTR] = 0x1f;
	m.c_cc[VERASE] = 'E';
	m.c_cflag = (m.c_cflag & ~(tcflag_t)CBAUD) | BOTHER;
	m.c_ispeed = m.c_ospeed = 123456;
	MAKER_MUST(!ioctl(t->slave, TCSETS2, &m));
}

static int looks(int fd, short events)
{
	struct pollfd p = { fd, events, 0 };

	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

static void reads(const char *what, int fd, const char *text)
{
	size_t n = strlen(text);
	char buf[256];

	looks(fd, POLLIN);
	MAKER_SAME(what, read(fd, buf, sizeof(buf)), n);
	if (memcmp(buf, text, n))
		maker_fail("%s is \"%.*s\"", what, (int)n, buf);
}

static void reads_nothing(const char *what, int fd, int error)
{
	char c;

	looks(fd, POLLIN);
	MAKER_SAME(what, read(fd, &c, 1), -1);
	MAKER_SAME(what, errno, error);
}

static void puts_in(int fd, const char *text)
{
	MAKER_MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static int get(int fd, unsigned int request)
{
	int v = -1;

	if (ioctl(fd, request, &v) < 0)
		maker_fail("ioctl %x: %s", request, strerror(errno));
	return v;
}

static void index_same(const char *what, const struct tty *t)
{
	char path[32], link[64] = "";

	MAKER_SAME(what, get(t->master, TIOCGPTN), t->index);
	if (t->slave < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", t->slave);
	MAKER_MUST(readlink(path, link, sizeof(link) - 1) > 0);
	snprintf(path, sizeof(path), "/dev/pts/%u", t->index);
	if (strcmp(link, path))
		maker_fail("%s is %s, not %s", what, link, path);
}

static struct tty raw, lines, fresh, ended, stopped, hung, vhung;
static int raw_reader, raw_dup, count;
static struct termios2 raw_was, lines_was;

static void make_raw(void)
{
	struct winsize ws = { 50, 132, 1320, 1000 };
	char path[32];

	raw = tty_new(O_NONBLOCK);
	raw.slave = slave_new(&raw, O_RDWR);
	raw_reader = slave_new(&raw, O_RDONLY | O_NONBLOCK);
	raw_dup = dup(raw.slave);
	mode_set(&raw, 0, maker_is_plain() ? 0 : OPOST | ONLCR, 0);
	MAKER_MUST(!ioctl(raw.master, TIOCSWINSZ, &ws));
	MAKER_MUST(maker_is_plain() || !ioctl(raw.slave, TIOCEXCL));
	snprintf(path, sizeof(path), "/dev/pts/%u", raw.index);
	MAKER_MUST(!chown(path, 7, 8) && !chmod(path, 0641));
	MAKER_MUST(!ioctl(raw.slave, TCGETS2, &raw_was));
	puts_in(raw.slave, "out\nput");
	puts_in(raw.master, "in\003\004\021put");
}

static void make_lines(void)
{
	struct termios2 locked = { .c_lflag = ECHO | ICANON };
	int on = 1;

	lines = tty_new(O_NONBLOCK);
	lines.slave = slave_new(&lines, O_RDWR | O_NONBLOCK);
	mode_set(&lines, ICRNL | IXON, OPOST, ICANON | ISIG | IEXTEN);
	MAKER_MUST(!ioctl(lines.slave, TIOCSLCKTRMIOS, &locked));
	MAKER_MUST(!ioctl(lines.slave, TCGETS2, &lines_was));
	puts_in(lines.master, "one\ntwo\004\004haE");
	looks(lines.slave, POLLIN);
	MAKER_MUST(!ioctl(lines.master, TIOCPKT, &on));
	puts_in(lines.slave, "shown");
}

static void make_others(void)
{
	int one = 1;

	fresh = tty_new(0);
	MAKER_MUST(!ioctl(fresh.master, TIOCSPTLCK, &one));
	ended = tty_new(0);
	ended.slave = slave_new(&ended, O_RDWR);
	mode_set(&ended, 0, 0, 0);
	puts_in(ended.slave, "last words");
	close(ended.slave);
	ended.slave = -1;
	stopped = tty_new(O_NONBLOCK);
	stopped.slave = slave_new(&stopped, O_RDWR | O_NONBLOCK);
	mode_set(&stopped, IXON, 0, ISIG);
	puts_in(stopped.slave, "before");
	puts_in(stopped.master, "\023");
	MAKER_MUST(!(looks(stopped.slave, POLLIN | POLLOUT) & POLLOUT));
	vhung = tty_new(O_NONBLOCK);
	vhung.slave = slave_new(&vhung, O_RDWR);
	MAKER_MUST(!ioctl(vhung.slave, TIOCVHANGUP));
	hung = tty_new(0);
	hung.slave = slave_new(&hung, O_RDWR);
	close(hung.master);
}

static void mode_same(const struct termios2 *is, const struct termios2 *should)
{
	MAKER_SAME("input mode", is->c_iflag, should->c_iflag);
	MAKER_SAME("output mode", is->c_oflag, should->c_oflag);
	MAKER_SAME("local mode", is->c_lflag, should->c_lflag);
	MAKER_SAME("characters", memcmp(is->c_cc, should->c_cc, sizeof(is->c_cc)), 0);
	if (!maker_is_plain())
		MAKER_SAME("mode", memcmp(is, should, sizeof(*is)), 0);
}

static void check_raw(void)
{
	struct termios2 now;
	struct winsize ws;
	struct stat st;

	index_same("raw", &raw);
	MAKER_MUST(!ioctl(raw.slave, TCGETS2, &now));
	mode_same(&now, &raw_was);
	MAKER_MUST(!ioctl(raw.slave, TIOCGWINSZ, &ws));
	MAKER_SAME("rows", ws.ws_row, 50);
	MAKER_SAME("pixels", ws.ws_xpixel, 1320);
	MAKER_SAME("exclusive slave", get(raw.slave, TIOCGEXCL), !maker_is_plain());
	MAKER_SAME("exclusive master", get(raw.master, TIOCGEXCL), 0);
	MAKER_SAME("lock", get(raw.master, TIOCGPTLCK), 0);
	MAKER_SAME("packet mode", get(raw.master, TIOCGPKT), 0);
	MAKER_MUST(!fstat(raw.slave, &st));
	MAKER_SAME("owner", st.st_uid, 7);
	MAKER_SAME("group", st.st_gid, 8);
	MAKER_SAME("permissions", st.st_mode & 07777, 0641);
	MAKER_SAME("flags of the reader", fcntl(raw_reader, F_GETFL) & (O_ACCMODE | O_NONBLOCK),
		   O_RDONLY | O_NONBLOCK);
	MAKER_SAME("flags of the writer", fcntl(raw.slave, F_GETFL) & (O_ACCMODE | O_NONBLOCK),
		   O_RDWR);
	MAKER_MUST(!fcntl(raw_dup, F_SETFL, O_NONBLOCK));
	MAKER_SAME("a duplicate's flags", fcntl(raw.slave, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	reads("raw output", raw.master, maker_is_plain() ? "out\nput" : "out\r\nput");
	reads_nothing("raw output", raw.master, EAGAIN);
	reads("raw input", raw_reader, "in\003\004\021put");
	reads_nothing("raw input", raw_reader, EAGAIN);
	puts_in(raw.slave, "on");
	reads("new output", raw.master, "on");
}

static void check_lines(void)
{
	struct termios2 now;

	index_same("lines", &lines);
	MAKER_MUST(!ioctl(lines.slave, TCGETS2, &now));
	mode_same(&now, &lines_was);
	MAKER_SAME("packet mode", get(lines.master, TIOCGPKT), 1);
	MAKER_MUST(looks(lines.master, POLLIN) & POLLIN);
	{
		char buf[16];

		MAKER_SAME("a packet", read(lines.master, buf, sizeof(buf)), 6);
		MAKER_SAME("its kind", buf[0], 0);
		MAKER_SAME("its contents", memcmp(buf + 1, "shown", 5), 0);
	}
	now.c_lflag |= ECHO;
	MAKER_MUST(!ioctl(lines.slave, TCSETS2, &now));
	MAKER_MUST(!ioctl(lines.slave, TCGETS2, &now));
	MAKER_SAME("locked echo", now.c_lflag & ECHO, 0);
	reads("first line", lines.slave, "one\n");
	reads("second, pushed", lines.slave, "two");
	reads("end of file", lines.slave, "");
	reads_nothing("half a line", lines.slave, EAGAIN);
	puts_in(lines.master, "alf\n");
	reads("the half line, edited and ended", lines.slave, "half\n");
}

static void check_others(void)
{
	struct stat st;
	char c;

	index_same("fresh", &fresh);
	MAKER_SAME("lock", get(fresh.master, TIOCGPTLCK), 1);
	MAKER_SAME("no slave was opened", looks(fresh.master, POLLIN) & POLLHUP, 0);
	index_same("ended", &ended);
	reads("last words", ended.master, "last words");
	MAKER_SAME("end", looks(ended.master, POLLIN) & POLLHUP, POLLHUP);
	reads_nothing("end", ended.master, EIO);
	index_same("stopped", &stopped);
	MAKER_SAME("still stopped", looks(stopped.slave, POLLOUT) & POLLOUT, 0);
	reads("before it was stopped", stopped.master, "before");
	puts_in(stopped.master, "\021");
	MAKER_SAME("flows again", looks(stopped.slave, POLLIN | POLLOUT) & POLLOUT, POLLOUT);
	MAKER_SAME("end of a hung up one", read(hung.slave, &c, 1), 0);
	MAKER_SAME("writing to it", write(hung.slave, "x", 1), -1);
	MAKER_SAME("error", errno, EIO);
	MAKER_MUST(!fstat(hung.slave, &st));
	MAKER_SAME("its number", st.st_rdev, makedev(136, hung.index));
	index_same("hung up by force", &(struct tty){ vhung.master, -1, vhung.index });
	MAKER_SAME("its end", read(vhung.slave, &c, 1), 0);
	vhung.slave = slave_new(&vhung, O_RDWR | O_NONBLOCK);
	puts_in(vhung.slave, "alive");
	reads("opened anew", vhung.master, "alive");
}

int main(int argc, char **argv)
{
	maker_begin(argc, argv);
#ifdef PTYS_OWN
	MAKER_MUST(!unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	MAKER_MUST(!mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
			  "ptmxmode=0666,mode=0620,gid=5"));
#endif
	make_raw();
	if (!maker_is_plain()) {
		make_lines();
		make_others();
	}
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	check_raw();
	if (!maker_is_plain()) {
		check_lines();
		check_others();
	}
	maker_ok();
}
