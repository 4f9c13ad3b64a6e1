/*
 * POSIX semaphores: named ones (files in /dev/shm), with and without their name, and unnamed ones in
 * shared memory, as PostgreSQL has them. They are memory and futexes: a process that waits must
 * be found by who posts, and one that had no time to wait anew must find what was posted.
 */
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "maker.h"

static pid_t waiter(sem_t *s, int status)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	while (sem_wait(s) < 0)
		if (errno != EINTR)
			_exit(1);
	_exit(status);
}

static int value(sem_t *s)
{
	int v;

	MAKER_MUST(!sem_getvalue(s, &v));
	return v;
}

int main(int argc, char **argv)
{
	sem_t *named, *gone, *unnamed, *counter, *again;
	char name[48], gone_name[48];
	pid_t on_named, on_gone, on_unnamed;

	maker_begin(argc, argv);
	snprintf(name, sizeof(name), "/crk-test-sem-%d", maker_number());
	snprintf(gone_name, sizeof(gone_name), "/crk-test-gone-%d", maker_number());
	/* What a failed test left, whose pid is ours now. */
	sem_unlink(name);
	sem_unlink(gone_name);
	named = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
	gone = sem_open(gone_name, O_CREAT | O_EXCL, 0600, 0);
	unnamed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(named != SEM_FAILED && gone != SEM_FAILED && unnamed != MAP_FAILED);
	counter = unnamed + 1;
	MAKER_MUST(!sem_unlink(gone_name) && !sem_init(unnamed, 1, 0) && !sem_init(counter, 1, 41));
	on_named = waiter(named, 31);
	on_gone = waiter(gone, 32);
	on_unnamed = waiter(unnamed, 33);
	MAKER_MUST(!sem_post(counter));
	maker_await_call(on_named, SYS_futex);
	maker_await_call(on_gone, SYS_futex);
	maker_await_call(on_unnamed, SYS_futex);
	maker_ready();
	maker_wait();

	MAKER_SAME("counter", value(counter), 42);
	MAKER_MUST(!waitpid(-1, NULL, WNOHANG));
	MAKER_MUST(!sem_post(unnamed));
	maker_ends_with(on_unnamed, 33);
	MAKER_MUST(!sem_post(gone));
	maker_ends_with(on_gone, 32);
	/* By its name it is the same one. */
	again = sem_open(name, 0);
	MAKER_MUST(again != SEM_FAILED);
	MAKER_MUST(!sem_post(again));
	maker_ends_with(on_named, 31);
	MAKER_SAME("named", value(named), 0);
	MAKER_MUST(!sem_unlink(name));
	maker_ok();
}
