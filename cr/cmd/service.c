/*
 * Where requests come from: swrk, a descriptor that a container runtime has left to us, or service, a
 * socket in the filesystem with a process for each connection.
 *
 * Whoever may ask a service run by root to restore images is root. So its socket is 0600, and peers
 * of other users are refused, which CRIU's service leaves to its operator.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "cmd/rpc.h"
#include "util/io.h"

#define BACKLOG 16
#define FAILED 255

/* A connected SOCK_SEQPACKET, and who is at its other end. */
static int session_begin(struct rpc_session *s, int sock, bool swrk)
{
	struct ucred peer;
	socklen_t n = sizeof(int);
	int type;

	if (getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &n) < 0 || type != SOCK_SEQPACKET)
		return log_fail(-EPROTOTYPE, "descriptor %d is not a SOCK_SEQPACKET socket", sock);
	n = sizeof(peer);
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return log_err(neg_errno(), "descriptor %d is not a connected unix socket", sock);
	if (fcntl(sock, F_SETFD, FD_CLOEXEC) < 0)
		return neg_errno();
	*s = (struct rpc_session){ .sock = sock, .peer = peer.pid, .swrk = swrk };
	if (swrk || !peer.uid || peer.uid == geteuid())
		return 0;
	log_fail(-EPERM, "process %d of user %u may not use this service", peer.pid, peer.uid);
	rpc_turn_away(s, -EPERM);
	return -EPERM;
}

int cmd_swrk(struct cmd_opts *o)
{
	struct rpc_session s;
	int fd;

	if (!o->n_words || parse_int(o->words[0], &fd) < 0 || fd < 0) {
		fprintf(stderr, "cr: swrk needs the number of a descriptor\n");
		return 1;
	}
	return session_begin(&s, fd, true) < 0 ? FAILED : rpc_serve(&s);
}

static int listen_at(const char *path, int *ret)
{
	_cleanup_close_ int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t mask;
	int r;

	if (sock < 0)
		return log_err(neg_errno(), "cannot make a socket");
	if (!*path || strlen(path) >= sizeof(sa.sun_path))
		return log_fail(-ENAMETOOLONG, "--address %s: not a path of a socket", path);
	strcpy(sa.sun_path, path);
	/* What an earlier service has left; a living one's clients would go astray. */
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode) &&
	    connect(sock, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno == ECONNREFUSED)
		unlink(path);
	close(take_fd(&sock));
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	r = sock < 0 || bind(sock, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(sock, BACKLOG) < 0 ?
		    neg_errno() : 0;
	umask(mask);
	if (r < 0)
		return log_err(r, "cannot listen at %s", path);
	*ret = take_fd(&sock);
	return 0;
}

/* Only the child returns. Our caller goes on when it is ready, or learns that it never will be. */
static int go_to_background(int *ret_ready)
{
	int p[2];
	pid_t child = pipe2(p, O_CLOEXEC) < 0 ? -1 : fork();
	char c;

	if (child < 0)
		return log_err(neg_errno(), "cannot go to the background");
	if (child) {
		close(p[1]);
		_exit(read(p[0], &c, 1) != 1);
	}
	close(p[0]);
	*ret_ready = p[1];
	return setsid() < 0 ? neg_errno() : 0;
}

/* What went wrong so far was said at the terminal. */
static int leave_terminal(int ready)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return log_err(neg_errno(), "cannot open /dev/null");
	for (int fd = 0; fd < 3; fd++)
		if (dup2(null, fd) < 0)
			return neg_errno();
	return write_full(ready, "", 1);
}

static int tell_ready(struct cmd_opts *o)
{
	int r = o->pidfile ? cmd_write_pidfile(o->pidfile, getpid()) : 0;

	o->pidfile_made = o->pidfile && r >= 0;
	if (r >= 0 && o->status_fd >= 0) {
		r = write_full(o->status_fd, "", 1);
		close(o->status_fd);
	}
	return r < 0 ? r : cmd_notify(o, "status-ready", -1);
}

static int serve_one(int sock)
{
	struct rpc_session s;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGCHLD, SIG_DFL);
	return session_begin(&s, sock, false) < 0 ? FAILED : rpc_serve(&s);
}

static void serve_in_child(int listener, int sock)
{
	pid_t child = fork();

	if (!child) {
		close(listener);
		_exit(serve_one(sock));
	}
	if (child < 0)
		log_err(neg_errno(), "cannot serve a connection: fork");
}

/* Until it is told to end: 0. Who is being served meanwhile has a process of its own. */
static int serve(int listener, int signals)
{
	struct pollfd p[2] = { { .fd = listener, .events = POLLIN }, { .fd = signals, .events = POLLIN } };

	/* Workers are reaped by the kernel; each sets its own way back. */
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		_cleanup_close_ int sock = -EBADF;

		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return log_err(neg_errno(), "poll");
		}
		if (p[1].revents)
			return 0;
		sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (sock >= 0)
			serve_in_child(listener, sock);
		else if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN)
			return log_err(neg_errno(), "accept");
	}
}

/* They stay blocked until they are read. */
static int open_signals(int *ret)
{
	sigset_t set;

	cmd_end_signals(&set);
	*ret = sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -1 : signalfd(-1, &set, SFD_CLOEXEC);
	return *ret < 0 ? log_err(neg_errno(), "signalfd") : 0;
}

static int begin(struct cmd_opts *o)
{
	_cleanup_close_ int ready = -EBADF;
	int r = o->cr.detached ? go_to_background(&ready) : 0;

	if (r >= 0)
		r = tell_ready(o);
	if (r >= 0 && o->cr.detached)
		r = leave_terminal(ready);
	return r;
}

int cmd_service(struct cmd_opts *o)
{
	_cleanup_close_ int listener = -EBADF, signals = -EBADF;
	int r;

	if (cmd_open(o) < 0)
		return 1;
	r = listen_at(o->address, &listener);
	if (r < 0)
		return cmd_failed(o, "service", r);
	r = open_signals(&signals);
	if (r >= 0)
		r = begin(o);
	if (r >= 0)
		r = serve(listener, signals);
	unlink(o->address);
	if (o->pidfile_made)
		unlink(o->pidfile);
	return r < 0 ? cmd_failed(o, "service", r) : 0;
}
