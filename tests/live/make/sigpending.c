/* Pending signals: shared and private, standard and real-time, with codes and values, in order. */
#include <time.h>

#include "second_common.h"

#define N_RT 40


static void queue(int tid, int sig, int code, int value)
{
	siginfo_t si;

	memset(&si, 0, sizeof(si));
	si.si_signo = sig;
	si.si_code = code;
	si.si_pid = 4711;
	si.si_uid = 42;
	si.si_value.sival_int = value;
	if (tid)
		MAKER_MUST(!syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, sig, &si));
	else
		MAKER_MUST(!syscall(SYS_rt_sigqueueinfo, getpid(), sig, &si));
}

/* The C library's sigtimedwait() turns SI_TKILL into SI_USER. */
static int take(const sigset_t *set, siginfo_t *si)
{
	struct timespec now = { 0 };

	return (int)syscall(SYS_rt_sigtimedwait, set, si, &now, 8);
}

/* Takes one signal without waiting and compares it. */
static void expect(int sig, int code, int value)
{
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	if (take(&set, &si) != sig)
		maker_fail("signal %d with value %d is not pending", sig, value);
	MAKER_SAME("code", si.si_code, code);
	MAKER_SAME("value", si.si_value.sival_int, value);
	MAKER_SAME("sender", si.si_pid, 4711);
	MAKER_SAME("sender's uid", si.si_uid, 42);
}

static void expect_none(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	if (take(&set, NULL) == sig)
		maker_fail("one signal %d too many", sig);
}

static void *second(void *arg)
{
	(void)arg;
	if (maker_sets_up()) {
		queue(maker_tid(), SIGUSR2, SI_QUEUE, 1);
		for (int i = 0; i < N_RT; i++)
			queue(maker_tid(), SIGRTMIN + 3, SI_MESGQ, i);
	}
	second_wait();
	expect(SIGUSR2, SI_QUEUE, 1);
	for (int i = 0; i < N_RT; i++)
		expect(SIGRTMIN + 3, SI_MESGQ, i);
	expect_none(SIGRTMIN + 3);
	return NULL;
}

int main(int argc, char **argv)
{
	sigset_t all;

	maker_begin(argc, argv);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	second_begin(second);
	/* Ignored but blocked: pending all the same. */
	signal(SIGHUP, SIG_IGN);
	if (maker_sets_up()) {
		queue(0, SIGHUP, SI_USER, 0);
		queue(maker_tid(), SIGTERM, SI_TKILL, 0);
		for (int i = 0; i < N_RT; i++)
			queue(0, SIGRTMIN + 5, i % 2 ? SI_QUEUE : SI_TIMER, 1000 - i);
	}
	maker_ready();
	maker_wait();
	second_end();
	expect(SIGHUP, SI_USER, 0);
	expect_none(SIGHUP);
	expect(SIGTERM, SI_TKILL, 0);
	for (int i = 0; i < N_RT; i++) {
		siginfo_t si;
		sigset_t set;

		sigemptyset(&set);
		sigaddset(&set, SIGRTMIN + 5);
		MAKER_SAME("signal", take(&set, &si), SIGRTMIN + 5);
		MAKER_SAME("value", si.si_value.sival_int, 1000 - i);
		MAKER_SAME("code", si.si_code, i % 2 ? SI_QUEUE : SI_TIMER);
	}
	expect_none(SIGRTMIN + 5);
	expect_none(SIGCHLD);
	maker_ok();
}
