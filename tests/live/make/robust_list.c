/* A robust mutex whose owner is restored and then dies: its waiter must hear of it. */
#include <linux/futex.h>
#include <pthread.h>

#include "second_common.h"

static pthread_mutex_t mutex;

static void *owner(void *arg)
{
	(void)arg;
	if (maker_sets_up())
		pthread_mutex_lock(&mutex);
	second_wait();
	/* Not by the C library, which would walk the list itself. */
	syscall(SYS_exit, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_mutexattr_t attr;
	void *head = NULL;
	size_t len = 0;

	maker_begin(argc, argv);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	MAKER_MUST(!pthread_mutex_init(&mutex, &attr));
	second_begin(owner);
	maker_ready();
	maker_wait();
	MAKER_MUST(!syscall(SYS_get_robust_list, 0, &head, &len));
	if (!head)
		maker_fail("the leader has no robust list");
	second_end();
	MAKER_SAME("result of locking", pthread_mutex_lock(&mutex), EOWNERDEAD);
	maker_ok();
}
