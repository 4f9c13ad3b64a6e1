/* pidfd: of a living child, of oneself, of a child that was reaped. */
#include "files_common.h"

#include <poll.h>

int main(int argc, char **argv)
{
	int live, self, dead;
	struct fd_look was[2];
	struct pollfd p;
	pid_t child, gone;

	maker_begin(argc, argv);
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child)
		for (;;)
			pause();
	gone = fork();
	MAKER_MUST(gone >= 0);
	if (!gone)
		for (;;)
			pause();
	MAKER_MUST((live = (int)syscall(SYS_pidfd_open, child, O_NONBLOCK)) >= 0);
	MAKER_MUST((self = (int)syscall(SYS_pidfd_open, getpid(), 0)) >= 0);
	MAKER_MUST((dead = (int)syscall(SYS_pidfd_open, gone, 0)) >= 0);
	MAKER_MUST(!kill(gone, SIGKILL) && waitpid(gone, NULL, 0) == gone);
	was[0] = fd_look(live);
	was[1] = fd_look(self);

	maker_ready();
	maker_wait();

	fd_same("child's", &was[0]);
	fd_same("own", &was[1]);
	p = (struct pollfd){ live, POLLIN, 0 };
	MAKER_SAME("the child lives", poll(&p, 1, 0), 0);
	MAKER_SAME("signal to oneself", syscall(SYS_pidfd_send_signal, self, 0, NULL, 0), 0);
	MAKER_SAME("signal to the dead", syscall(SYS_pidfd_send_signal, dead, 0, NULL, 0), -1);
	MAKER_SAME("errno", errno, ESRCH);
	MAKER_SAME("signal to the child",
		   syscall(SYS_pidfd_send_signal, live, SIGKILL, NULL, 0), 0);
	MAKER_SAME("it ends", poll(&p, 1, 5000), 1);
	MAKER_MUST(waitpid(child, NULL, 0) == child);
	maker_ok();
}
