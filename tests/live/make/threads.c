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

static volatile int stop, woken[8], tid[5];
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

	tid[0] = maker_tid();
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

	tid[1] = maker_tid();
	woken[1] = poll(&p, 1, 1500) == 0 || may_be_interrupted() ? 1 : -1;
	return arg;
}

static void *in_cond(void *arg)
{
	tid[2] = maker_tid();
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

	tid[3] = maker_tid();
	woken[3] = read(pipe_fd[0], &c, 1) == 1 && c == 'x' ? 1 : -1;
	return arg;
}

static void *in_epoll(void *arg)
{
	int ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLPRI };

	tid[4] = maker_tid();
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
	static const long calls[] = { SYS_clock_nanosleep, SYS_poll, SYS_futex, SYS_read, SYS_epoll_wait };
	double begin, latest = maker_is_plain() ? 6 : 3;
	unsigned long before;

	maker_begin(argc, argv);
	if (pipe(pipe_fd))
		maker_fail("pipe: %m");
	begin = now();
	for (size_t i = 0; i < sizeof(fn) / sizeof(fn[0]); i++)
		pthread_create(&t[i], NULL, fn[i], NULL);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		while (!tid[i] || (!woken[i] && !maker_is_in_call(tid[i], calls[i])))
			usleep(1000);
	while (!spins)
		usleep(1000);
	maker_ready();
	maker_wait();

	/* It ends when it should, or, where dump and restore took longer, after them; then it may wait for a processor. */
	if (latest < now() - begin)
		latest = now() - begin;
	before = spins;
	if (write(pipe_fd[1], "x", 1) != 1)
		maker_fail("write: %m");
	for (int try = 0; try < 5000 && spins == before; try++)
		usleep(1000);
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
	if (slept_sec < 2.99 || slept_sec > latest + 30)
		maker_fail("a sleep of 3 s lasted %.2f s of its clock", slept_sec);
	maker_ok();
}
