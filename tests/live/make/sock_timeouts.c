/*
 * Calls on sockets with SO_RCVTIMEO and SO_SNDTIMEO, which an interruption ends with EINTR even without a
 * handler (signal(7)): each in a thread of its own, and none may see it. What they wait for comes at the end.
 */
#include <pthread.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "maker.h"

#define W(call, value) { .name = #call, .nr = SYS_##call, .result = value }
#define SENDS(call, value) { .name = #call, .nr = SYS_##call, .result = value, .sends = true }
enum { N = 18, ROOM = 1 << 16 };

struct wait {
	const char *name;
	long nr, result;
	int fd, peer;		/* peer: what ends it is done there */
	bool sends;
	int pipe[2];		/* splice's other end */
	int tid, error;
	pthread_t thread;
};

static struct sockaddr_un busy = { .sun_family = AF_UNIX };
static int busy_fd, file_fd;
static char room[ROOM];

static long call(const struct wait *w)
{
	char buf[8] = "call";
	struct iovec iov = { buf, 4 };
	struct mmsghdr h = { .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };

	switch (w->nr) {
	case SYS_read:
	case SYS_write:
		return syscall(w->nr, w->fd, buf, 4);
	case SYS_readv:
	case SYS_writev:
		return syscall(w->nr, w->fd, &iov, 1);
	case SYS_preadv2:
	case SYS_pwritev2:
		return syscall(w->nr, w->fd, &iov, 1, -1l, -1l, 0);
	case SYS_splice:
		return w->sends ? syscall(w->nr, w->pipe[0], NULL, w->fd, NULL, 4, 0)
				: syscall(w->nr, w->fd, NULL, w->pipe[1], NULL, 4, 0);
	case SYS_recvfrom:
	case SYS_sendto:
		return syscall(w->nr, w->fd, buf, 4, 0, NULL, NULL);
	case SYS_recvmsg:
	case SYS_sendmsg:
		return syscall(w->nr, w->fd, &h.msg_hdr, 0);
	case SYS_recvmmsg:
	case SYS_sendmmsg:
		return syscall(w->nr, w->fd, &h, 1, 0, NULL);
	case SYS_sendfile:
		return syscall(w->nr, w->fd, file_fd, NULL, 4);
	case SYS_accept:
	case SYS_accept4:
		return syscall(w->nr, w->fd, NULL, NULL, 0) < 0 ? -1 : 1;
	case SYS_connect:
		return syscall(w->nr, w->fd, &busy, sizeof(busy));
	}
	return -1;
}

static void *run(void *arg)
{
	struct wait *w = arg;

	__atomic_store_n(&w->tid, maker_tid(), __ATOMIC_RELEASE);
	do {
		w->result = call(w);
		w->error = w->result < 0 ? errno : 0;
	} while (maker_is_plain() && w->error == EINTR);
	return NULL;
}

static void address(struct sockaddr_un *sa, const char *name)
{
	snprintf(sa->sun_path + 1, sizeof(sa->sun_path) - 1, "crk-timeouts-%d-%s", maker_number(), name);
}

static int listener(const char *name, int backlog, struct sockaddr_un *sa)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address(sa, name);
	MAKER_MUST(fd >= 0 && !bind(fd, (struct sockaddr *)sa, sizeof(*sa)) && !listen(fd, backlog));
	return fd;
}

static void set_timeouts(int fd)
{
	const struct timeval tmo = { .tv_sec = 3600 };

	MAKER_MUST(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tmo, sizeof(tmo)));
	MAKER_MUST(!setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tmo, sizeof(tmo)));
}

/* Before Linux 6.5 pages of files are joined to the last message, beyond the buffer's size. */
static void fill_by_pages(int fd)
{
	off_t off = 0;

	MAKER_MUST(!fcntl(fd, F_SETFL, O_NONBLOCK));
	while (sendfile(fd, file_fd, &off, sizeof(room)) > 0)
		off = 0;
	MAKER_SAME("sendfile", errno, EAGAIN);
	MAKER_MUST(!fcntl(fd, F_SETFL, 0));
}

static void prepare(struct wait *w)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int p[2];

	if (w->nr == SYS_accept || w->nr == SYS_accept4) {
		w->fd = listener(w->name, 4, &sa);
		w->peer = -1;
	} else if (w->nr == SYS_connect) {
		/* Two fit into a backlog of one, and stay accepted later. */
		busy_fd = listener(w->name, 0, &busy);
		w->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		MAKER_MUST(!connect(w->peer, (struct sockaddr *)&busy, sizeof(busy)));
		w->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	} else {
		MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p));
		w->fd = p[0];
		w->peer = p[1];
		/* In large pieces: what is saved is put together, and small ones would leave room then. */
		while (w->sends && send(w->fd, room, sizeof(room), MSG_DONTWAIT) > 0)
			;
		if (w->nr == SYS_sendfile || (w->nr == SYS_splice && w->sends))
			fill_by_pages(w->fd);
	}
	if (w->nr == SYS_splice)
		MAKER_MUST(!pipe2(w->pipe, O_CLOEXEC) && write(w->pipe[1], "pipe", 4) == 4);
	set_timeouts(w->fd);
}

/* What the thread waits for. */
static void end(struct wait *w)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd;

	switch (w->nr) {
	case SYS_accept:
	case SYS_accept4:
		address(&sa, w->name);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		MAKER_MUST(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
		break;
	case SYS_connect:
		MAKER_MUST(accept(busy_fd, NULL, NULL) >= 0);
		break;
	default:
		if (!w->sends)
			MAKER_MUST(send(w->peer, "data", 4, 0) == 4);
		while (w->sends && recv(w->peer, room, sizeof(room), MSG_DONTWAIT) > 0)
			;
	}
}

int main(int argc, char **argv)
{
	static struct wait waits[] = {
		W(read, 4), W(readv, 4), W(recvfrom, 4),
		W(recvmsg, 4), W(recvmmsg, 1), W(preadv2, 4), W(splice, 4), SENDS(write, 4),
		SENDS(writev, 4), SENDS(sendto, 4), SENDS(sendmsg, 4),
		SENDS(sendmmsg, 1), SENDS(sendfile, 4), SENDS(pwritev2, 4), SENDS(splice, 4),
		W(accept, 1), W(accept4, 1), W(connect, 0),
	};
	int n = maker_is_plain() ? N - 1 : N;	/* CRIU has no connections that nobody has accepted */
	long expected[N];

	maker_begin(argc, argv);
	file_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	MAKER_MUST(file_fd >= 0);
	for (int i = 0; i < n; i++) {
		struct wait *w = &waits[i];

		expected[i] = w->result;
		prepare(w);
		MAKER_MUST(!pthread_create(&w->thread, NULL, run, w));
		maker_await(&w->tid, 1);
		maker_await_call(w->tid, w->nr);
	}
	maker_ready();
	maker_wait();
	for (int i = 0; i < n; i++) {
		struct wait *w = &waits[i];

		end(w);
		MAKER_MUST(!pthread_join(w->thread, NULL));
		if (w->result != expected[i])
			maker_fail("%s: returned %ld: %s", w->name, w->result, strerror(w->error));
	}
	maker_ok();
}
