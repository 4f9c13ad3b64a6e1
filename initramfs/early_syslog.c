/*
 * What restored services send to the log before journald runs: syslog(3) and the journal's own protocol.
 * In a distribution's initramfs journald runs; in ours a process listens in its place, keeps what comes,
 * and gives it to journald's sockets as soon as systemd has made them, in the name of who sent it. Then it
 * closes its own, and whoever is still connected to them connects anew, as it must when journald is
 * restarted.
 *
 * The trap: a datagram socket that nobody reads blocks its senders after a few messages. So all is
 * read at once, and what is too much is dropped.
 */
#include "initramfs/early.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/io.h"
#include "util/log.h"

#define JOURNAL_DIR	"/run/systemd/journal"
#define KEPT_BYTES	(16u << 20)
#define MESSAGE_BYTES	(256u << 10)
#define LOOK_MSEC	100
/* A boot that has not come to its sockets by then has other troubles. */
#define KEEP_USEC	(300ull * 1000000u)
/* journald itself starts after its sockets are there. */
#define GIVE_SECONDS	30
#define CATCH_UP_USEC	(2u * 1000000u)

static const struct {
	const char *path;
	const char *reached_by;		/* where somebody else's may come instead */
} places[] = {
	{ JOURNAL_DIR "/dev-log", "/dev/log" },
	{ JOURNAL_DIR "/socket", JOURNAL_DIR "/socket" },
};
#define N_SOCKETS	ARRAY_SIZE(places)
_Static_assert(N_SOCKETS == 2, "keep_sockets_only() knows two");

struct message {
	struct message *next;
	size_t bytes;
	struct ucred from;
	int fd;			/* the journal's protocol passes long ones in a file; or -EBADF */
	char data[];
};

struct keeper {
	struct pollfd sockets[N_SOCKETS];	/* fd negative: given over */
	ino_t inodes[N_SOCKETS];
	struct message *first[N_SOCKETS], **last[N_SOCKETS];
	size_t bytes, dropped;
};

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
};

static int listen_at(const char *path, ino_t *ret_inode)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const int on = 1, bytes = 8 << 20;
	struct stat st;

	strcpy(sa.sun_path, path);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 || chmod(path, 0666) < 0 ||
	    stat(path, &st) < 0)
		return neg_errno();
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	*ret_inode = st.st_ino;
	return take_fd(&fd);
}

static void take_control(struct msghdr *h, struct message *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&m->from, CMSG_DATA(c), sizeof(m->from));
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&m->fd, CMSG_DATA(c), sizeof(m->fd));
	}
}

/* False: there is no more. */
static bool keep_one(struct keeper *k, size_t i)
{
	static char buf[MESSAGE_BYTES];
	struct iovec iov = { buf, sizeof(buf) };
	union control control;
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	struct message *m, head = { .fd = -EBADF };
	ssize_t n = recvmsg(k->sockets[i].fd, &h, MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EINTR;
	take_control(&h, &head);
	m = k->bytes + sizeof(*m) + (size_t)n <= KEPT_BYTES ? malloc(sizeof(*m) + (size_t)n) : NULL;
	if (!m) {
		k->dropped++;
		close_fdp(&head.fd);
		return true;
	}
	*m = (struct message){ .bytes = (size_t)n, .from = head.from, .fd = head.fd };
	memcpy(m->data, buf, (size_t)n);
	k->bytes += sizeof(*m) + (size_t)n;
	*k->last[i] = m;
	k->last[i] = &m->next;
	return true;
}

static void keep_all(struct keeper *k)
{
	for (size_t i = 0; i < N_SOCKETS; i++)
		while (k->sockets[i].fd >= 0 && keep_one(k, i))
			;
}

/* systemd removes what is in its way, and binds its own; so do others in the place of /dev/log. */
static bool has_successor(const struct keeper *k, size_t i)
{
	struct stat st;

	return k->sockets[i].fd >= 0 && stat(places[i].reached_by, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       st.st_ino != k->inodes[i];
}

/* In the name of the sender, or, if that has ended, in ours: better than not at all. */
static int give_one(int fd, size_t to, const struct message *m, bool ours)
{
	const struct ucred me = { .pid = getpid() };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct iovec iov = { (void *)m->data, m->bytes };
	union control control = { 0 };
	struct msghdr h = { .msg_name = &sa, .msg_namelen = sizeof(sa), .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(struct ucred)) };
	struct cmsghdr *c;

	strcpy(sa.sun_path, places[to].reached_by);
	if (m->fd >= 0)
		h.msg_controllen += CMSG_SPACE(sizeof(int));
	c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_CREDENTIALS;
	c->cmsg_len = CMSG_LEN(sizeof(struct ucred));
	memcpy(CMSG_DATA(c), ours ? &me : &m->from, sizeof(me));
	if (m->fd >= 0) {
		c = CMSG_NXTHDR(&h, c);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &m->fd, sizeof(int));
	}
	return sendmsg(fd, &h, MSG_NOSIGNAL) < 0 ? neg_errno() : 0;
}

