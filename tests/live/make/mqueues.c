/*
 * POSIX message queues: contents by priority and order, attributes, owner and mode, several files of
 * one queue with flags of their own, one that has lost its name, an empty one that a process
 * waits at, a full one that another waits at, one watched by epoll.
 */
#include "files_common.h"

#include <mqueue.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char names[5][32];

static mqd_t make(int i, int flags, long maxmsg, long msgsize)
{
	struct mq_attr attr = { .mq_maxmsg = maxmsg, .mq_msgsize = msgsize };
	mqd_t q;

	/* What a failed test left has our name only if it had our pid. */
	snprintf(names[i], sizeof(names[i]), "/crk-test-%d-%d", maker_number(), i);
	mq_unlink(names[i]);
	q = mq_open(names[i], flags | O_CREAT | O_EXCL, 0600, &attr);
	MAKER_MUST(q >= 0);
	return q;
}

static void put(mqd_t q, const char *text, size_t n, unsigned int priority)
{
	MAKER_MUST(!mq_send(q, text, n, priority));
}

static void take(mqd_t q, const char *text, size_t n, unsigned int priority)
{
	char buf[9000];
	unsigned int is = 0;
	ssize_t got = mq_receive(q, buf, sizeof(buf), &is);

	if (got != (ssize_t)n || is != priority || memcmp(buf, text, n))
		maker_fail("got %zd bytes (%s) of priority %u, not %zu of %u", got,
			   got < 0 ? strerror(errno) : "", is, n, priority);
}

static struct mq_attr attr_of(mqd_t q)
{
	struct mq_attr attr;

	MAKER_MUST(!mq_getattr(q, &attr));
	return attr;
}

int main(int argc, char **argv)
{
	static char big[8192];
	mqd_t q, w, gone, empty, full, again;
	struct epoll_event ev = { .events = EPOLLIN };
	pid_t receiver, sender;
	struct stat st;
	int ep, count;

	maker_begin(argc, argv);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 3 + i / 256);
	q = make(0, O_RDWR | O_NONBLOCK, 7, sizeof(big));
	MAKER_MUST(!fchmod(q, 0642) && !fchown(q, 1234, 4321));
	w = mq_open(names[0], O_WRONLY);
	MAKER_MUST(w >= 0);
	put(q, "one", 3, 5);
	put(w, big, sizeof(big), 32767);
	put(w, "two", 3, 5);
	put(q, "", 0, 0);
	put(q, "three", 5, 5);
	gone = make(1, O_RDWR, 3, 100);
	put(gone, "still here", 10, 1);
	MAKER_MUST(!mq_unlink(names[1]));
	empty = make(2, O_RDWR, 3, 100);
	full = make(3, O_RDWR, 1, 100);
	put(full, "first", 5, 9);
	receiver = fork();
	if (!receiver) {
		take(empty, "way", 3, 2);
		_exit(21);
	}
	sender = fork();
	if (!sender) {
		put(full, "second", 6, 9);
		_exit(22);
	}
	ep = epoll_create1(0);
	MAKER_MUST(!epoll_ctl(ep, EPOLL_CTL_ADD, gone, &ev));
	count = fd_count();
	maker_await_call(receiver, SYS_mq_timedreceive);
	maker_await_call(sender, SYS_mq_timedsend);
	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	MAKER_MUST(!fstat(q, &st));
	MAKER_SAME("mode", st.st_mode & 07777, 0642);
	MAKER_SAME("owner", st.st_uid, 1234);
	MAKER_SAME("group", st.st_gid, 4321);
	MAKER_SAME("flags", attr_of(q).mq_flags, O_NONBLOCK);
	MAKER_SAME("the other's flags", attr_of(w).mq_flags, 0);
	MAKER_SAME("room", attr_of(q).mq_maxmsg, 7);
	MAKER_SAME("size", attr_of(q).mq_msgsize, sizeof(big));
	MAKER_SAME("messages", attr_of(w).mq_curmsgs, 5);
	MAKER_MUST(mq_receive(w, big, sizeof(big), NULL) < 0 && errno == EBADF);
	again = mq_open(names[0], O_RDONLY);
	MAKER_MUST(again >= 0);
	put(w, "four", 4, 5);
	take(again, big, sizeof(big), 32767);
	take(q, "one", 3, 5);
	take(q, "two", 3, 5);
	take(again, "three", 5, 5);
	take(q, "four", 4, 5);
	take(q, "", 0, 0);
	MAKER_MUST(mq_receive(q, big, sizeof(big), NULL) < 0 && errno == EAGAIN);
	MAKER_MUST(!mq_unlink(names[0]));

	MAKER_MUST(mq_open(names[1], O_RDWR) < 0 && errno == ENOENT);
	MAKER_SAME("ready", epoll_wait(ep, &ev, 1, 0), 1);
	take(gone, "still here", 10, 1);
	MAKER_SAME("ready when empty", epoll_wait(ep, &ev, 1, 0), 0);

	MAKER_MUST(!waitpid(receiver, NULL, WNOHANG) && !waitpid(sender, NULL, WNOHANG));
	put(empty, "way", 3, 2);
	maker_ends_with(receiver, 21);
	take(full, "first", 5, 9);
	maker_ends_with(sender, 22);
	take(full, "second", 6, 9);
	MAKER_MUST(!mq_unlink(names[2]) && !mq_unlink(names[3]));
	maker_ok();
}
