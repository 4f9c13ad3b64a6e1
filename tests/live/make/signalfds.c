/* signalfd: mask and flags, a signal that waits, one that comes later. */
#include "files_common.h"

#include <sys/signalfd.h>

int main(int argc, char **argv)
{
	struct signalfd_siginfo si;
	struct fd_look was;
	sigset_t set;
	int fd;

	maker_begin(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 3);
	MAKER_MUST(!sigprocmask(SIG_BLOCK, &set, NULL));
	MAKER_MUST((fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)) >= 0);
	MAKER_MUST(!sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 77 }));
	was = fd_look(fd);

	maker_ready();
	maker_wait();

	fd_same("signalfd", &was);
	MAKER_SAME("waiting signal", read(fd, &si, sizeof(si)), sizeof(si));
	MAKER_SAME("number", si.ssi_signo, SIGRTMIN + 3);
	MAKER_SAME("value", si.ssi_int, 77);
	MAKER_SAME("empty", read(fd, &si, sizeof(si)), -1);
	MAKER_MUST(!raise(SIGUSR2));
	MAKER_SAME("new signal", read(fd, &si, sizeof(si)), sizeof(si));
	MAKER_SAME("number", si.ssi_signo, SIGUSR2);
	maker_ok();
}
