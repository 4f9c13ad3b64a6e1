/* N threads that wait for a condition. */
#include <pthread.h>

#include "bench.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER, answered = PTHREAD_COND_INITIALIZER;
static long rounds, answers, waiting;

static void *body(void *arg)
{
	long seen = 0;

	pthread_mutex_lock(&lock);
	waiting++;
	pthread_cond_signal(&answered);
	for (;;) {
		while (rounds == seen)
			pthread_cond_wait(&asked, &lock);
		seen = rounds;
		answers++;
		pthread_cond_signal(&answered);
	}
	return arg;
}

int main(int argc, char **argv)
{
	long n = bench_begin(argc, argv, 200) - 1;
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 << 10);
	for (long i = 0; i < n; i++) {
		errno = pthread_create(&t, &attr, body, NULL);
		bench_need(errno == 0, "pthread_create");
	}
	pthread_mutex_lock(&lock);
	while (waiting < n)
		pthread_cond_wait(&answered, &lock);
	pthread_mutex_unlock(&lock);
	bench_say("ready\n");
	for (;;) {
		bench_wait();
		/* Every thread has to wake up and answer, or this never ends. */
		pthread_mutex_lock(&lock);
		answers = 0;
		rounds++;
		pthread_cond_broadcast(&asked);
		while (answers < n)
			pthread_cond_wait(&answered, &lock);
		pthread_mutex_unlock(&lock);
		bench_say("ok\n");
	}
}
