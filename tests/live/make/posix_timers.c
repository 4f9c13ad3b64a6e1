/* POSIX timers of every notification, with gaps between their ids. */
#include <pthread.h>
#include <time.h>

#include "maker.h"

#define N 12

struct kernel_sigevent {
	uint64_t value;
	int signo, notify, tid, pad[11];
};

static pthread_barrier_t before, after;
static int thread_tid;

static int create(int clock, int notify, int signo, int tid, uint64_t value)
{
	struct kernel_sigevent ev = { value, signo, notify, tid, { 0 } };
	int id = -1;

	MAKER_MUST(!syscall(SYS_timer_create, clock, &ev, &id));
	return id;
}

static void arm(int id, long value_sec, long interval_sec)
{
	struct itimerspec its = { { interval_sec, 3 }, { value_sec, 0 } };

	MAKER_MUST(!syscall(SYS_timer_settime, id, 0, &its, NULL));
}

static void check(int id, long value_sec, long interval_sec)
{
	struct itimerspec its;

	if (syscall(SYS_timer_gettime, id, &its) < 0)
		maker_fail("timer %d is gone", id);
	MAKER_SAME("interval", its.it_interval.tv_sec, interval_sec);
	if (its.it_value.tv_sec > value_sec || its.it_value.tv_sec < value_sec - 60)
		maker_fail("timer %d has %ld s left, not about %ld", id, its.it_value.tv_sec,
			   value_sec);
}

static void *second(void *arg)
{
	(void)arg;
	thread_tid = maker_tid();
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	return NULL;
}

static void set_up(void)
{
	for (int i = 0; i < N; i++)
		MAKER_SAME("first ids", create(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0), i);
	for (int i = 0; i < N; i++)
		if (i != 3)
			syscall(SYS_timer_delete, i);
	MAKER_SAME("id", create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 1, 0, 0x1122334455667788),
		   12);
	MAKER_SAME("id", create(CLOCK_BOOTTIME, SIGEV_THREAD_ID, SIGRTMIN + 2, thread_tid, 7), 13);
	MAKER_SAME("id", create(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR2, 0, 8), 14);
	arm(3, 3000, 0);
	arm(12, 1000, 77);
	arm(13, 500, 5);
	arm(14, 400, 0);
	MAKER_SAME("id", create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 4, 0, 99), 15);
	/* Disarmed. */
	MAKER_SAME("id", create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 4, 0, 99), 16);
	struct itimerspec quick = { { 0, 10000000 }, { 0, 10000000 } }, noon = { 0 };

	MAKER_MUST(!syscall(SYS_timer_settime, 15, 0, &quick, NULL));
	MAKER_SAME("id", create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGRTMIN + 1, 0, 100), 17);
	MAKER_MUST(!clock_gettime(CLOCK_REALTIME, &noon.it_value));
	noon.it_value.tv_sec += 2000;
	MAKER_MUST(!syscall(SYS_timer_settime, 17, TIMER_ABSTIME, &noon, NULL));
}

int main(int argc, char **argv)
{
	struct itimerspec its;
	siginfo_t si;
	sigset_t set;
	pthread_t t;

	maker_begin(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 4);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	MAKER_MUST(!pthread_create(&t, NULL, second, NULL));
	pthread_barrier_wait(&before);
	if (maker_sets_up())
		set_up();
	maker_ready();
	maker_wait();
	check(3, 3000, 0);
	check(12, 1000, 77);
	check(13, 500, 5);
	check(14, 400, 0);
	check(17, 2000, 0);
	for (int i = 0; i < 3; i++) {
		MAKER_SAME("signal of timer 15",
			   sigtimedwait(&set, &si, &(struct timespec){ 2, 0 }), SIGRTMIN + 4);
		MAKER_SAME("its code", si.si_code, SI_TIMER);
		MAKER_SAME("its value", si.si_value.sival_int, 99);
	}
	MAKER_MUST(!syscall(SYS_timer_gettime, 16, &its));
	MAKER_SAME("time left of the disarmed one", its.it_value.tv_sec, 0);
	for (int i = 0; i < N; i++)
		if (i != 3 && !syscall(SYS_timer_gettime, i, &its))
			maker_fail("timer %d exists", i);
	pthread_barrier_wait(&after);
	pthread_join(t, NULL);
	maker_ok();
}
