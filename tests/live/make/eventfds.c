/* eventfd: counters of all sizes, semaphore mode, flags, a shared one. */
#include "files_common.h"

#include <sys/eventfd.h>

static uint64_t take(int fd)
{
	uint64_t v = 0;

	return read(fd, &v, sizeof(v)) == sizeof(v) ? v : UINT64_MAX;
}

int main(int argc, char **argv)
{
	bool plain = maker_is_plain();
	uint64_t huge = plain ? 0xfffffffdu : 0xfffffffffffffffdull, one = 1;
	int empty, big, sem, shared, count;
	struct fd_look was[3];
	pid_t child;

	maker_begin(argc, argv);
	MAKER_MUST((empty = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
	MAKER_MUST((big = eventfd(0, 0)) >= 0 && write(big, &huge, 8) == 8);
	MAKER_MUST((sem = eventfd(3, (plain ? 0 : EFD_SEMAPHORE) | EFD_NONBLOCK)) >= 0);
	MAKER_MUST((shared = eventfd(0, 0)) >= 0);
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child)
		_exit(take(shared) == 7 ? 0 : 1);
	was[0] = fd_look(empty);
	was[1] = fd_look(big);
	was[2] = fd_look(sem);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	fd_same("empty", &was[0]);
	fd_same("big", &was[1]);
	fd_same("semaphore", &was[2]);
	MAKER_SAME("empty", take(empty), UINT64_MAX);
	MAKER_SAME("errno", errno, EAGAIN);
	MAKER_SAME("increment", write(big, &one, 8), 8);
	MAKER_SAME("big counter", take(big), huge + 1);
	for (int i = 0; i < (plain ? 1 : 3); i++)
		MAKER_SAME("semaphore", take(sem), plain ? 3 : 1);
	MAKER_SAME("semaphore used up", take(sem), UINT64_MAX);
	one = 7;
	MAKER_SAME("wake the child", write(shared, &one, 8), 8);
	child_ok(child, "shared eventfd");
	maker_ok();
}
