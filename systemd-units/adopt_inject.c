/*
 * Other files behind descriptors of a running process: a batch in one of its threads makes a
 * socket pair, takes our files from it (SCM_RIGHTS) and moves them to the numbers wanted.
 *
 * pidfd_getfd() by the process itself would need rights over us that a service lacks; this
 * way only we need rights over it. Its seccomp filter is suspended by the seizure.
 *
 * The trap: every path ends with the zone unmapped and the registers put back.
 */
#include "systemd-units/adopt.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "remote/remote.h"
#include "task/parts.h"
#include "util/io.h"
#include "util/log.h"

#define N_FILES	2	/* for everything else, for descriptor 2 */

/* The kernel's struct msghdr and what it points at, as it lies in the target. */
struct t_message {
	struct msghdr head;
	struct iovec iov;
	char control[CMSG_SPACE(N_FILES * sizeof(int))] __attribute__((aligned(8)));
	char byte;
};

static int find_code(pid_t pid, uint64_t *ret_start, uint64_t *ret_end)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/maps", pid);
	_cleanup_free_ char *text = NULL;
	char *save = NULL;
	int r;

	if (!path)
		return -ENOMEM;
	r = read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL);
	if (r < 0)
		return r;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strstr(line, " [vdso]") && sscanf(line, "%lx-%lx", ret_start, ret_end) == 2)
			return 0;
	return -ENOENT;
}

/* Sends our stdout and stderr into the target's end of its own socket pair. */
static int send_files(pid_t pid, int t_fd)
{
	_cleanup_close_ int pidfd = -EBADF, fd = -EBADF;
	char control[CMSG_SPACE(N_FILES * sizeof(int))] __attribute__((aligned(8))) = { 0 };
	const int files[N_FILES] = { STDOUT_FILENO, STDERR_FILENO };
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return neg_errno();
	fd = syscall(SYS_pidfd_getfd, pidfd, t_fd, 0);
	if (fd < 0)
		return neg_errno();
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(files));
	memcpy(CMSG_DATA(c), files, sizeof(files));
	return sendmsg(fd, &m, MSG_NOSIGNAL) == 1 ? 0 : neg_errno();
}

static int receive_files(struct batch *b, struct task *t, int t_sock, int ret_fds[N_FILES])
{
	struct t_message *m;
	struct cmsghdr *c;
	uint64_t at;
	int r;

	batch_begin(b, t);
	at = batch_put(b, NULL, sizeof(*m));
	if (!at)
		return -ENOBUFS;
	m = batch_data(b, at);
	m->iov = (struct iovec){ (void *)(at + offsetof(struct t_message, byte)), 1 };
	m->head.msg_iov = (void *)(at + offsetof(struct t_message, iov));
	m->head.msg_iovlen = 1;
	m->head.msg_control = (void *)(at + offsetof(struct t_message, control));
	m->head.msg_controllen = sizeof(m->control);
	batch_call(b, SYS_recvmsg, t_sock, at, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	r = batch_run(b);
	if (r < 0)
		return r;
	m = batch_data(b, at);
	c = (struct cmsghdr *)m->control;
	/* Short when the process may open no more files. */
	if (m->head.msg_controllen < CMSG_LEN(N_FILES * sizeof(int)) ||
	    c->cmsg_len != CMSG_LEN(N_FILES * sizeof(int)) || c->cmsg_type != SCM_RIGHTS)
		return -EMFILE;
	memcpy(ret_fds, CMSG_DATA(c), N_FILES * sizeof(int));
	return 0;
}

static int move_files(struct batch *b, struct task *t, const int files[N_FILES],
		      const int sockets[2], const struct held_fd *fds, size_t n)
{
	batch_begin(b, t);
	for (size_t i = 0; i < n; i++)
		batch_call(b, SYS_dup3, files[fds[i].t_fd == STDERR_FILENO], fds[i].t_fd,
			   fds[i].cloexec ? O_CLOEXEC : 0);
	for (size_t i = 0; i < N_FILES; i++)
		batch_call(b, SYS_close, files[i]);
	for (size_t i = 0; i < 2; i++)
		batch_call(b, SYS_close, sockets[i]);
	return batch_run(b);
}

static int close_sockets(struct batch *b, struct task *t, const int sockets[2])
{
	batch_begin(b, t);
	batch_try(b, SYS_close, sockets[0]);
	batch_try(b, SYS_close, sockets[1]);
	return batch_run(b);
}

static int inject(struct batch *b, struct task *t, pid_t pid, const struct held_fd *fds, size_t n)
{
	int sockets[2], files[N_FILES], r;
	uint64_t at;

	batch_begin(b, t);
	at = batch_put(b, NULL, sizeof(sockets));
	batch_call(b, SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, at);
	r = batch_run(b);
	if (r < 0)
		return r;
	memcpy(sockets, batch_data(b, at), sizeof(sockets));
	r = send_files(pid, sockets[1]);
	if (r == 0)
		r = receive_files(b, t, sockets[0], files);
	if (r < 0) {
		if (close_sockets(b, t, sockets) < 0)
			log_warn("pid %d keeps two sockets of ours", pid);
		return log_err(r, "cannot hand its output to pid %d", pid);
	}
	return move_files(b, t, files, sockets, fds, n);
}

int stdio_inject(struct task *leader, pid_t pid, const struct held_fd *fds, size_t n)
{
	_cleanup_free_ struct batch *b = malloc(sizeof(*b));
	uint64_t start, end;
	int r, s;

	if (!b)
		return -ENOMEM;
	r = find_code(pid, &start, &end);
	if (r < 0)
		return log_err(r, "cannot find pid %d's vDSO", pid);
	/* Anything that runs in it would swallow the abort of a restartable sequence. */
	r = rseq_leave_critical_section(leader, NULL);
	if (r < 0)
		return log_err(r, "cannot leave pid %d's restartable sequence", pid);
	r = remote_map_private(leader->remote, leader, start, end);
	if (r == 0)
		r = inject(b, leader, pid, fds, n);
	s = remote_unmap(leader->remote, leader);
	if (s < 0)
		log_err(s, "cannot unmap the call zone in pid %d", pid);
	s = task_put_regs(leader);
	if (s < 0)
		log_err(s, "cannot put back the registers of pid %d", pid);
	return r < 0 ? r : s;
}
