/* Names of threads, one of them with odd bytes and one of full length. */
#include <pthread.h>
#include <sys/prctl.h>

#include "maker.h"

static const char *const wanted[2] = { "a b)\n(\xff", "fifteen-letters" };
static char found[16];
static pthread_barrier_t before, after;

static void *second(void *arg)
{
	(void)arg;
	if (maker_sets_up())
		prctl(PR_SET_NAME, wanted[1]);
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	prctl(PR_GET_NAME, found);
	return NULL;
}

int main(int argc, char **argv)
{
	char mine[16];
	pthread_t t;

	maker_begin(argc, argv);
	pthread_barrier_init(&before, NULL, 2);
	pthread_barrier_init(&after, NULL, 2);
	MAKER_MUST(!pthread_create(&t, NULL, second, NULL));
	if (maker_sets_up())
		prctl(PR_SET_NAME, wanted[0]);
	pthread_barrier_wait(&before);
	maker_ready();
	maker_wait();
	pthread_barrier_wait(&after);
	/* Joining needs the thread's exit address. */
	pthread_join(t, NULL);
	prctl(PR_GET_NAME, mine);
	if (strcmp(mine, wanted[0]))
		maker_fail("the leader is called \"%s\"", mine);
	if (strcmp(found, wanted[1]))
		maker_fail("the thread is called \"%s\"", found);
	maker_ok();
}
