/*
 * Threads that have a working directory, a root and a umask of their own (unshare(CLONE_FS), as file servers do
 * before they act for somebody), beside some that share the process's.
 */
#include <pthread.h>
#include <sched.h>

#include "maker.h"

static struct {
	const char *cwd, *root;
	unsigned int mask;
	bool own;
} want[] = {
	{ "/usr", NULL, 0111, true },
	{ "/usr/bin", "/usr", 077, true },
	{ "/", NULL, 022, true },	/* equal, until one of them changes it */
	{ NULL, NULL, 0, false },
};
#define THREADS (sizeof(want) / sizeof(want[0]))

static pthread_barrier_t barrier;
static int tids[THREADS];
static char error[THREADS][300];

static void link_of(int tid, const char *link, char path[200])
{
	char name[64];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/task/%d/%s", tid, link);
	n = readlink(name, path, 199);
	path[n < 0 ? 0 : n] = '\0';
}

static void *thread_main(void *arg)
{
	size_t i = (size_t)arg;
	mode_t mask;

	tids[i] = maker_tid();
	if (want[i].own)
		MAKER_MUST(!unshare(CLONE_FS));
	if (want[i].root)
		MAKER_MUST(!chroot(want[i].root));
	if (want[i].own) {
		MAKER_MUST(!chdir(want[i].root ? "/bin" : want[i].cwd));
		umask(want[i].mask);
	}
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	/* A relative path goes by it; then it is changed again, and nobody else's with it. */
	mask = umask(0707);
	if (want[i].own && mask != want[i].mask)
		snprintf(error[i], sizeof(error[i]), "its umask is 0%o", mask);
	if (want[i].root && (access("/bin", F_OK) || !access("/usr/bin", F_OK)))
		snprintf(error[i], sizeof(error[i]), "its root is not its own");
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return arg;
}

static void look(void)
{
	char path[200];

	for (size_t i = 0; i < THREADS; i++) {
		link_of(tids[i], "cwd", path);
		if (strcmp(path, want[i].own ? want[i].cwd : "/tmp"))
			maker_fail("thread %zu is in %s", i, path);
		link_of(tids[i], "root", path);
		if (strcmp(path, want[i].root ? want[i].root : "/"))
			maker_fail("thread %zu has the root %s", i, path);
	}
}

int main(int argc, char **argv)
{
	pthread_t t[THREADS];

	maker_begin(argc, argv);
	MAKER_MUST(!chdir("/tmp"));
	umask(027);
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		MAKER_MUST(!pthread_create(&t[i], NULL, thread_main, (void *)i));
	pthread_barrier_wait(&barrier);
	look();
	maker_ready();
	maker_wait();
	look();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < THREADS; i++)
		if (error[i][0])
			maker_fail("thread %zu: %s", i, error[i]);
	/* The last thread has set the process's. */
	MAKER_SAME("the process's umask", umask(0), 0707);
	/* And one that changes directory takes along who shares with it. */
	MAKER_MUST(!chdir("/proc"));
	for (size_t i = 0; i < THREADS; i++) {
		char path[200];

		link_of(tids[i], "cwd", path);
		if (strcmp(path, want[i].own ? want[i].cwd : "/proc"))
			maker_fail("thread %zu is in %s after another chdir()", i, path);
	}
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	maker_ok();
}
