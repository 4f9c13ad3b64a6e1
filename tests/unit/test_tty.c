/* cr/kind/tty_*: queues of real pseudo terminals, taken out and put back; hostile images. */
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include "files_world.h"
#include "kind/tty.h"

struct pair {
	int master, slave;
	struct termios2 t;
	struct tty_queues *q;
};

static void pair_begin(struct pair *p, tcflag_t lflag)
{
	p->master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
	ASSERT_OK(p->master);
	ASSERT_OK(tty_open_peer(p->master, O_RDWR | O_NONBLOCK, &p->slave));
	ASSERT_OK(ioctl(p->slave, TCGETS2, &p->t));
	p->t.c_lflag = lflag;
	ASSERT_OK(ioctl(p->slave, TCSETS2, &p->t));
	p->q = mmap(NULL, sizeof(*p->q), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT(p->q != MAP_FAILED);
}

static void pair_end(struct pair *p)
{
	close(p->master);
	close(p->slave);
	munmap(p->q, sizeof(*p->q));
}

static void pair_peek(struct pair *p)
{
	struct tty_peek peek = { p->master, p->q };
	struct termios2 now;

	memset(p->q, 0, sizeof(*p->q));
	ASSERT_OK(tty_queues_peek(&peek, 1));
	ASSERT_OK(ioctl(p->slave, TCGETS2, &now));
	ASSERT(!memcmp(&now, &p->t, sizeof(now)));
}

/* What the worker of the kernel still has on its way. */
static void settle(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };

	poll(&p, 1, 0);
}

static void type(struct pair *p, const char *text, size_t n)
{
	ASSERT_EQ(write(p->master, text, n), (ssize_t)n);
	settle(p->slave);
}

static void expect(int fd, const char *text, size_t n)
{
	char buf[4096] = "";

	settle(fd);
	ASSERT_EQ(read(fd, buf, sizeof(buf)), (ssize_t)n);
	ASSERT(!memcmp(buf, text, n));
}

static void expect_nothing(int fd)
{
	char c;

	settle(fd);
	ASSERT_EQ(read(fd, &c, 1), -1);
	ASSERT_EQ(errno, EAGAIN);
}

TEST("a half typed line, complete ones and ends of file stay apart")
{
	struct pair p;

	pair_begin(&p, ICANON | ISIG | IEXTEN);
	/* One line, one pushed without a newline, an end of file, half a line. */
	type(&p, "one\ntwo\004\004\026\003ha\026\004lf", 17);
	for (int i = 0; i < 2; i++) {
		pair_peek(&p);
		ASSERT_EQ(p.q->n_in, 13);
		ASSERT(!memcmp(p.q->in, "one\ntwo\003ha\004lf", 13));
		ASSERT_EQ(p.q->n_pushed, 2);
		ASSERT_EQ(p.q->pushed[0], 7);
		ASSERT_EQ(p.q->pushed[1], 7);
		ASSERT_EQ(p.q->n_out, 0);
	}
	expect(p.slave, "one\n", 4);
	expect(p.slave, "two", 3);
	expect(p.slave, "", 0);
	expect_nothing(p.slave);
	/* Still editable: the last letter goes. */
	type(&p, "\177\n", 2);
	expect(p.slave, "\003ha\004l\n", 6);
	pair_end(&p);
}

TEST("what is typed is put in also where output finds no room")
{
	struct pair p;

	pair_begin(&p, ICANON | ISIG | IEXTEN);
	p.q->n_out = 3;
	memcpy(p.q->out, "out", 3);
	p.q->n_in = 6;
	memcpy(p.q->in, "a line", 6);
	p.q->n_pushed = 1;
	p.q->pushed[0] = 6;
	ASSERT_OK(ioctl(p.slave, TCXONC, TCOOFF));
	ASSERT_EQ(tty_queues_put(p.master, p.slave, &p.t, p.q), -ENOSPC);
	expect(p.slave, "a line", 6);
	pair_end(&p);
}

