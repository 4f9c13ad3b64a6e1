/* A different action for every signal, read back from the kernel. */
#include "maker.h"

struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

static int ran;

static void handler(int sig)
{
	ran += sig;
}

static uint64_t restorer_of_libc(void)
{
	struct sigaction sa = { .sa_handler = handler };
	struct kernel_sigaction ks;

	MAKER_MUST(!sigaction(SIGRTMIN + 9, &sa, NULL));
	MAKER_MUST(!syscall(SYS_rt_sigaction, SIGRTMIN + 9, NULL, &ks, 8));
	return ks.restorer;
}

static struct kernel_sigaction wanted(int sig, uint64_t restorer)
{
	struct kernel_sigaction ks = { 0 };

	if (sig == SIGTRAP) {
		ks.handler = !maker_is_plain();	/* SIG_IGN: the engine's trap */
		return ks;
	}
	if (sig % 3 == 0)
		ks.handler = 1;
	if (sig % 3 == 1 && sig != SIGCHLD) {
		ks.handler = (uint64_t)handler;
		ks.flags = 0x04000000 | (sig % 2 ? SA_RESTART : SA_NODEFER | SA_ONSTACK);
		ks.restorer = restorer;
		ks.mask = 1ull << (sig % 31 + 20);
	}
	return ks;
}

int main(int argc, char **argv)
{
	uint64_t restorer;

	maker_begin(argc, argv);
	restorer = restorer_of_libc();
	for (int sig = 1; sig <= 64; sig++) {
		struct kernel_sigaction ks = wanted(sig, restorer);

		if (sig != SIGKILL && sig != SIGSTOP && maker_sets_up())
			MAKER_MUST(!syscall(SYS_rt_sigaction, sig, &ks, NULL, 8));
	}
	maker_ready();
	maker_wait();
	for (int sig = 1; sig <= 64; sig++) {
		struct kernel_sigaction ks, want = wanted(sig, restorer);

		if (sig == SIGKILL || sig == SIGSTOP)
			continue;
		MAKER_MUST(!syscall(SYS_rt_sigaction, sig, NULL, &ks, 8));
		if (memcmp(&ks, &want, sizeof(ks)))
			maker_fail("signal %d: handler 0x%lx flags 0x%lx restorer 0x%lx mask "
				   "0x%lx, not 0x%lx 0x%lx 0x%lx 0x%lx", sig, ks.handler,
				   ks.flags, ks.restorer, ks.mask, want.handler, want.flags,
				   want.restorer, want.mask);
	}
	raise(1);
	raise(4);
	MAKER_SAME("sum of signals handled", ran, 5);
	maker_ok();
}
