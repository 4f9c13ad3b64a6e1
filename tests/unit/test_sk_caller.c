/* cr/kind/sk_caller.c: who stands in for a sender that has ended. */
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kind/sk_caller.h"
#include "unit.h"

/* Of a process that has just ended. */
static pid_t free_pid(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	return pid;
}

TEST("a process that stands in for a dead sender ends with the engine, however that ends")
{
	pid_t want = free_pid(), engine, held;
	int said[2], status;
	struct pollfd end = { .events = POLLIN };

	ASSERT_OK(pipe(said));
	engine = fork();
	if (!engine) {
		struct restore_process p = { 0 };
		struct restore_ctx ctx = { .procs = &p, .n_procs = 1 };
		int r = sk_hold_pid(&ctx, (uint32_t)want, &held);

		(void)!write(said[1], &r, sizeof(r));
		for (;;)
			pause();
	}
	ASSERT_EQ(read(said[0], &status, sizeof(status)), sizeof(status));
	end.fd = status < 0 ? -1 : (int)syscall(SYS_pidfd_open, want, 0);
	kill(engine, SIGKILL);
	ASSERT_EQ(waitpid(engine, NULL, 0), engine);
	close(said[0]);
	close(said[1]);
	if (status == -EPERM)
		unit_skip("no right to choose a pid");
	ASSERT_OK(status);
	ASSERT(end.fd >= 0);
	status = poll(&end, 1, 5000);
	kill(want, SIGKILL);
	close(end.fd);
	ASSERT_EQ(status, 1);
}