TEST("raw input and output stay, whatever the bytes")
{
	char all[256];
	struct pair p;

	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	pair_begin(&p, 0);
	p.t.c_iflag = p.t.c_oflag = 0;
	p.t.c_cc[VMIN] = 200;
	ASSERT_OK(ioctl(p.slave, TCSETS2, &p.t));
	type(&p, all, 256);
	type(&p, all, 256);
	p.t.c_oflag = OPOST | ONLCR;
	ASSERT_OK(ioctl(p.slave, TCSETS2, &p.t));
	ASSERT_EQ(write(p.slave, "a\nb", 3), 3);
	settle(p.master);
	pair_peek(&p);
	ASSERT_EQ(p.q->n_in, 512);
	ASSERT_EQ(p.q->n_out, 4);
	ASSERT(!memcmp(p.q->in + 256, all, 256));
	expect(p.master, "a\r\nb", 4);
	expect_nothing(p.master);
	for (int i = 0; i < 512; i++) {
		uint8_t c;

		ASSERT_EQ(read(p.slave, &c, 1), 1);
		ASSERT_EQ(c, i % 256);
	}
	expect_nothing(p.slave);
	pair_end(&p);
}

/* As much as the kernel takes, in pieces of n bytes. */
static uint32_t fill(int fd, size_t n, uint8_t *copy)
{
	uint32_t sum = 0;
	ssize_t k;

	for (uint8_t c = 0;; c++) {
		memset(copy + sum, c % 10 + '0', n);
		k = write(fd, copy + sum, n);
		if (k < 0)
			return sum;
		sum += (uint32_t)k;
		ASSERT(sum + n < TTY_QUEUE_MAX);
	}
}

TEST("queues filled to the brim come back whole")
{
	static uint8_t out[TTY_QUEUE_MAX], in[TTY_QUEUE_MAX], got[TTY_QUEUE_MAX];
	struct pair p;

	for (size_t piece = 1; piece < 2000; piece = piece * 7 + 3) {
		uint32_t n_out, n_in, n = 0;
		ssize_t k;

		pair_begin(&p, 0);
		p.t.c_iflag = p.t.c_oflag = 0;
		ASSERT_OK(ioctl(p.slave, TCSETS2, &p.t));
		n_out = fill(p.slave, piece, out);
		n_in = fill(p.master, piece, in);
		pair_peek(&p);
		ASSERT_EQ(p.q->n_out, n_out);
		ASSERT_EQ(p.q->n_in, n_in);
		ASSERT(!memcmp(p.q->out, out, n_out) && !memcmp(p.q->in, in, n_in));
		while ((k = read(p.slave, got + n, sizeof(got) - n)) > 0)
			n += (uint32_t)k;
		ASSERT_EQ(n, n_in);
		ASSERT(!memcmp(got, in, n));
		for (n = 0; (k = read(p.master, got + n, sizeof(got) - n)) > 0;)
			n += (uint32_t)k;
		ASSERT_EQ(n, n_out);
		ASSERT(!memcmp(got, out, n));
		pair_end(&p);
	}
}

static bool flows(struct pair *p)
{
	struct pollfd f = { p->slave, POLLOUT, 0 };

	return poll(&f, 1, 0) > 0 && f.revents & POLLOUT;
}

