/* Alternate signal stacks: the leader is stopped while it runs on its own. */

#include "second_common.h"

static char stack1[65536], stack2[32768];
static bool on_stack;

static void *second(void *arg)
{
	stack_t ss = { .ss_sp = stack2, .ss_size = sizeof(stack2), .ss_flags = (int)(1u << 31) };

	(void)arg;
	if (maker_sets_up())
		MAKER_MUST(!sigaltstack(&ss, NULL));
	second_wait();
	MAKER_MUST(!sigaltstack(NULL, &ss));
	MAKER_SAME("base of the thread's stack", ss.ss_sp, stack2);
	MAKER_SAME("size of the thread's stack", ss.ss_size, sizeof(stack2));
	MAKER_SAME("flags of the thread's stack", (unsigned int)ss.ss_flags, 1u << 31);
	return NULL;
}

static void on_alternate(int sig)
{
	char here;

	(void)sig;
	maker_ready();
	maker_wait();
	on_stack = &here >= stack1 && &here < stack1 + sizeof(stack1);
}

int main(int argc, char **argv)
{
	stack_t ss = { .ss_sp = stack1, .ss_size = sizeof(stack1) };
	struct sigaction sa = { .sa_handler = on_alternate, .sa_flags = SA_ONSTACK };

	maker_begin(argc, argv);
	second_begin(second);
	if (maker_sets_up())
		MAKER_MUST(!sigaltstack(&ss, NULL));
	MAKER_MUST(!sigaction(SIGUSR2, &sa, NULL));
	raise(SIGUSR2);
	second_end();
	if (maker_sets_up() && !on_stack)
		maker_fail("the handler was not on its stack");
	MAKER_MUST(!sigaltstack(NULL, &ss));
	MAKER_SAME("base", ss.ss_sp, stack1);
	MAKER_SAME("size", ss.ss_size, sizeof(stack1));
	MAKER_SAME("flags", ss.ss_flags, 0);
	maker_ok();
}
