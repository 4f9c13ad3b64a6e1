/* What is sent to the log before journald runs reaches it, in the name of who sent it. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "crkexec/paths.h"
#include "initramfs/early.h"
#include "tests/unit/unit.h"
#include "util/io.h"

#define DIR_	"/run/systemd/journal"

/* A /run and a /dev of our own, with nothing in them; what listens there ends with us. */
static void own_places(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", "/run", "tmpfs", 0, NULL) < 0 || mount("crk-unit", "/dev", "tmpfs", 0, NULL) < 0)
		unit_skip("no /run and /dev of its own: %s", strerror(errno));
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strcpy(sa.sun_path, path);
	return sa;
}

static int connect_to(const char *path)
{
	struct sockaddr_un sa = address(path);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ASSERT_OK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

/* As systemd does it. */
static int take_over(const char *path)
{
	struct sockaddr_un sa = address(path);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;

	ASSERT_OK(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	ASSERT_EQ(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), -1);
	ASSERT_OK(unlink(path));
	ASSERT_OK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

/* The text of the next message, and who sent it; *fd: what came with it. */
static const char *next(int from, pid_t *pid, int *fd)
{
	static char buf[65536];
	union {
		struct cmsghdr align;
		char room[256];
	} control;
	struct iovec iov = { buf, sizeof(buf) - 1 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	struct pollfd p = { .fd = from, .events = POLLIN };
	ssize_t n;

	ASSERT_EQ(poll(&p, 1, 10000), 1);
	n = recvmsg(from, &h, MSG_CMSG_CLOEXEC);
	ASSERT_OK(n);
	buf[n] = '\0';
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_type == SCM_CREDENTIALS)
			*pid = ((struct ucred *)CMSG_DATA(c))->pid;
		if (c->cmsg_type == SCM_RIGHTS && fd)
			memcpy(fd, CMSG_DATA(c), sizeof(int));
	}
	return buf;
}

static void send_fd(int to, int fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (char *)"", 0 };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	ASSERT_OK(sendmsg(to, &h, 0));
}

static void wait_for_end(void)
{
	int status;

	ASSERT_OK(wait(&status));
	ASSERT(WIFEXITED(status) && !WEXITSTATUS(status));
}

TEST("messages from before journald reach it in order, with their senders, and who is connected notices the change")
{
	struct early e = { .log_fd = -EBADF };
	int log, journal, to, native, file[2], got = -1, n;
	pid_t pid = 0, other;
	char text[32];

	own_places();
	ASSERT_OK(early_syslog(&e));
	log = connect_to("/dev/log");
	for (int i = 0; i < 2000; i++) {
		n = snprintf(text, sizeof(text), "<14>line %d", i);
		ASSERT_EQ(send(log, text, (size_t)n, 0), n);
	}
	native = connect_to(DIR_ "/socket");
	ASSERT_EQ(send(native, "MESSAGE=one\n", 12, 0), 12);
	ASSERT_OK(pipe2(file, O_CLOEXEC));
	send_fd(native, file[0]);
	/* Of a process that has ended nobody can speak in its name. */
	other = fork();
	if (!other)
		_exit(send(log, "<14>last", 8, 0) != 8);
	ASSERT_EQ(waitpid(other, &n, 0), other);
	ASSERT_EQ(n, 0);

	to = take_over(DIR_ "/dev-log");
	for (int i = 0; i < 2000; i++) {
		snprintf(text, sizeof(text), "<14>line %d", i);
		ASSERT_STREQ(next(to, &pid, NULL), text);
		ASSERT_EQ(pid, getpid());
	}
	ASSERT_STREQ(next(to, &pid, NULL), "<14>last");
	ASSERT(pid != getpid() && pid != other);
	while (send(log, "x", 1, MSG_NOSIGNAL) == 1)
		usleep(1000);
	ASSERT(errno == EPIPE || errno == ECONNREFUSED);

	/* The other place is given over for itself. */
	journal = take_over(DIR_ "/socket");
	ASSERT_STREQ(next(journal, &pid, NULL), "MESSAGE=one\n");
	ASSERT_EQ(pid, getpid());
	ASSERT_STREQ(next(journal, &pid, &got), "");
	ASSERT_EQ(write(file[1], "in a file", 9), 9);
	ASSERT_EQ(read(got, text, sizeof(text)), 9);
	ASSERT(!memcmp(text, "in a file", 9));
	wait_for_end();
}

TEST("where somebody listens already nobody takes the place")
{
	struct sockaddr_un sa = address(DIR_ "/dev-log");
	struct early e = { .log_fd = -EBADF };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), to;

	own_places();
	ASSERT_OK(make_dirs(DIR_));
	ASSERT_OK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	ASSERT_OK(early_syslog(&e));
	ASSERT_EQ(waitpid(-1, NULL, WNOHANG), -1);
	to = connect_to(DIR_ "/dev-log");
	ASSERT_EQ(send(to, "x", 1, 0), 1);
}

TEST("where only one place can be had none is held")
{
	struct early e = { .log_fd = -EBADF };

	own_places();
	ASSERT_OK(make_dirs(DIR_ "/socket"));
	ASSERT_OK(early_syslog(&e));
	ASSERT_EQ(waitpid(-1, NULL, WNOHANG), -1);
	ASSERT_EQ(access(DIR_ "/dev-log", F_OK), -1);
}
