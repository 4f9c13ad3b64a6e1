/*
 * Syscall user dispatch of a second thread: calls from outside of a range become SIGSYS when its selector says so. Of
 * the first: calls from a range (Linux 6.17).
 */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "second_common.h"

#define DISPATCH_OFF	0
#define DISPATCH_ON	1
#define INCLUSIVE_ON	2
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

/* getppid(), in a page of its own. */
static void (*make_call(void))(void)
{
	static const uint8_t code[] = { 0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05, 0xc3 };
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MAKER_MUST(page != MAP_FAILED);
	memcpy(page, code, sizeof(code));
	MAKER_MUST(!mprotect(page, 4096, PROT_READ | PROT_EXEC));
	return (void (*)(void))page;
}

int main(int argc, char **argv)
{
	void (*call)(void) = make_call();
	bool inclusive = false;
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
	struct { uint64_t mode, selector, offset, len; } config = { 0 };

	maker_begin(argc, argv);
	/* ESRCH: it is known, and we trace nobody. */
	if (syscall(SYS_ptrace, 0x4211, getppid(), sizeof(config), &config) < 0 && errno == EIO)
		maker_skip("no PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG (Linux 6.4)");
	MAKER_MUST(!sigaction(SIGSYS, &sa, NULL));
	second_begin(second);
	if (maker_sets_up())
		inclusive = !prctl(PR_SET_SYSCALL_USER_DISPATCH, INCLUSIVE_ON, call, 4096ul, &selector);
	maker_ready();
	maker_wait();
	selector = BLOCK;
	syscall(SYS_getppid);
	MAKER_SAME("a call of the first thread, which was dispatched", caught, -1);
	call();
	MAKER_SAME("a call of the first thread from the range", caught, inclusive ? SYS_getppid : -1);
	caught = -1;
	selector = ALLOW;
	second_end();
	maker_ok();
}