TEST("stopped output stays stopped, by the STOP character and by tcflow")
{
	struct pair p;

	pair_begin(&p, ICANON);
	p.t.c_iflag |= IXON;
	ASSERT_OK(ioctl(p.slave, TCSETS2, &p.t));
	pair_peek(&p);
	ASSERT_EQ(p.q->stopped, TTY_FLOWS);
	ASSERT(flows(&p));
	ASSERT_EQ(write(p.slave, "x", 1), 1);
	type(&p, "half\023", 5);
	ASSERT(!flows(&p));
	pair_peek(&p);
	ASSERT_EQ(p.q->stopped, TTY_STOPPED_BY_CHAR);
	ASSERT_EQ(p.q->n_out, 1);
	ASSERT_EQ(p.q->n_in, 4);
	ASSERT(!flows(&p));
	type(&p, "\021", 1);
	ASSERT(flows(&p));
	ASSERT_OK(ioctl(p.slave, TCXONC, TCOOFF));
	pair_peek(&p);
	ASSERT_EQ(p.q->stopped, TTY_STOPPED_BY_FLOW);
	type(&p, "\021", 1);
	ASSERT(!flows(&p));
	ASSERT_OK(ioctl(p.slave, TCXONC, TCOON));
	ASSERT(flows(&p));
	pair_end(&p);
}

struct pty_image {
	TtyInfoEntry master, slave;
	TermiosEntry termios;
	WinsizeEntry winsize;
	TtyPtyEntry number;
	uint32_t cc[19];
	TtyDataEntry in;
	TtyFileEntry master_file, slave_file;
	bool orphan;			/* the restore's orphan_pts_master */
};

static void pty_image_init(struct pty_image *p)
{
	*p = (struct pty_image){ .master = TTY_INFO_ENTRY__INIT, .slave = TTY_INFO_ENTRY__INIT,
				 .termios = TERMIOS_ENTRY__INIT, .winsize = WINSIZE_ENTRY__INIT,
				 .number = TTY_PTY_ENTRY__INIT, .in = TTY_DATA_ENTRY__INIT,
				 .master_file = TTY_FILE_ENTRY__INIT,
				 .slave_file = TTY_FILE_ENTRY__INIT };
	p->termios.c_cc = p->cc;
	p->termios.n_c_cc = 19;
	p->number.index = 70;
	p->master.id = 141;
	p->slave.id = 140;
	p->master.type = p->slave.type = TTY_TYPE__PTY;
	p->master.pty = p->slave.pty = &p->number;
	p->master.termios = p->slave.termios = &p->termios;
	p->slave.winsize = &p->winsize;
	p->in.tty_id = 140;
	p->in.data.data = (uint8_t *)"text";
	p->in.data.len = 4;
	p->master_file.tty_info_id = 141;
	p->slave_file.tty_info_id = 140;
	p->master_file.has_regf_id = p->slave_file.has_regf_id = true;
	p->master_file.regf_id = 3;
	p->slave_file.regf_id = 4;
}

static void put_tty_file(struct world *w, uint32_t id, TtyFileEntry *e)
{
	FownEntry fown = FOWN_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT;

	fe.type = FD_TYPES__TTY;
	fe.id = e->id = id;
	fe.tty = e;
	e->fown = &fown;
	ASSERT_OK(image_put(w->files, &fe.base));
	put_fd(w, id, id, FD_TYPES__TTY);
}

static int pty_image_load(struct pty_image *p, TtyInfoEntry *more, TtyDataEntry *more_data)
{
	struct image_writer *info;
	struct world w;
	int r;

	world_begin(&w);
	w.opts.orphan_pts_master = p->orphan;
	put_tty_file(&w, 1, &p->master_file);
	put_tty_file(&w, 2, &p->slave_file);
	put_reg(&w, 3, "/dev/ptmx", O_RDWR);
	put_reg(&w, 4, "/dev/pts/70", O_RDWR);
	ASSERT_OK(image_create(w.f.store, &image_tty_info, &info));
	ASSERT_OK(image_put(info, &p->master.base));
	ASSERT_OK(image_put(info, &p->slave.base));
	if (more)
		ASSERT_OK(image_put(info, &more->base));
	ASSERT_OK(image_close(info));
	ASSERT_OK(image_create(w.f.store, &image_tty_data, &w.other));
	ASSERT_OK(image_put(w.other, &p->in.base));
	if (more_data)
		ASSERT_OK(image_put(w.other, &more_data->base));
	r = world_load(&w);
	if (r >= 0) {
		struct tty_end *m = tty_end_of(&w.ctx, restore_file_find(&w.ctx, 1));

		ASSERT(m->master && m->peer && !m->peer->master && m->peer->data);
	}
	world_end(&w);
	return r;
}

