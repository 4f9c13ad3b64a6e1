/* A robust mutex whose owner is restored and then dies: its waiter must hear of it. */
#include <linux/futex.h>
#include <pthread.h>

#include "maker.h"

static pthread_mutex_t mutex;
static pthread_barrier_t before, after;

static void *owner(void *arg)
{
	(void)arg;
	if (maker_sets_up())
		pthread_mutex_lock(&mutex);
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	/* Not by the C library, which would walk the list itself. */
	syscall(SYS_exit, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attr;
	void *head = NULL;
	size_t len = 0;
	pthread_t t;

	maker_begin(argc, argv);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	MAKER_MUST(!pthread_mutex_init(&mutex, &attr));
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	MAKER_MUST(!pthread_create(&t, NULL, owner, NULL));
	pthread_barrier_wait(&before);
	maker_ready();
	maker_wait();
	MAKER_MUST(!syscall(SYS_get_robust_list, 0, &head, &len));
	if (!head)
		maker_fail("the leader has no robust list");
	pthread_barrier_wait(&after);
	pthread_join(t, NULL);
	MAKER_SAME("result of locking", pthread_mutex_lock(&mutex), EOWNERDEAD);
	maker_ok();
}
