/*
 * Open files that nobody has received yet: watches, marks, timers and connections of theirs; a lock of one that is held,
 * too, by a higher number than the socket that it is queued in.
 *
 * cr-options: --tcp-established --file-locks
 */
#include "files_common.h"
#include "rights_common.h"
#include "sock_common.h"

#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>

#define AHEAD_SEC 1000

static int queue[2];

/* The only descriptor of it is in the queue then. */
static void give_away(int fd)
{
	send_fd(queue[0], "x", fd);
	close(fd);
}

static int take(void)
{
	char c;
	ssize_t n;
	int fd = recv_fd(queue[1], &c, 1, &n);

	if (fd < 0)
		maker_fail("no descriptor is queued: %zd (%s)", n, strerror(errno));
	return fd;
}

static int watch(void)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	MAKER_MUST(fd >= 0 && inotify_add_watch(fd, "dir", IN_CREATE) == 1);
	return fd;
}

static void watch_verify(int fd)
{
	char buf[512] __attribute__((aligned(8)));
	struct inotify_event *ev = (struct inotify_event *)buf;

	MAKER_SAME("no event of the restore", read(fd, buf, sizeof(buf)), -1);
	close(file_with("dir/new", "x", 0));
	MAKER_MUST(read(fd, buf, sizeof(buf)) > 0);
	MAKER_SAME("event", ev->mask, IN_CREATE);
	MAKER_SAME("watch", ev->wd, 1);
	MAKER_MUST(!unlink("dir/new"));
}

static int timer(void)
{
	const struct itimerspec its = { .it_value.tv_sec = AHEAD_SEC };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	MAKER_MUST(fd >= 0 && !timerfd_settime(fd, 0, &its, NULL));
	return fd;
}

static void timer_verify(int fd)
{
	struct itimerspec its;

	MAKER_MUST(!timerfd_gettime(fd, &its));
	if (!its.it_value.tv_sec || its.it_value.tv_sec > AHEAD_SEC)
		maker_fail("the timer has %ld s left", (long)its.it_value.tv_sec);
}

/* Both ends are made; *ret_other: the one that is not queued. */
static int connection(int *ret_other)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = socket(AF_INET, SOCK_STREAM, 0), fd;
	socklen_t len = sizeof(a);

	*ret_other = socket(AF_INET, SOCK_STREAM, 0);
	MAKER_MUST(!bind(l, (struct sockaddr *)&a, sizeof(a)) && !listen(l, 1));
	MAKER_MUST(!getsockname(l, (struct sockaddr *)&a, &len));
	MAKER_MUST(!connect(*ret_other, (struct sockaddr *)&a, sizeof(a)));
	fd = accept(l, NULL, NULL);
	MAKER_MUST(fd >= 0);
	close(l);
	return fd;
}

static void connection_verify(int fd, int other)
{
	MAKER_MUST(send(other, "to", 2, 0) == 2 && send(fd, "fro", 3, 0) == 3);
	sock_expect("queued end", fd, "to", 2);
	sock_expect("held end", other, "fro", 3);
}

static int locked(const char *name)
{
	int fd = file_with(name, "x", 0);

	MAKER_MUST(!flock(fd, LOCK_EX | LOCK_NB));
	return fd;
}

static void lock_verify(const char *name)
{
	int fd = open(name, O_RDONLY);

	MAKER_MUST(fd >= 0);
	MAKER_SAME("lock is held", flock(fd, LOCK_EX | LOCK_NB), -1);
	close(fd);
}

int main(int argc, char **argv)
{
	int inner[2], other, held, fd;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	MAKER_MUST(!mkdir("dir", 0755) || errno == EEXIST);
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, queue));
	give_away(timer());
	give_away(connection(&other));
	give_away(watch());
	held = locked("locked");
	send_fd(queue[0], "x", held);
	/* A queued socket, with a queue: its peer is held. */
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, inner));
	fd = timer();
	send_fd(inner[0], "y", fd);
	close(fd);
	give_away(inner[1]);

	maker_ready();
	maker_wait();

	timer_verify(take());
	connection_verify(take(), other);
	watch_verify(take());
	fd = take();
	lock_verify("locked");
	close(held);
	lock_verify("locked");
	close(fd);
	fd = open("locked", O_RDONLY);
	MAKER_SAME("lock is gone", flock(fd, LOCK_EX | LOCK_NB), 0);
	inner[1] = take();
	close(queue[1]);
	queue[1] = inner[1];
	timer_verify(take());
	maker_ok();
}
