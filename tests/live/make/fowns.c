/* The owner of SIGIO: process, group, signal number, and that it comes. */
#include "files_common.h"

#include <pthread.h>

static volatile int other_tid;

static void *other(void *arg)
{
	other_tid = maker_tid();
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	struct f_owner_ex o = { 0 };
	uint32_t uids[2] = { 9, 9 };
	struct timespec second = { 5, 0 };
	pthread_t thread;
	int p[2], q[2], t[2], sig = SIGRTMIN + 4;
	siginfo_t si;
	sigset_t set;

	maker_begin(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, sig);
	MAKER_MUST(!sigprocmask(SIG_BLOCK, &set, NULL));
	MAKER_MUST(!pipe(p) && !pipe(q) && !pipe(t));
	MAKER_MUST(!pthread_create(&thread, NULL, other, NULL));
	while (!other_tid)
		usleep(1000);
	o = (struct f_owner_ex){ F_OWNER_TID, maker_is_plain() ? getpid() : other_tid };
	MAKER_MUST(!fcntl(t[0], F_SETOWN_EX, &o) && !fcntl(t[0], F_SETSIG, sig));
	MAKER_MUST(!fcntl(p[0], F_SETOWN, getpid()) && !fcntl(p[0], F_SETSIG, sig));
	MAKER_MUST(!fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK));
	/* Set under other ids. */
	MAKER_MUST(!setresuid(7, 8, 0));
	o = (struct f_owner_ex){ F_OWNER_PGRP, getpgrp() };
	MAKER_MUST(!fcntl(q[0], F_SETOWN_EX, &o));
	MAKER_MUST(!setresuid(0, 0, 0));

	maker_ready();
	maker_wait();

	MAKER_SAME("owner", fcntl(p[0], F_GETOWN), getpid());
	MAKER_SAME("signal", fcntl(p[0], F_GETSIG), sig);
	MAKER_SAME("flags", fcntl(p[0], F_GETFL), O_ASYNC | O_NONBLOCK);
	MAKER_MUST(!fcntl(q[0], F_GETOWN_EX, &o));
	MAKER_SAME("kind of owner", o.type, F_OWNER_PGRP);
	MAKER_SAME("group", o.pid, getpgrp());
	MAKER_MUST(!fcntl(q[0], 17 /* F_GETOWNER_UIDS */, uids));
	MAKER_SAME("uid of the setter", uids[0], 7);
	MAKER_SAME("effective uid", uids[1], 8);
	MAKER_MUST(!fcntl(t[0], F_GETOWN_EX, &o));
	MAKER_SAME("kind of owner", o.type, F_OWNER_TID);
	MAKER_SAME("thread", o.pid, maker_is_plain() ? getpid() : other_tid);
	MAKER_MUST(write(p[1], "x", 1) == 1);
	MAKER_SAME("SIGIO", sigtimedwait(&set, &si, &second), sig);
	MAKER_SAME("descriptor in it", si.si_fd, p[0]);
	maker_ok();
}