TEST("a pair is found in its images")
{
	struct pty_image p;

	pty_image_init(&p);
	ASSERT_OK(pty_image_load(&p, NULL, NULL));
}

TEST("terminals with impossible numbers, settings, sessions or data are refused")
{
	static uint8_t big[TTY_QUEUE_MAX + 1];
	static uint32_t pushed[TTY_PUSHED_MAX + 1], descending[2] = { 3, 2 }, beyond = 5;

	for (int what = 0; what < 19; what++) {
		struct pty_image p;
		int r;

		pty_image_init(&p);
		switch (what) {
		case 0: p.number.index = PTY_INDEX_MAX; break;
		case 1: p.slave.pty = NULL; break;
		case 2: p.master.pty = NULL; break;
		case 3: p.termios.n_c_cc = 4; break;
		case 4: p.termios.c_line = 256; break;
		case 5: p.winsize.ws_col = 65536; break;
		case 6: p.slave.sid = UINT32_MAX; break;
		case 7: p.slave.pgrp = UINT32_MAX; break;
		case 8: p.master.type = TTY_TYPE__UNKNOWN; break;
		case 9: p.slave.id = 141; break;
		case 10: p.slave.id = 143; break;	/* a second master */
		case 11: p.in.data.data = big; p.in.data.len = sizeof(big); break;
		case 12: p.in.pushed = pushed; p.in.n_pushed = ARRAY_SIZE(pushed); break;
		case 13: p.in.pushed = descending; p.in.n_pushed = 2; break;
		case 14: p.in.pushed = &beyond; p.in.n_pushed = 1; break;
		case 15: p.in.tty_id = 999; break;
		case 16: p.slave_file.tty_info_id = 999; break;
		case 17: p.slave_file.regf_id = 1; break;	/* no path */
		case 18: p.master.has_stopped = true; p.master.stopped = 3; break;
		}
		r = pty_image_load(&p, NULL, NULL);
		if (r != -EBADMSG)
			printf("# case %d\n", what);
		ASSERT_EQ(r, -EBADMSG);
	}
}

TEST("a second slave of a number and a second load of data are refused, a hung up one is not")
{
	TtyDataEntry again = TTY_DATA_ENTRY__INIT;
	TtyInfoEntry more = TTY_INFO_ENTRY__INIT;
	struct pty_image p;

	pty_image_init(&p);
	more = p.slave;
	more.id = 5000;
	ASSERT_EQ(pty_image_load(&p, &more, NULL), -EBADMSG);
	more.termios = NULL;
	ASSERT_OK(pty_image_load(&p, &more, NULL));
	again = p.in;
	ASSERT_EQ(pty_image_load(&p, NULL, &again), -EBADMSG);
}

TEST("a slave without its master is the operator's terminal: refused without --shell-job")
{
	TtyInfoEntry more = TTY_INFO_ENTRY__INIT;
	TtyPtyEntry other = TTY_PTY_ENTRY__INIT;
	struct pty_image p;

	pty_image_init(&p);
	more = p.slave;
	more.id = 5000;
	more.pty = &other;
	ASSERT_EQ(pty_image_load(&p, &more, NULL), -EINVAL);
}

TEST("the same with orphan_pts_master, for nothing says that it is in a devpts of the tree's own")
{
	TtyInfoEntry more = TTY_INFO_ENTRY__INIT;
	TtyPtyEntry other = TTY_PTY_ENTRY__INIT;
	struct pty_image p;

	pty_image_init(&p);
	p.orphan = true;
	more = p.slave;
	more.id = 5000;
	more.pty = &other;
	ASSERT_EQ(pty_image_load(&p, &more, NULL), -EINVAL);
}
