/*
 * The keeper: holds what tracks a tree's memory from one command to the next.
 *
 * It is a child of the dumping command that stays, in a session of its own, and waits at a socket
 * in the images directory. The next command of the chain (--prev-images-dir) takes over what it
 * has; then, or when no process of the tree is left, it ends. If it is killed the tracking ends:
 * the next dump saves everything.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "cmd/rpc.h"
#include "util/io.h"

#define ANSWER_SECONDS 10

/* However long the directory's path is: through its descriptor. */
static struct sockaddr_un address(int dirfd)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/" KEEPER_SOCKET, dirfd);
	return sa;
}

static int socket_new(int *ret)
{
	*ret = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return *ret < 0 ? neg_errno() : 0;
}

/* Whoever answers could be anyone if the directory is. */
static int peer_is_root(int sock)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return neg_errno();
	return cred.uid == 0 || cred.uid == geteuid() ? 0 : -EPERM;
}

static int take_over(int dirfd, struct cr_track **ret)
{
	const struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	struct sockaddr_un sa = address(dirfd);
	_cleanup_close_ int sock = -EBADF;
	int r = socket_new(&sock);

	if (r >= 0 && setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		r = neg_errno();
	if (r >= 0 && connect(sock, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		r = neg_errno();
	if (r >= 0)
		r = peer_is_root(sock);
	return r < 0 ? r : cr_track_receive(sock, ret);
}

int keeper_ask(const struct cmd_opts *o, struct cr_track **ret)
{
	_cleanup_close_ int parent = -EBADF;
	int r;

	if (!o->cr.parent_dir)
		return cr_track_new(ret);
	parent = openat(o->images_fd, o->cr.parent_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = parent < 0 ? neg_errno() : take_over(parent, ret);
	if (r >= 0)
		return 0;
	log_warn("nobody has tracked memory since %s was made: %s", o->cr.parent_dir, strerror(-r));
	return cr_track_new(ret);
}

/* Waits for the next command, or for the end of the tree (its root). */
static void keep(int listener, int pidfd, const struct cr_track *t)
{
	struct pollfd p[2] = { { .fd = listener, .events = POLLIN },
			       { .fd = pidfd, .events = POLLIN } };

	for (;;) {
		_cleanup_close_ int sock = -EBADF;

		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (p[1].revents)
			return;
		sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (sock >= 0 && peer_is_root(sock) >= 0 && cr_track_send(t, sock) >= 0)
			return;
	}
}

/* What was inherited has no FD_CLOEXEC; all that we have opened does. */
static int close_inherited(void)
{
	_cleanup_closedir_ DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	int fd, flags;

	if (!d)
		return neg_errno();
	while ((e = readdir(d))) {
		flags = parse_int(e->d_name, &fd) < 0 || fd <= STDERR_FILENO ? -1 : fcntl(fd, F_GETFD);
		if (flags >= 0 && !(flags & FD_CLOEXEC))
			close(fd);
	}
	return 0;
}

/* Nothing of the caller's may stay open in it: a pipe's reader would wait for the end. */
static int leave_session(const struct cmd_opts *o)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	prctl(PR_SET_NAME, "cr-track");
	sigemptyset(&none);
	if (null < 0 || setsid() < 0 || chdir("/") < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return neg_errno();
	for (int fd = 0; fd < 3; fd++)
		if (dup2(null, fd) < 0)
			return neg_errno();
	log_init(LOGLEVEL_NONE, -1);
	if (o->log_fd >= 0)
		close(o->log_fd);
	close(o->work_fd);
	if (o->rpc)
		close(o->rpc->sock);
	return close_inherited();
}

static int listen_in(int dirfd, int *ret)
{
	struct sockaddr_un sa = address(dirfd);
	_cleanup_close_ int sock = -EBADF;
	int r = socket_new(&sock);

	if (r < 0)
		return r;
	unlinkat(dirfd, KEEPER_SOCKET, 0);
	if (bind(sock, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    fchmodat(dirfd, KEEPER_SOCKET, 0600, 0) < 0 || listen(sock, 1) < 0)
		return neg_errno();
	*ret = take_fd(&sock);
	return 0;
}

int keeper_start(const struct cmd_opts *o, const struct cr_track *t)
{
	_cleanup_close_ int listener = -EBADF;
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, o->cr.pid, 0);
	pid_t child;
	int r;

	if (pidfd < 0)
		return errno == ESRCH ? 0 : log_err(neg_errno(), "pidfd_open");
	r = listen_in(o->images_fd, &listener);
	if (r < 0)
		return log_err(r, "cannot make %s in the images directory", KEEPER_SOCKET);
	child = fork();
	if (child < 0)
		return log_err(neg_errno(), "fork");
	if (child)
		return 0;
	if (leave_session(o) >= 0)
		keep(listener, pidfd, t);
	unlinkat(o->images_fd, KEEPER_SOCKET, 0);
	_exit(0);
}
