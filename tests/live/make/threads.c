/*
 * Threads in every kind of wait: nanosleep with much and with little left, poll, futex, read of
 * a pipe, epoll_wait, pause, a busy loop (often inside the vDSO) and one that counts. Each
 * says where it is; after the restore all must go on, sleeps must last as long as asked.
 */
#include <pthread.h>
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include "maker.h"

static volatile int stop, woken[8];
static volatile unsigned long spins;
static int pipe_fd[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static double slept_sec;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void *in_sleep(void *arg)
{
	double begin = now();
	struct timespec ts = { .tv_sec = 3 };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
	slept_sec = now() - begin;
	woken[0] = 1;
	return arg;
}

/* CRIU saves calls that the kernel would go on with as interrupted ones. */
static bool may_be_interrupted(void)
{
	return maker_is_plain() && errno == EINTR;
}

static void *in_poll(void *arg)
{
	struct pollfd p = { .fd = pipe_fd[0], .events = POLLPRI };

	woken[1] = poll(&p, 1, 1500) == 0 || may_be_interrupted() ? 1 : -1;
	return arg;
}

static void *in_cond(void *arg)
{
	pthread_mutex_lock(&mutex);
	while (!stop)
		pthread_cond_wait(&cond, &mutex);
	pthread_mutex_unlock(&mutex);
	woken[2] = 1;
	return arg;
}

static void *in_read(void *arg)
{
	char c;

	woken[3] = read(pipe_fd[0], &c, 1) == 1 && c == 'x' ? 1 : -1;
	return arg;
}

static void *in_epoll(void *arg)
{
	int ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLPRI };

	epoll_ctl(ep, EPOLL_CTL_ADD, pipe_fd[0], &ev);
	/* 0 when the time is up; EINTR would be our doing. */
	woken[4] = epoll_wait(ep, &ev, 1, 1500) == 0 || may_be_interrupted() ? 1 : -errno;
	return arg;
}

static void *in_vdso(void *arg)
{
	while (!stop) {
		double a = now(), b = now();

		if (b < a)
			woken[5] = -1;
		spins++;
	}
	if (!woken[5])
		woken[5] = 1;
	return arg;
}

int main(int argc, char **argv)
{
	void *(*const fn[])(void *) = { in_sleep, in_poll, in_cond, in_read, in_epoll, in_vdso, in_vdso };
	pthread_t t[sizeof(fn) / sizeof(fn[0])];
	unsigned long before;

	maker_begin(argc, argv);
	if (pipe(pipe_fd))
		maker_fail("pipe: %m");
	for (size_t i = 0; i < sizeof(fn) / sizeof(fn[0]); i++)
		pthread_create(&t[i], NULL, fn[i], NULL);
	usleep(100000);
	maker_ready();
	maker_wait();

	before = spins;
	if (write(pipe_fd[1], "x", 1) != 1)
		maker_fail("write: %m");
	usleep(10000);
	if (spins == before)
		maker_fail("the spinning threads stand still");
	pthread_mutex_lock(&mutex);
	stop = 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mutex);
	for (size_t i = 0; i < sizeof(fn) / sizeof(fn[0]); i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 6; i++)
		if (woken[i] != 1)
			maker_fail("thread %d: %d", i, woken[i]);
	if (slept_sec < 2.99 || slept_sec > (maker_is_plain() ? 7 : 4))
		maker_fail("a sleep of 3 s lasted %.2f s of its clock", slept_sec);
	maker_ok();
}
