/* N descriptors of mixed kinds: files, pipes, socket pairs, eventfds, timerfds, epolls. */
#include <fcntl.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include "bench.h"

static int *fds;
static struct stat *kinds;
static long n, have;

static void keep(int fd, const char *what)
{
	bench_need(fd >= 0, what);
	if (have < n)
		fds[have++] = fd;
	else
		close(fd);
}

static void make_file(long i)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "file-%ld", i);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	bench_need(fd >= 0 && ftruncate(fd, 4096) == 0 && lseek(fd, i % 4096, SEEK_SET) >= 0, path);
	keep(fd, path);
}

static void make_some(long i)
{
	struct itimerspec far = { .it_value.tv_sec = 100000 + i };
	struct epoll_event ev = { .events = EPOLLIN };
	int pair[2], fd;

	make_file(i);
	bench_need(pipe(pair) == 0, "pipe");
	keep(pair[0], "pipe");
	keep(pair[1], "pipe");
	bench_need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
	keep(pair[0], "socketpair");
	keep(pair[1], "socketpair");
	fd = eventfd((unsigned int)i, 0);
	keep(fd, "eventfd");
	fd = timerfd_create(CLOCK_MONOTONIC, 0);
	bench_need(fd >= 0 && timerfd_settime(fd, 0, &far, NULL) == 0, "timerfd");
	keep(fd, "timerfd");
	fd = epoll_create1(0);
	ev.data.u64 = (uint64_t)i;
	/* The second descriptor is the first pipe's end. */
	bench_need(fd >= 0 && epoll_ctl(fd, EPOLL_CTL_ADD, fds[1], &ev) == 0, "epoll");
	keep(fd, "epoll");
}

static int is_there(long i)
{
	struct stat st;

	return fstat(fds[i], &st) == 0 && (st.st_mode & S_IFMT) == (kinds[i].st_mode & S_IFMT);
}

int main(int argc, char **argv)
{
	long lost = 0;

	n = bench_begin(argc, argv, 1000);
	fds = calloc((size_t)n, sizeof(*fds));
	kinds = calloc((size_t)n, sizeof(*kinds));
	bench_need(fds && kinds, "calloc");
	for (long i = 0; have < n; i++)
		make_some(i);
	for (long i = 0; i < n; i++)
		bench_need(fstat(fds[i], &kinds[i]) == 0, "fstat");
	bench_say("ready\n");
	for (;;) {
		bench_wait();
		for (long i = 0; i < n; i++)
			lost += !is_there(i);
		bench_say(lost ? "descriptors are missing\n" : "ok\n");
	}
}
