/*
 * Who shares what: duplicates, a child's inherited descriptors under other numbers, a child
 * with CLONE_FILES, threads; 1,000 descriptors.
 */
#include "files_common.h"

#include <sched.h>
#include <sys/eventfd.h>

#define MANY 1000

static char stack[65536] __attribute__((aligned(16)));

/* Shares our table, not our memory. */
static int sharer(void *arg __attribute__((unused)))
{
	while (pause())
		;
	return 0;
}

int main(int argc, char **argv)
{
	int fd, file, moved = 900, count, many[MANY];
	uint64_t v;
	pid_t child, table;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	file = file_with("data", "0123456789", 0);
	MAKER_MUST(lseek(file, 2, SEEK_SET) == 2);
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child) {
		MAKER_MUST(dup2(file, moved) == moved && !close(file));
		for (;;)
			pause();
	}
	while (!fd_is_same_file(getpid(), file, child, moved) ||
	       fd_is_same_file(getpid(), file, child, file))
		usleep(1000);
	for (int i = 0; i < MANY; i++)
		MAKER_MUST((many[i] = i % 3 ? eventfd((unsigned int)i, 0) :
			    open("data", O_RDONLY)) >= 0);
	table = clone(sharer, stack + sizeof(stack), CLONE_FILES | SIGCHLD, NULL);
	MAKER_MUST(table > 0);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	for (int i = 0; i < MANY; i++)
		if (i % 3) {
			MAKER_SAME("eventfd", read(many[i], &v, 8), 8);
			MAKER_SAME("counter", v, i);
		}
	if (!fd_is_same_file(getpid(), file, child, moved))
		maker_fail("parent and child no longer share the file");
	if (fd_is_same_file(getpid(), file, child, file))
		maker_fail("the child has its first number again");
	MAKER_SAME("position", lseek(file, 0, SEEK_CUR), 2);
	MAKER_SAME("one table", syscall(SYS_kcmp, getpid(), table, KCMP_FILES, 0, 0), 0);
	MAKER_MUST((fd = open("data", O_RDONLY)) >= 0);
	/* What one opens, the other has. */
	MAKER_MUST(fd_is_same_file(getpid(), fd, table, fd));
	kill(table, SIGKILL);
	MAKER_MUST(waitpid(table, NULL, 0) == table);
	kill(child, SIGKILL);
	MAKER_MUST(waitpid(child, NULL, 0) == child);
	maker_ok();
}
