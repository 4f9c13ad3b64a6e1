/* Timers whose last signal was delivered late: timer_getoverrun(2) tells by how many periods. */
#include "timers_common.h"

static struct timer timers[] = {
	{ "since the boot", CLOCK_MONOTONIC, SIGEV_SIGNAL, 0, LONGEST, 3, .id = -1 },
	{ "with sleep", CLOCK_BOOTTIME, SIGEV_SIGNAL, 1, LONGEST, 2, .id = -1 },
	{ "by the wall", CLOCK_REALTIME, SIGEV_SIGNAL, 2, 1000 * SECOND, 1234567, .id = -1 },
	{ "of one signal with it", CLOCK_TAI, SIGEV_SIGNAL, 2, 1000 * SECOND, 1, .id = -1 },
	{ "on time", CLOCK_REALTIME, SIGEV_SIGNAL, 2, 1000 * SECOND, 0, .id = -1 },
	{ "for a library", CLOCK_REALTIME, SIGEV_THREAD, 3, 1000 * SECOND, 7, .id = -1 },
	{ "of an ignored signal", CLOCK_REALTIME, SIGEV_SIGNAL, -1, 1000 * SECOND, 9, .id = -1 },
	{ "of a signal that is pending", CLOCK_REALTIME, SIGEV_SIGNAL, -2, 1000 * SECOND, 11, .id = -1 },
};
#define N (int)(sizeof(timers) / sizeof(timers[0]))

static void set_up(struct timer *t)
{
	timers_set(t, t->tid);
	timers_expect(t);
	MAKER_SAME(t->name, timers_overrun(t), t->n);
}

static void look(struct timer *t)
{
	siginfo_t si;

	MAKER_SAME(t->name, timers_overrun(t), t->n);
	timers_expect_rhythm(t);
	if (timers_take(t->signo, &si))
		maker_fail("timer %s: signal %d is pending, code %d", t->name, t->signo, si.si_code);
}

int main(int argc, char **argv)
{
	void (*second[])(struct timer *) = { set_up, look };
	pthread_t thread;
	siginfo_t si;
	sigset_t all;

	maker_begin(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGUSR2, SIG_IGN);
	pthread_barrier_init(&timers_before, NULL, 2);
	pthread_barrier_init(&timers_after, NULL, 2);
	timers_of_thread = (struct timer){ "of a thread", CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 2, LONGEST, 1,
					   .id = -1 };
	for (int i = 0; i < N; i++)
		timers[i].signo = timers[i].signo == -1 ? SIGUSR2 : timers[i].signo == -2 ? SIGALRM :
				  SIGRTMIN + timers[i].signo;
	for (int i = 0; i < N && maker_sets_up(); i++)
		set_up(&timers[i]);
	MAKER_MUST(!pthread_create(&thread, NULL, timers_second, second));
	pthread_barrier_wait(&timers_before);
	if (maker_sets_up())
		kill(getpid(), SIGALRM);
	maker_ready();
	maker_wait();
	MAKER_SAME("the pending signal", timers_take(SIGALRM, &si), SIGALRM);
	MAKER_SAME("its code", si.si_code, SI_USER);
	for (int i = 0; i < N; i++)
		look(&timers[i]);
	pthread_barrier_wait(&timers_after);
	pthread_join(thread, NULL);
	maker_ok();
}
