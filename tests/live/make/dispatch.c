/* Syscall user dispatch of a second thread: calls from outside of a range become SIGSYS when its selector says so. */
#include <pthread.h>
#include <sys/prctl.h>

#include "maker.h"

#define DISPATCH_OFF	0
#define DISPATCH_ON	1
#define ALLOW		0
#define BLOCK		1

static pthread_barrier_t before, after;
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
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
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
	pthread_t t;

	maker_begin(argc, argv);
	/* ESRCH: it is known, and we trace nobody. */
	if (syscall(SYS_ptrace, 0x4211, getppid(), sizeof(config), &config) < 0 && errno == EIO)
		maker_skip("no PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG (Linux 6.4)");
	MAKER_MUST(!sigaction(SIGSYS, &sa, NULL));
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	MAKER_MUST(!pthread_create(&t, NULL, second, NULL));
	pthread_barrier_wait(&before);
	maker_ready();
	maker_wait();
	selector = BLOCK;
	syscall(SYS_getppid);
	MAKER_SAME("a call of the first thread, which was dispatched", caught, -1);
	selector = ALLOW;
	pthread_barrier_wait(&after);
	pthread_join(t, NULL);
	maker_ok();
}
