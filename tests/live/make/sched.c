/* Policy, real-time priority, nice value, time slice, reset-on-fork, processors; a second thread with others. */
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "second_common.h"

static bool rt;

static cpu_set_t processors(void)
{
	cpu_set_t set;

	MAKER_MUST(!sched_getaffinity(0, sizeof(set), &set));
	return set;
}

/* Nanoseconds; 0: the kernel gives none (before Linux 6.12), or it is a real-time thread's. */
struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t prio;
	uint64_t slice, deadline, period;
};

static uint64_t slice(void)
{
	struct attributes a = { 0 };

	MAKER_MUST(!syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0));
	return a.slice;
}

static void set_slice(uint64_t nsec)
{
	struct attributes a = { .size = sizeof(a), .flags = 0x08 /* SCHED_FLAG_KEEP_POLICY */, .slice = nsec };

	a.nice = getpriority(PRIO_PROCESS, 0);
	MAKER_MUST(!syscall(SYS_sched_setattr, 0, &a, 0));
}

static void *second(void *arg)
{
	struct sched_param sp = { 17 };
	cpu_set_t mine = processors();

	(void)arg;
	if (maker_sets_up()) {
		MAKER_MUST(!setpriority(PRIO_PROCESS, (id_t)maker_tid(), -3));
		/* A cgroup without real-time budget refuses it. */
		rt = !sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &sp);
		if (!rt)
			MAKER_MUST(errno == EPERM);
	}
	/* All but the first one. */
	if (maker_sets_up() && !maker_is_plain())
		for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&mine) > 1; i++)
			if (CPU_ISSET(i, &mine)) {
				CPU_CLR(i, &mine);
				MAKER_MUST(!sched_setaffinity(0, sizeof(mine), &mine));
				break;
			}
	second_wait();
	if (memcmp(&mine, &(cpu_set_t[]){ processors() }, sizeof(mine)))
		maker_fail("the thread has other processors");
	MAKER_SAME("nice of the thread", getpriority(PRIO_PROCESS, (id_t)maker_tid()), -3);
	if (rt) {
		MAKER_MUST(!sched_getparam(0, &sp));
		MAKER_SAME("policy of the thread", sched_getscheduler(0),
			   SCHED_RR | SCHED_RESET_ON_FORK);
		MAKER_SAME("priority of the thread", sp.sched_priority, 17);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sched_param sp = { 0 };
	cpu_set_t all = processors();
	uint64_t mine;

	maker_begin(argc, argv);
	second_begin(second);
	if (maker_sets_up()) {
		MAKER_MUST(!setpriority(PRIO_PROCESS, 0, 7));
		MAKER_MUST(!sched_setscheduler(0, SCHED_BATCH, &sp));
		if (!maker_is_plain())
			set_slice(7654321);
	}
	mine = slice();
	maker_ready();
	maker_wait();
	if (memcmp(&all, &(cpu_set_t[]){ processors() }, sizeof(all)))
		maker_fail("the process has other processors");
	MAKER_SAME("policy", sched_getscheduler(0), SCHED_BATCH);
	MAKER_SAME("nice", getpriority(PRIO_PROCESS, 0), 7);
	MAKER_SAME("time slice", slice(), mine);
	second_end();
	maker_ok();
}
