/* cr/remote/reaper: the end of a traced process is seen by who waits for its main thread alone. */
#include <pthread.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "remote/reaper.h"
#include "tests/unit/unit.h"

static int said[2];

static void *second(void *arg)
{
	pid_t tid = (pid_t)syscall(SYS_gettid);

	if (write(said[1], &tid, sizeof(tid)) != sizeof(tid))
		_exit(1);
	for (;;)
		pause();
	return arg;
}

static void two_threads(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, second, NULL))
		_exit(1);
	for (;;)
		pause();
}

/* Traces both threads of a process, which is killed then, and waits for the main one. */
static void wait_for_end(void)
{
	pid_t main_tid, tid, got;
	int status;

	ASSERT_EQ(pipe(said), 0);
	main_tid = fork();
	ASSERT(main_tid >= 0);
	if (!main_tid)
		two_threads();
	ASSERT_EQ(read(said[0], &tid, sizeof(tid)), (ssize_t)sizeof(tid));
	ASSERT_EQ(ptrace(PTRACE_SEIZE, main_tid, 0, 0), 0);
	ASSERT_EQ(ptrace(PTRACE_SEIZE, tid, 0, 0), 0);
	ASSERT_EQ(reaper_know(main_tid), 0);
	ASSERT_EQ(reaper_know(tid), 0);
	ASSERT_EQ(kill(main_tid, SIGKILL), 0);
	reaper_begin(main_tid);
	do
		got = waitpid(main_tid, &status, __WALL);
	while (got < 0 && errno == EINTR);
	reaper_end();
	ASSERT_EQ(got, main_tid);
	reaper_forget_all();
	ASSERT(WIFSIGNALED(status));
	close(said[0]);
	close(said[1]);
}

TEST("a main thread's end is seen while nobody waits for its others")
{
	alarm(20);	/* instead of for ever */
	wait_for_end();
	wait_for_end();
}

/* As crkexec does: it checks the services itself, and dumps each in a child. */
TEST("a forked child sees it, too, whose parent has waited before")
{
	int status;
	pid_t pid;

	alarm(20);
	wait_for_end();
	pid = fork();
	ASSERT(pid >= 0);
	if (!pid) {
		alarm(10);
		wait_for_end();
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}
