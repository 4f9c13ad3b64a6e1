/* Syscall user dispatch of a second thread: calls from outside of a range become SIGSYS when its selector says so. */
#include <sys/prctl.h>

#include "second_common.h"

#define DISPATCH_OFF	0
#define DISPATCH_ON	1
#define ALLOW		0
#define BLOCK		1

static volatile char selector;
static volatile int caught = -1;

static void on_sigsys(int sig, siginfo_t *si, void *ctx)
{
	(void)sig;
	(void)ctx;
	selector = ALLOW;
	caught = si->si_syscall;
}

static void *second(void *arg)
{
	if (maker_sets_up() && prctl(PR_SET_SYSCALL_USER_DISPATCH, DISPATCH_ON, 0, 0, &selector))
		maker_skip("no syscall user dispatch (CONFIG_GENERIC_ENTRY, Linux 5.11): %s", strerror(errno));
	second_wait();
	selector = BLOCK;
	syscall(SYS_getppid);
	MAKER_SAME("the call that was dispatched", caught, SYS_getppid);
	MAKER_MUST(!prctl(PR_SET_SYSCALL_USER_DISPATCH, DISPATCH_OFF, 0, 0, 0));
	return arg;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
	struct { uint64_t mode, selector, offset, len; } config = { 0 };

	maker_begin(argc, argv);
	/* ESRCH: it is known, and we trace nobody. */
	if (syscall(SYS_ptrace, 0x4211, getppid(), sizeof(config), &config) < 0 && errno == EIO)
		maker_skip("no PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG (Linux 6.4)");
	MAKER_MUST(!sigaction(SIGSYS, &sa, NULL));
	second_begin(second);
	maker_ready();
	maker_wait();
	selector = BLOCK;
	syscall(SYS_getppid);
	MAKER_SAME("a call of the first thread, which was dispatched", caught, -1);
	selector = ALLOW;
	second_end();
	maker_ok();
}
