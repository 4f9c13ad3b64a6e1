/*
 * A second thread with a state of its own: it sets that up, waits in second_wait() while the process
 * is saved and restored, and then looks.
 */
#ifndef TESTS_LIVE_SECOND_COMMON_H
#define TESTS_LIVE_SECOND_COMMON_H

#include <pthread.h>

#include "maker.h"

static pthread_barrier_t second_before, second_after;
static pthread_t second_thread;

/* Returns when the thread waits. */
static void second_begin(void *(*run)(void *))
{
	pthread_barrier_init(&second_before, NULL, 2);
	pthread_barrier_init(&second_after, NULL, 2);
	MAKER_MUST(!pthread_create(&second_thread, NULL, run, NULL));
	pthread_barrier_wait(&second_before);
}

/* For the thread. */
static void second_wait(void)
{
	pthread_barrier_wait(&second_before);
	pthread_barrier_wait(&second_after);
}

/* Lets the thread look, and waits for its end. */
static void second_end(void)
{
	pthread_barrier_wait(&second_after);
	pthread_join(second_thread, NULL);
}

#endif
