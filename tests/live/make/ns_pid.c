/*
 * A PID namespace of its own with its own /proc, as PrivatePIDs= and containers have: a first process
 * with threads, children in sessions and groups of their own, a zombie; everybody keeps the ids that
 * they have in there.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "ns_pid.h"

#define THREADS 3

static struct shared {
	pid_t tids[THREADS], seen[THREADS], leader, member, members_group, members_session;
	int go, done;
} *sh;

static void wait_for_go(void)
{
	while (!__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE))
		usleep(2000);
}

static void *thread_main(void *arg)
{
	size_t i = (size_t)arg;

	__atomic_store_n(&sh->tids[i], maker_tid(), __ATOMIC_RELEASE);
	wait_for_go();
	sh->seen[i] = maker_tid();
	return NULL;
}

static void leader_main(void)
{
	setsid();
	if (!fork()) {
		__atomic_store_n(&sh->member, getpid(), __ATOMIC_RELEASE);
		wait_for_go();
		sh->members_group = getpgrp();
		sh->members_session = getsid(0);
		__atomic_store_n(&sh->done, 1, __ATOMIC_RELEASE);
	}
	for (;;)
		pause();
}

static void check_proc(void)
{
	char text[32] = "";
	ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

	if (n < 0 || atoi(text) != getpid())
		maker_fail("/proc/self leads to '%s', not to %d", text, getpid());
	if (access("/proc/1/status", F_OK) < 0)
		maker_fail("/proc/1 does not show");
	snprintf(text, sizeof(text), "/proc/%d/status", sh->leader);
	if (access(text, F_OK) < 0)
		maker_fail("/proc does not show the child %d", sh->leader);
}

static void first_main(void)
{
	pthread_t threads[THREADS];
	pid_t zombie, pid;
	siginfo_t si;
	int status, fd;

	fd = open("/proc/self/status", O_RDONLY);
	MAKER_MUST(fd >= 0);
	/* Ids that nobody outside has in the same order. */
	for (int i = 0; i < 5; i++) {
		pid = fork();
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
	pid = fork();
	if (!pid)
		leader_main();
	sh->leader = pid;
	zombie = fork();
	if (!zombie)
		_exit(7);
	MAKER_MUST(waitid(P_PID, (id_t)zombie, &si, WEXITED | WNOWAIT) == 0);
	for (size_t i = 0; i < THREADS; i++) {
		MAKER_MUST(pthread_create(&threads[i], NULL, thread_main, (void *)i) == 0);
		while (!__atomic_load_n(&sh->tids[i], __ATOMIC_ACQUIRE))
			usleep(1000);
	}
	while (!__atomic_load_n(&sh->member, __ATOMIC_ACQUIRE))
		usleep(1000);
	check_proc();
	maker_ready();
	maker_wait();

	MAKER_SAME("the first process", getpid(), 1);
	check_proc();
	__atomic_store_n(&sh->go, 1, __ATOMIC_RELEASE);
	for (size_t i = 0; i < THREADS; i++) {
		MAKER_MUST(pthread_join(threads[i], NULL) == 0);
		MAKER_SAME("thread id", sh->seen[i], sh->tids[i]);
	}
	for (int i = 0; !__atomic_load_n(&sh->done, __ATOMIC_ACQUIRE) && i < 2500; i++)
		usleep(2000);
	MAKER_SAME("group of the grandchild", sh->members_group, sh->leader);
	MAKER_SAME("session of the grandchild", sh->members_session, sh->leader);
	MAKER_SAME("session of the child", getsid(sh->leader), sh->leader);
	MAKER_MUST(waitpid(zombie, &status, 0) == zombie && WIFEXITED(status));
	MAKER_SAME("status of the zombie", WEXITSTATUS(status), 7);
	MAKER_MUST(kill(sh->member, 0) == 0 && kill(sh->member, SIGKILL) == 0);
	MAKER_MUST(kill(sh->leader, SIGKILL) == 0 && waitpid(sh->leader, NULL, 0) == sh->leader);
	maker_ok();
}

int main(int argc, char **argv)
{
	maker_begin(argc, argv);
	sh = ns_pid_share(sizeof(*sh));
	ns_pid_begin(argv[1], NULL);
	first_main();
}
