/* Clamps of utilization (sched_setattr(2)), of the process and of another thread. */
#include <sched.h>

#include "second_common.h"

/* Not the engine's own definition: a mistake in that one shall show. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t prio;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};


static void set(uint32_t min, uint32_t max)
{
	struct attr a = { .size = sizeof(a), .flags = 0x78, .util_min = min, .util_max = max };

	if (syscall(SYS_sched_setattr, 0, &a, 0) < 0 && errno == EOPNOTSUPP)
		maker_skip("the kernel has no clamps of utilization (CONFIG_UCLAMP_TASK)");
	MAKER_MUST(!syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) && a.util_min == min);
}

static void check(uint32_t min, uint32_t max)
{
	struct attr a = { 0 };

	MAKER_MUST(!syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0));
	MAKER_SAME("least utilization", a.util_min, min);
	MAKER_SAME("most utilization", a.util_max, max);
}

static void *second(void *arg)
{
	if (maker_sets_up())
		set(100, 1024);
	second_wait();
	check(100, 1024);
	return arg;
}

int main(int argc, char **argv)
{

	maker_begin(argc, argv);
	second_begin(second);
	if (maker_sets_up())
		set(0, 512);
	maker_ready();
	maker_wait();
	check(0, 512);
	second_end();
	maker_ok();
}
