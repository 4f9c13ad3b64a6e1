/*
 * Threads that notice whatever a dump could do to them: callee-saved, vector and flag registers
 * while computing and across system calls, every kind of interrupted wait, each thread's mask,
 * an ignored SIGTRAP. test_killed.py kills the dumping engine under them.
 */
#include <poll.h>
#include <pthread.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/time.h>

#include "maker.h"

#define N_THREADS 7

struct worker {
	const char *name;
	void (*once)(void);
	volatile uint64_t rounds;
};

static int pipe_fds[2];
static uint32_t futex_word;

/* 2,000 additions with the carry flag set: dec leaves it alone. Then a system call. */
static void compute(void)
{
	uint64_t seed = 0x123456789abcdef0u, bad = 0;
	double one = 1.0, sum = 0.0;

	__asm__ volatile("mov %[seed], %%rbx\n lea 1(%%rbx), %%r12\n lea 2(%%rbx), %%r13\n"
			 "lea 3(%%rbx), %%r14\n lea 4(%%rbx), %%r15\n"
			 "mov $2000, %%ecx\n stc\n"
			 "1: addsd %[one], %[sum]\n dec %%ecx\n jnz 1b\n"
			 "jc 2f\n or $1, %[bad]\n"
			 "2: mov $110, %%eax\n syscall\n"
			 "sub %%rbx, %%r12\n sub %%rbx, %%r13\n sub %%rbx, %%r14\n sub %%rbx, %%r15\n"
			 "xor $1, %%r12\n xor $2, %%r13\n xor $3, %%r14\n xor $4, %%r15\n"
			 "sub %[seed], %%rbx\n or %%r12, %[bad]\n or %%r13, %[bad]\n"
			 "or %%r14, %[bad]\n or %%r15, %[bad]\n or %%rbx, %[bad]\n"
			 : [bad] "+r"(bad), [sum] "+x"(sum)
			 : [seed] "r"(seed), [one] "x"(one)
			 : "rax", "rbx", "rcx", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
	if (bad || sum != 2000.0)
		maker_fail("registers changed: 0x%lx, sum %f", (unsigned long)bad, sum);
}

static void sleeps(void)
{
	const struct timespec ts = { .tv_nsec = 500000 };

	if (nanosleep(&ts, NULL) < 0)
		maker_fail("nanosleep: %s", strerror(errno));
}

static void polls(void)
{
	if (poll(NULL, 0, 1) != 0)
		maker_fail("poll: %s", strerror(errno));
}

static void epolls(void)
{
	static int ep = -1;
	struct epoll_event ev;

	if (ep < 0)
		ep = epoll_create1(0);
	/* The one wait that the kernel never repeats by itself. */
	if (epoll_wait(ep, &ev, 1, 1) < 0 && errno != EINTR)
		maker_fail("epoll_wait: %s", strerror(errno));
}

static void futexes(void)
{
	const struct timespec ts = { .tv_nsec = 500000 };

	if (syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0) != -1 ||
	    errno != ETIMEDOUT)
		maker_fail("futex: %s", strerror(errno));
}

static void reads(void)
{
	char byte;

	if (read(pipe_fds[0], &byte, 1) != 1 || byte != 'x')
		maker_fail("read: %s", strerror(errno));
}

static void writes(void)
{
	if (write(pipe_fds[1], "x", 1) != 1)
		maker_fail("write: %s", strerror(errno));
	usleep(300);
}

static struct worker workers[N_THREADS] = {
	{ "computes", compute, 0 }, { "sleeps", sleeps, 0 }, { "polls", polls, 0 },
	{ "epolls", epolls, 0 }, { "futexes", futexes, 0 }, { "reads", reads, 0 },
	{ "writes", writes, 0 },
};

static void *work(void *arg)
{
	struct worker *w = arg;
	sigset_t mine, now;

	sigemptyset(&mine);
	sigaddset(&mine, SIGRTMIN + (int)(w - workers));
	sigaddset(&mine, SIGUSR1);
	pthread_sigmask(SIG_SETMASK, &mine, NULL);
	for (;;) {
		w->once();
		sigemptyset(&now);
		pthread_sigmask(SIG_BLOCK, NULL, &now);
		if (memcmp(&now, &mine, 8))
			maker_fail("%s: the mask changed", w->name);
		w->rounds++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = SIG_IGN };
	uint64_t before[N_THREADS];
	pthread_t thread;

	maker_begin(argc, argv);
	sigaction(SIGTRAP, &sa, NULL);
	if (pipe(pipe_fds) < 0)
		maker_fail("pipe: %s", strerror(errno));
	for (int i = 0; i < N_THREADS; i++)
		if (pthread_create(&thread, NULL, work, &workers[i]))
			maker_fail("cannot make a thread");
	maker_ready();
	maker_wait();
	sigaction(SIGTRAP, NULL, &sa);
	if (sa.sa_handler != SIG_IGN)
		maker_fail("SIGTRAP is no longer ignored");
	for (int i = 0; i < N_THREADS; i++)
		before[i] = workers[i].rounds;
	for (int i = 0; i < N_THREADS; i++) {
		for (int msec = 0; workers[i].rounds < before[i] + 3; msec++) {
			if (msec > 5000)
				maker_fail("%s no longer goes on", workers[i].name);
			usleep(1000);
		}
	}
	maker_ok();
}
