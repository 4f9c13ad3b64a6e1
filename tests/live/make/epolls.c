/*
 * epoll: level, edge, one-shot (armed and spent), exclusive, data, a target known by the number
 * of a closed duplicate, a nested epoll, a target number that was used twice, signalfd.
 */
#include "files_common.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

static int ev_fd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	MAKER_MUST(fd >= 0);
	return fd;
}

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	MAKER_MUST(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

/* The set of events that are ready now, as a sum of data values. */
static uint64_t ready(int ep, uint32_t *events)
{
	struct epoll_event ev[16];
	uint64_t sum = 0;
	int n = epoll_wait(ep, ev, 16, 0);

	if (n < 0)
		maker_fail("epoll_wait: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		sum += ev[i].data.u64;
		if (events)
			*events = ev[i].events;
	}
	return sum;
}

static void fire(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, 8) != 8)
		maker_fail("write to an eventfd: %s", strerror(errno));
}

static void quiet(int fd)
{
	uint64_t v;

	if (read(fd, &v, 8) != 8)
		maker_fail("read of an eventfd: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	int ep, outer, level, edge, once, spent, closed, dup_of, excl, inner_t, sfd, keep;
	struct fd_look was;
	uint32_t events = 0;
	sigset_t set;
	int count;

	maker_begin(argc, argv);
	MAKER_MUST((ep = epoll_create1(EPOLL_CLOEXEC)) >= 0);
	MAKER_MUST((outer = epoll_create1(0)) >= 0);
	add(ep, level = ev_fd(), EPOLLIN, 1);
	add(ep, edge = ev_fd(), EPOLLIN | EPOLLET, 10);
	add(ep, once = ev_fd(), EPOLLIN | EPOLLONESHOT, 100);
	add(ep, spent = ev_fd(), EPOLLIN | EPOLLONESHOT, 1000);
	fire(spent);
	MAKER_SAME("spends it", ready(ep, NULL), 1000);
	/* Registered as a number that is closed, then taken by another file. */
	closed = ev_fd();
	add(ep, closed, EPOLLIN, 0x123456789abcdef0ull);
	MAKER_MUST((dup_of = fcntl(closed, F_DUPFD, 100)) >= 100 && !close(closed));
	MAKER_MUST((keep = ev_fd()) == closed);
	add(ep, keep, EPOLLIN, 100000);
	add(ep, excl = ev_fd(), EPOLLIN | EPOLLEXCLUSIVE, 1000000);
	MAKER_MUST((inner_t = ev_fd()) >= 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	MAKER_MUST(!sigprocmask(SIG_BLOCK, &set, NULL));
	MAKER_MUST((sfd = signalfd(-1, &set, SFD_NONBLOCK)) >= 0);
	add(ep, sfd, EPOLLIN, 10000000);
	add(outer, ep, EPOLLIN, 5);
	add(outer, inner_t, EPOLLIN, 50);
	was = fd_look(ep);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	fd_same("epoll", &was);
	MAKER_SAME("nothing at first", ready(ep, NULL), 0);
	fire(level);
	MAKER_SAME("level", ready(ep, &events), 1);
	MAKER_SAME("events", events, EPOLLIN);
	MAKER_SAME("level again", ready(ep, NULL), 1);
	MAKER_SAME("nested", ready(outer, NULL), 5);
	quiet(level);
	fire(edge);
	MAKER_SAME("edge", ready(ep, NULL), 10);
	MAKER_SAME("edge again", ready(ep, NULL), 0);
	fire(once);
	MAKER_SAME("one-shot", ready(ep, NULL), 100);
	MAKER_SAME("one-shot again", ready(ep, NULL), 0);
	fire(spent);
	MAKER_SAME("spent one-shot", ready(ep, NULL), 0);
	fire(dup_of);
	MAKER_SAME("duplicate", ready(ep, NULL), 0x123456789abcdef0ull);
	quiet(dup_of);
	fire(keep);
	MAKER_SAME("number used again", ready(ep, NULL), 100000);
	quiet(keep);
	fire(excl);
	MAKER_SAME("exclusive", ready(ep, NULL), 1000000);
	quiet(excl);
	MAKER_MUST(!raise(SIGUSR2));
	MAKER_SAME("signalfd", ready(ep, NULL), 10000000);
	fire(inner_t);
	MAKER_SAME("outer", ready(outer, NULL), 55);
	MAKER_SAME("delete", epoll_ctl(ep, EPOLL_CTL_DEL, level, NULL), 0);
	maker_ok();
}
