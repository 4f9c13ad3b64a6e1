/*
 * Packet-mode pipes (O_DIRECT): queued packets stay apart, large ones in their pieces, one partly read;
 * packets and stream in one pipe; the mode switched off with packets queued; a fifo.
 */
#include "files_common.h"

#include <sys/ioctl.h>

static char big[9000];

/* One read gives these bytes and no more. */
static void packet(const char *what, int fd, const char *text, ssize_t n)
{
	char buf[16384];

	MAKER_SAME(what, read(fd, buf, sizeof(buf)), n);
	if (memcmp(buf, text, (size_t)n))
		maker_fail("%s: other contents", what);
}

static void put(int fd, const char *text)
{
	MAKER_MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void set_packets(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	MAKER_MUST(!fcntl(fd, F_SETFL, on ? fl | O_DIRECT : fl & ~O_DIRECT));
}

/* A piece of stream that nothing is added to, from a pipe of its own. */
static void put_closed(int fd, const char *text)
{
	int own[2];

	MAKER_MUST(!pipe(own));
	put(own[1], text);
	MAKER_MUST(tee(own[0], fd, strlen(text), 0) == (ssize_t)strlen(text));
	close(own[0]);
	close(own[1]);
}

int main(int argc, char **argv)
{
	int one[2], mixed[2], off[2], full[2], fifo, count, bytes = 0;
	struct fd_look was[8];
	char c;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 + i / 1000);
	MAKER_MUST(!pipe2(one, O_DIRECT | O_NONBLOCK));
	put(one[1], "partly read");
	put(one[1], "a");
	put(one[1], "bc");
	MAKER_MUST(write(one[1], big, sizeof(big)) == sizeof(big));
	put(one[1], "last");
	MAKER_SAME("what is left of a packet goes", read(one[0], &c, 1), 1);
	MAKER_MUST(!pipe2(mixed, O_NONBLOCK));
	put_closed(mixed[1], "stream");
	set_packets(mixed[1], true);
	put(mixed[1], "1st");
	put(mixed[1], "2nd");
	set_packets(mixed[1], false);
	put(mixed[1], "str");
	put(mixed[1], "eam");
	MAKER_MUST(!pipe2(off, O_DIRECT | O_NONBLOCK));
	put(off[1], "x");
	put(off[1], "yz");
	set_packets(off[1], false);
	MAKER_MUST(!pipe2(full, O_DIRECT | O_NONBLOCK));
	while (write(full[1], "f", 1) == 1)
		bytes++;
	MAKER_MUST(!mkfifo("fifo", 0600) && (fifo = open("fifo", O_RDWR | O_NONBLOCK)) >= 0);
	set_packets(fifo, true);
	put(fifo, "of");
	put(fifo, "fifo");
	was[0] = fd_look(one[0]);
	was[1] = fd_look(one[1]);
	was[2] = fd_look(mixed[1]);
	was[3] = fd_look(off[1]);
	was[4] = fd_look(full[1]);
	was[5] = fd_look(fifo);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	for (int i = 0; i < 6; i++) {
		char what[32];

		snprintf(what, sizeof(what), "case %d", i);
		fd_same(what, &was[i]);
	}
	packet("of one byte", one[0], "a", 1);
	packet("of two", one[0], "bc", 2);
	packet("large, first", one[0], big, 4096);
	packet("large, second", one[0], big + 4096, 4096);
	packet("large, third", one[0], big + 8192, (ssize_t)sizeof(big) - 8192);
	packet("last", one[0], "last", 4);
	MAKER_SAME("empty", read(one[0], &c, 1), -1);
	put(one[1], "new");
	MAKER_SAME("still in packets", read(one[0], &c, 1), 1);
	MAKER_SAME("and nothing left of it", read(one[0], &c, 1), -1);
	/* A read goes through a stream up to the end of the next packet. */
	MAKER_SAME("two bytes of the stream", read(mixed[0], big, 2), 2);
	packet("stream and packet", mixed[0], "ream1st", 7);
	packet("packet", mixed[0], "2nd", 3);
	packet("stream", mixed[0], "stream", 6);
	packet("before it was switched off, first", off[0], "x", 1);
	packet("before it was switched off, second", off[0], "yz", 2);
	put(off[1], "st");
	put(off[1], "ream");
	packet("afterwards", off[0], "stream", 6);
	for (; bytes; bytes--)
		packet("of a full pipe", full[0], "f", 1);
	MAKER_SAME("emptied", read(full[0], &c, 1), -1);
	packet("of the fifo", fifo, "of", 2);
	packet("of the fifo", fifo, "fifo", 4);
	maker_ok();
}
