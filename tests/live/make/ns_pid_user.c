/*
 * A PID namespace and a user namespace, as PrivatePIDs= and PrivateUsers= make them: threads of several
 * processes keep their ids, though nobody in there may choose one.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "ns_pid.h"

#define THREADS	8
#define PROCESSES 3

static struct shared {
	pid_t tids[PROCESSES][THREADS], seen[PROCESSES][THREADS];
	int mapped, want_map, ready, go, done;
} *sh;

struct me {
	int process;
	size_t thread;
};

static void put(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

	MAKER_MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void *thread_main(void *arg)
{
	const struct me *me = arg;

	sh->tids[me->process][me->thread] = maker_tid();
	__atomic_add_fetch(&sh->ready, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE))
		usleep(2000);
	sh->seen[me->process][me->thread] = maker_tid();
	__atomic_add_fetch(&sh->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void start_threads(int process)
{
	static struct me me[THREADS];
	pthread_t t;

	for (size_t i = 0; i < THREADS; i++) {
		me[i] = (struct me){ process, i };
		MAKER_MUST(pthread_create(&t, NULL, thread_main, &me[i]) == 0);
	}
}

static void wait_for(const int *what, int n)
{
	for (int i = 0; i < 5000 && __atomic_load_n(what, __ATOMIC_ACQUIRE) != n; i++)
		usleep(2000);
	MAKER_SAME("threads", __atomic_load_n(what, __ATOMIC_ACQUIRE), n);
}

/* Who may. */
static void map_ids(int proc_dir)
{
	while (!__atomic_load_n(&sh->want_map, __ATOMIC_ACQUIRE))
		usleep(1000);
	put(proc_dir, "uid_map", "0 0 65536");
	put(proc_dir, "gid_map", "0 0 65536");
	__atomic_store_n(&sh->mapped, 1, __ATOMIC_RELEASE);
}

int main(int argc, char **argv)
{
	maker_begin(argc, argv);
	sh = ns_pid_share(sizeof(*sh));
	ns_pid_begin(argv[1], map_ids);
	MAKER_MUST(setsid() == 1 && unshare(CLONE_NEWUSER) == 0);
	__atomic_store_n(&sh->want_map, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&sh->mapped, __ATOMIC_ACQUIRE))
		usleep(1000);
	MAKER_MUST(setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0);
	for (int i = 1; i < PROCESSES; i++)
		if (!fork()) {
			start_threads(i);
			for (;;)
				pause();
		}
	start_threads(0);
	wait_for(&sh->ready, PROCESSES * THREADS);
	maker_ready();
	maker_wait();

	MAKER_SAME("the first process", getpid(), 1);
	__atomic_store_n(&sh->go, 1, __ATOMIC_RELEASE);
	wait_for(&sh->done, PROCESSES * THREADS);
	for (int i = 0; i < PROCESSES; i++)
		for (size_t k = 0; k < THREADS; k++)
			MAKER_SAME("thread id", sh->seen[i][k], sh->tids[i][k]);
	maker_ok();
}
