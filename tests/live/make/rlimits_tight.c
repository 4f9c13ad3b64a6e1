/*
 * Limits that leave no room for anything more: RLIMIT_DATA alone (a child), and the soft one of RLIMIT_AS with
 * it (the hard one takes CAP_SYS_RESOURCE to get past). None is different afterwards.
 */
#include <sys/mman.h>
#include <sys/resource.h>

#include "maker.h"

#define ROOM (64u << 10)

static rlim_t mapped_bytes(void)
{
	unsigned long pages = 0;
	char text[128];

	maker_read_proc(getpid(), "statm", text, sizeof(text));
	MAKER_MUST(sscanf(text, "%lu", &pages) == 1);
	return pages * 4096;
}

static void set(int which, rlim_t bytes, rlim_t hard)
{
	const struct rlimit rl = { bytes, hard };

	MAKER_MUST(!setrlimit(which, &rl));
}

static bool is(int which, rlim_t bytes, rlim_t hard)
{
	struct rlimit rl;

	return !getrlimit(which, &rl) && rl.rlim_cur == bytes && rl.rlim_max == hard;
}

static bool is_full(void)
{
	return mmap(NULL, 1u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

int main(int argc, char **argv)
{
	int to[2], from[2];
	rlim_t bytes;
	pid_t pid;
	char c;

	maker_begin(argc, argv);
	MAKER_MUST(!pipe(to) && !pipe(from));
	pid = fork();
	if (!pid) {
		set(RLIMIT_DATA, ROOM, ROOM);
		MAKER_MUST(is_full() && write(from[1], "r", 1) == 1);
		while (read(to[0], &c, 1) < 0 && errno == EINTR)
			;
		_exit(is(RLIMIT_DATA, ROOM, ROOM) && is_full() ? 5 : 1);
	}
	MAKER_MUST(read(from[0], &c, 1) == 1);
	bytes = mapped_bytes() + ROOM;
	set(RLIMIT_AS, bytes, RLIM_INFINITY);
	set(RLIMIT_DATA, ROOM, ROOM);
	maker_ready();
	maker_wait();
	if (!is(RLIMIT_AS, bytes, RLIM_INFINITY) || !is(RLIMIT_DATA, ROOM, ROOM))
		maker_fail("a limit has changed");
	if (!is_full())
		maker_fail("there is room");
	MAKER_MUST(write(to[1], "x", 1) == 1);
	maker_ends_with(pid, 5);
	maker_ok();
}
