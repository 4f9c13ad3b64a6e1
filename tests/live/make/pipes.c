/*
 * Pipes: contents and size, many small writes, both ends in one task and in two, a closed other
 * end, O_NONBLOCK per end, ends opened anew through /proc.
 */
#include "files_common.h"

#include <poll.h>

static char big[200000];

static void drain(const char *what, int fd, const char *expect, size_t n)
{
	static char buf[sizeof(big)];
	size_t got = 0;

	while (got < n) {
		ssize_t k = read(fd, buf + got, n - got);

		if (k <= 0)
			maker_fail("%s: read gives %zd after %zu bytes", what, k, got);
		got += (size_t)k;
	}
	if (memcmp(buf, expect, n))
		maker_fail("%s: other contents", what);
}

int main(int argc, char **argv)
{
	int full[2], slots[2], eof[2], broken[2], talk[2], back[2], again, nonblock, count;
	struct fd_look was[8];
	char c, path[64];
	pid_t child;

	maker_begin(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 + i / 1000);
	MAKER_MUST(!pipe(full) && fcntl(full[1], F_SETPIPE_SZ, 1 << 18) == 1 << 18);
	MAKER_MUST(write(full[1], big, sizeof(big)) == sizeof(big));
	MAKER_MUST(!pipe2(slots, O_NONBLOCK | O_CLOEXEC));
	/* A separate buffer each: from a splice, small writes would be merged. */
	for (int i = 0; i < 16; i++)
		MAKER_MUST(write(slots[1], big + i, 1) == 1);
	MAKER_MUST(!pipe(eof) && write(eof[1], "last", 4) == 4 && !close(eof[1]));
	MAKER_MUST(!pipe(broken) && !close(broken[0]));
	MAKER_MUST(!pipe(talk) && !pipe(back));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", full[0]);
	MAKER_MUST((again = open(path, O_RDONLY)) >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", talk[1]);
	MAKER_MUST((nonblock = open(path, O_RDWR | O_NONBLOCK)) >= 0);
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child) {
		/* Waits in read(2) over the dump. */
		close(talk[1]);
		close(nonblock);
		if (read(talk[0], &c, 1) != 1 || write(back[1], &c, 1) != 1)
			_exit(5);
		_exit(read(talk[0], &c, 1) == 0 ? 0 : 6);
	}
	close(talk[0]);
	was[0] = fd_look(full[0]);
	was[1] = fd_look(full[1]);
	was[2] = fd_look(slots[0]);
	was[3] = fd_look(slots[1]);
	was[4] = fd_look(again);
	was[5] = fd_look(nonblock);
	was[6] = fd_look(eof[0]);
	was[7] = fd_look(broken[1]);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	for (int i = 0; i < 8; i++) {
		char what[32];

		snprintf(what, sizeof(what), "case %d", i);
		fd_same(what, &was[i]);
	}
	MAKER_SAME("pipe size", fcntl(full[1], F_GETPIPE_SZ), 1 << 18);
	drain("first half", full[0], big, 100000);
	drain("second half, by the other file", again, big + 100000, sizeof(big) - 100000);
	drain("small writes", slots[0], big, 16);
	MAKER_SAME("empty and non-blocking", read(slots[0], &c, 1), -1);
	MAKER_SAME("errno", errno, EAGAIN);
	drain("before the end", eof[0], "last", 4);
	MAKER_SAME("end of file", read(eof[0], &c, 1), 0);
	MAKER_SAME("broken pipe", write(broken[1], "x", 1), -1);
	MAKER_SAME("errno", errno, EPIPE);
	MAKER_SAME("write to the child", write(talk[1], "q", 1), 1);
	MAKER_SAME("its answer", read(back[0], &c, 1), 1);
	MAKER_SAME("byte", c, 'q');
	/* The child must see the end: no forgotten writer anywhere. */
	close(talk[1]);
	close(nonblock);
	child_ok(child, "end of file in the child");
	maker_ok();
}
