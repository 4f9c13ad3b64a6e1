/*
 * Children that job control has stopped, by several signals, with threads; of some the parent has
 * been told by wait, of others it still must be. All come back stopped, the parent is told what it
 * has not been told and gets no SIGCHLD again, and SIGCONT lets them go on.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "maker.h"

static const struct {
	int signal;
	bool told, threads, handles;
} kinds[] = {
	{ SIGSTOP, false, false, false }, { SIGSTOP, true, false, false },
	{ SIGTSTP, false, false, false }, { SIGTSTP, true, true, false },
	{ SIGTTIN, false, true, false },  { SIGTTOU, true, false, true },
};
#define N (sizeof(kinds) / sizeof(kinds[0]))

static volatile int *went_on;	/* by child, by thread: their steps */
static volatile sig_atomic_t told;

static void on_child(int sig)
{
	(void)sig;
	told++;
}

static void on_stop(int sig)
{
	(void)sig;
	_exit(3);
}

static void *thread_main(void *steps)
{
	for (;;) {
		++*(volatile int *)steps;
		usleep(1000);
	}
	return NULL;
}

static void child_main(size_t i)
{
	volatile int *steps = went_on + 4 * i;
	pthread_t t;

	/* A group that is not orphaned: its parent is in another one of the session. */
	setpgid(0, 0);
	for (int k = 1; kinds[i].threads && k < 4; k++)
		MAKER_MUST(pthread_create(&t, NULL, thread_main, (void *)(steps + k)) == 0);
	while (kinds[i].threads && !steps[3])
		usleep(1000);
	signal(kinds[i].signal, SIG_DFL);
	kill(getpid(), kinds[i].signal);
	/* Only now, when it goes on. */
	if (kinds[i].handles)
		signal(SIGTSTP, on_stop);
	thread_main((void *)steps);
}

static void check_child(size_t i, pid_t pid)
{
	int steps[4], status = 0;

	maker_await_stop(pid);
	for (int k = 0; k < 4; k++)
		steps[k] = went_on[4 * i + k];
	MAKER_SAME("wait", waitpid(pid, &status, WNOHANG | WUNTRACED), kinds[i].told ? 0 : pid);
	if (!kinds[i].told)
		MAKER_SAME("status", status, kinds[i].signal << 8 | 0x7f);
	kill(pid, SIGCONT);
	for (int k = 0; k < (kinds[i].threads ? 4 : 1); k++) {
		for (int t = 0; t < 500 && went_on[4 * i + k] == steps[k]; t++)
			usleep(10000);
		if (went_on[4 * i + k] == steps[k])
			maker_fail("child %zu thread %d does not go on", i, k);
	}
	kill(pid, SIGKILL);
	MAKER_SAME("wait", waitpid(pid, &status, 0), pid);
	MAKER_SAME("end", status, SIGKILL);
}

int main(int argc, char **argv)
{
	pid_t pid[N];
	int told_before;

	maker_begin(argc, argv);
	went_on = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(went_on != MAP_FAILED);
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = on_child, .sa_flags = SA_RESTART }, NULL);
	for (size_t i = 0; i < N; i++) {
		pid[i] = fork();
		if (!pid[i])
			child_main(i);
		maker_await_stop(pid[i]);
		if (kinds[i].told)
			MAKER_SAME("wait", waitpid(pid[i], NULL, WUNTRACED), pid[i]);
		/* It is to be seen that it has stopped a moment before its parent is told. */
		for (int t = 0; t < 5000 && (size_t)told <= i; t++)
			usleep(1000);
		MAKER_SAME("SIGCHLD", told, i + 1);
	}
	told_before = told;
	maker_ready();
	maker_wait();

	for (size_t i = 0; i < N; i++)
		maker_await_stop(pid[i]);
	MAKER_SAME("SIGCHLD", told, told_before);
	for (size_t i = 0; i < N; i++)
		check_child(i, pid[i]);
	maker_ok();
}
