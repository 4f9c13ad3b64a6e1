/* Policy, real-time priority, nice value, reset-on-fork; a second thread with others. */
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include "maker.h"

static pthread_barrier_t before, after;
static bool rt;

static void *second(void *arg)
{
	struct sched_param sp = { 17 };

	(void)arg;
	if (maker_sets_up()) {
		MAKER_MUST(!setpriority(PRIO_PROCESS, (id_t)maker_tid(), -3));
		/* A cgroup without real-time budget refuses it. */
		rt = !sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &sp);
		if (!rt)
			MAKER_MUST(errno == EPERM);
	}
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
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
	pthread_t t;

	maker_begin(argc, argv);
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	MAKER_MUST(!pthread_create(&t, NULL, second, NULL));
	pthread_barrier_wait(&before);
	if (maker_sets_up()) {
		MAKER_MUST(!setpriority(PRIO_PROCESS, 0, 7));
		MAKER_MUST(!sched_setscheduler(0, SCHED_BATCH, &sp));
	}
	maker_ready();
	maker_wait();
	MAKER_SAME("policy", sched_getscheduler(0), SCHED_BATCH);
	MAKER_SAME("nice", getpriority(PRIO_PROCESS, 0), 7);
	pthread_barrier_wait(&after);
	pthread_join(t, NULL);
	maker_ok();
}
