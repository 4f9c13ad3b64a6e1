/*
 * Timers whose signals are pending, among others of the same number: they are delivered in order, once, and with all
 * periods that have passed since they were sent.
 */
#include "timers_common.h"

#define FOREIGN	41

static struct timer timers[] = {
	{ "since the boot", CLOCK_MONOTONIC, SIGEV_SIGNAL, 0, LONGEST, 3, .id = -1 },
	{ "with sleep", CLOCK_BOOTTIME, SIGEV_SIGNAL, 0, LONGEST, 2, .id = -1 },
	{ "by the wall", CLOCK_REALTIME, SIGEV_SIGNAL, 2, 1000 * SECOND, 1234567, .id = -1 },
	{ "by another wall", CLOCK_TAI, SIGEV_THREAD, 2, 1000 * SECOND, 0, .id = -1 },
	{ "of a signal that is once only", CLOCK_REALTIME, SIGEV_SIGNAL, -1, 1000 * SECOND, 1, .id = -1 },
	{ "of this signal, too", CLOCK_MONOTONIC, SIGEV_SIGNAL, -1, 0, 0, .id = -1 },
	{ "of an ignored signal", CLOCK_REALTIME, SIGEV_SIGNAL, -2, 1000 * SECOND, 5, .id = -1 },
	/* Last: it expires again at once. */
	{ "that goes on", CLOCK_MONOTONIC, SIGEV_SIGNAL, 3, SECOND / 200, 4, .id = -1 },
};
#define N (int)(sizeof(timers) / sizeof(timers[0]))

static void queue(int value)
{
	MAKER_MUST(!sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = value }));
}

static void expect_queued(int value)
{
	siginfo_t si;

	MAKER_SAME("a signal between timers", timers_take(SIGRTMIN, &si), SIGRTMIN);
	MAKER_SAME("its code", si.si_code, SI_QUEUE);
	MAKER_SAME("its value", si.si_value.sival_int, value);
}

static void set_of_thread(struct timer *t)
{
	timers_set(t, t->tid);
}

static void look_at_thread(struct timer *t)
{
	siginfo_t si;

	timers_expect(t);
	timers_expect_rhythm(t);
	if (timers_take(t->signo, &si))
		maker_fail("a second signal of the thread's timer");
}

static void set_up(void)
{
	queue(FOREIGN);
	for (int i = 0; i < N; i++) {
		timers_set(&timers[i], 0);
		if (timers[i].signo == SIGRTMIN)
			queue(FOREIGN + 1 + i);
	}
	/* Its own comes first, and there is one of a sort only. */
	kill(getpid(), SIGALRM);
}

int main(int argc, char **argv)
{
	void (*second[])(struct timer *) = { set_of_thread, look_at_thread };
	pthread_t thread;
	siginfo_t si;
	sigset_t all;

	maker_begin(argc, argv);
	if (access("/sys/kernel/btf/vmlinux", F_OK) < 0)
		maker_skip("the kernel does not describe itself (CONFIG_DEBUG_INFO_BTF)");
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGUSR2, SIG_IGN);
	pthread_barrier_init(&timers_before, NULL, 2);
	pthread_barrier_init(&timers_after, NULL, 2);
	timers_of_thread = (struct timer){ "of a thread", CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN, LONGEST, 1, .id = -1 };
	for (int i = 0; i < N; i++)
		timers[i].signo = timers[i].signo == -1 ? SIGALRM : timers[i].signo == -2 ? SIGUSR2 :
				  SIGRTMIN + timers[i].signo;
	if (maker_sets_up())
		set_up();
	MAKER_MUST(!pthread_create(&thread, NULL, timers_second, second));
	pthread_barrier_wait(&timers_before);
	maker_ready();
	maker_wait();
	expect_queued(FOREIGN);
	for (int i = 0; i < N; i++) {
		timers_expect(&timers[i]);
		if (timers[i].signo == SIGRTMIN)
			expect_queued(FOREIGN + 1 + i);
		if (timers[i].period)
			timers_expect_rhythm(&timers[i]);
	}
	for (int i = 0; i < N - 1; i++)
		if (timers_take(timers[i].signo, &si))
			maker_fail("timer %s: one signal too many: code %d, timer %d", timers[i].name, si.si_code, si.si_timerid);
	pthread_barrier_wait(&timers_after);
	pthread_join(thread, NULL);
	maker_ok();
}