/* In order, and what comes meanwhile. end: CLOCK_BOOTTIME; somebody may be sending faster than this. */
static int give_all(struct keeper *k, size_t to, int fd, uint64_t end)
{
	struct message *m;
	int r = 0;

	for (; (m = k->first[to]) && r >= 0 && clock_usec(CLOCK_BOOTTIME) < end; keep_all(k)) {
		r = give_one(fd, to, m, false);
		if (r == -ESRCH || r == -EPERM)
			r = give_one(fd, to, m, true);
		k->first[to] = m->next;
		if (!m->next)
			k->last[to] = &k->first[to];
		k->bytes -= sizeof(*m) + m->bytes;
		close_fdp(&m->fd);
		free(m);
	}
	return r;
}

/* Nobody listens there any more, and nobody shall think so. */
static void remove_places(const struct keeper *k)
{
	for (size_t i = 0; i < N_SOCKETS; i++)
		if (k->sockets[i].fd >= 0)
			unlink(places[i].path);
}

/*
 * Shut when there is nothing left: what is sent from then on goes to the successor, and should not overtake what
 * was sent before. One that takes nothing for GIVE_SECONDS gets no more.
 */
static void give_over(struct keeper *k, size_t i)
{
	const struct timeval limit = { .tv_sec = GIVE_SECONDS };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = fd < 0 ? neg_errno() : 0;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (r == 0)
		r = give_all(k, i, fd, clock_usec(CLOCK_BOOTTIME) + CATCH_UP_USEC);
	shutdown(k->sockets[i].fd, SHUT_RD);
	keep_all(k);
	if (r == 0)
		r = give_all(k, i, fd, UINT64_MAX);
	if (r < 0 || k->dropped)
		early_say("messages of restored services did not all reach the journal (%s; %zu dropped)",
			  r < 0 ? strerror(-r) : "too many", k->dropped);
	close(take_fd(&k->sockets[i].fd));
}

/* Of PID 1's descriptors it has no other: it may live longer than what is behind them. */
static void keep_sockets_only(const struct keeper *k)
{
	unsigned int a = (unsigned int)MIN(k->sockets[0].fd, k->sockets[1].fd);
	unsigned int b = (unsigned int)MAX(k->sockets[0].fd, k->sockets[1].fd);

	if (a > 3)
		close_range(3, a - 1, 0);
	if (b > a + 1)
		close_range(a + 1, b - 1, 0);
	close_range(b + 1, ~0u, 0);
	log_init(LOGLEVEL_INFO, -EBADF);
	prctl(PR_SET_NAME, "crkexec-syslog");
}

static void __attribute__((noreturn)) run(struct keeper *k)
{
	uint64_t end = clock_usec(CLOCK_BOOTTIME) + KEEP_USEC;
	size_t left = N_SOCKETS;

	keep_sockets_only(k);
	while (left && clock_usec(CLOCK_BOOTTIME) < end) {
		poll(k->sockets, N_SOCKETS, LOOK_MSEC);
		keep_all(k);
		for (size_t i = 0; i < N_SOCKETS; i++) {
			if (!has_successor(k, i))
				continue;
			give_over(k, i);
			left--;
		}
	}
	if (left) {
		early_say("nobody has taken what services send to the log from %s in %llu s, it is lost",
			  JOURNAL_DIR, KEEP_USEC / 1000000u);
		remove_places(k);
	}
	_exit(left != 0);
}

int early_syslog(struct early *e _unused_)
{
	struct keeper k = { .sockets = { { .fd = -EBADF }, { .fd = -EBADF } } };
	pid_t pid;
	int r = early_mkdirs(JOURNAL_DIR, 0755);

	for (size_t i = 0; i < N_SOCKETS && r == 0; i++) {
		k.last[i] = &k.first[i];
		k.sockets[i] = (struct pollfd){ .fd = listen_at(places[i].path, &k.inodes[i]), .events = POLLIN };
		r = MIN(k.sockets[i].fd, 0);
	}
	if (r == 0 && symlink(places[0].path, places[0].reached_by) < 0 && errno != EEXIST)
		r = neg_errno();
	if (r == 0) {
		pid = fork();
		if (pid == 0)
			run(&k);
		r = pid < 0 ? neg_errno() : 0;
	}
	/* The services can do without: what they send is lost then, as it was before. */
	if (r < 0) {
		log_err(r, "nobody keeps what services send to the log before journald runs");
		remove_places(&k);
	}
	for (size_t i = 0; i < N_SOCKETS; i++)
		close_fdp(&k.sockets[i].fd);
	return 0;
}
