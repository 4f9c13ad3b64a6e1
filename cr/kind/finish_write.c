/*
 * Writes that the stop has cut short. A blocking write to a pipe, a unix stream or a TCP connection that has
 * written a part and waits for room returns that part when it is interrupted. The kernel repeats nothing then, and
 * a program that takes it for the whole loses the rest.
 *
 *   dump     right after the stop: room is made, the rest is written, and the call returns as if there had been room
 *
 * A socket's buffer is set back afterwards, whatever is queued; a pipe stays larger, for it cannot hold more than
 * fits. The tree need not be restored for any of this: whoever reads gets bytes that the program has sent.
 *
 * Traps: the engine writes to unix sockets in the task's name (SCM_CREDENTIALS), and without a control message, which
 * went with the first part. A pending signal is a reason of its own to return a part, and so is O_NONBLOCK. Calls
 * that read, and those that send several messages or from a file, are left as they are (README, Limits).
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "kind/kinds.h"
#include "kind/sk_common.h"
#include "task/parts.h"
#include "task/regs.h"

#define REST_MAX	(16u << 20)	/* more is not worth the memory */
#define CALL_MAX	0x7ffff000u	/* no call writes more */

struct cut {
	int t_fd, flags;
	struct iovec *iov;		/* addresses of the task; heap */
	size_t n_iov, done, bytes;	/* bytes: that are missing */
	uint8_t *data;			/* those; heap */
};

static void cut_done(struct cut *c)
{
	free(c->iov);
	free(c->data);
}

static int iov_read(struct task *t, uint64_t t_addr, size_t n, struct cut *ret)
{
	ret->iov = n && n <= IOV_MAX ? malloc(n * sizeof(*ret->iov)) : NULL;
	ret->n_iov = n;
	return ret->iov ? remote_read(t, t_addr, ret->iov, n * sizeof(*ret->iov)) : -EINVAL;
}

static int iov_one(uint64_t t_addr, size_t bytes, struct cut *ret)
{
	ret->iov = malloc(sizeof(*ret->iov));
	ret->n_iov = 1;
	if (!ret->iov)
		return -ENOMEM;
	*ret->iov = (struct iovec){ (void *)(uintptr_t)t_addr, bytes };
	return 0;
}

/* What it was asked to write. */
static int cut_read(struct task *t, struct cut *ret)
{
	const struct user_regs_struct *regs = &t->regs;
	struct msghdr m;
	int r;

	ret->t_fd = (int)regs->rdi;
	ret->done = regs->rax;
	switch (regs->orig_rax) {
	case SYS_write:
		return iov_one(regs->rsi, regs->rdx, ret);
	case SYS_sendto:
		ret->flags = (int)regs->r10;
		return iov_one(regs->rsi, regs->rdx, ret);
	case SYS_writev:
		return iov_read(t, regs->rsi, regs->rdx, ret);
	case SYS_sendmsg:
		ret->flags = (int)regs->rdx;
		r = remote_read(t, regs->rsi, &m, sizeof(m));
		return r < 0 ? r : iov_read(t, (uint64_t)(uintptr_t)m.msg_iov, m.msg_iovlen, ret);
	}
	return -EOPNOTSUPP;
}

static int data_read(struct task *t, struct cut *c)
{
	size_t total = 0, skip = c->done, at = 0;

	for (size_t i = 0; i < c->n_iov; i++)
		total += MIN(c->iov[i].iov_len, CALL_MAX - total);
	if (total <= c->done)
		return 0;
	c->bytes = total - c->done;
	c->data = c->bytes <= REST_MAX ? malloc(c->bytes) : NULL;
	if (!c->data)
		return -ENOMEM;
	for (size_t i = 0; at < c->bytes; i++) {
		size_t before = MIN(skip, c->iov[i].iov_len);
		size_t n = MIN(c->iov[i].iov_len - before, c->bytes - at);
		int r = n ? remote_read(t, (uint64_t)(uintptr_t)c->iov[i].iov_base + before, c->data + at, n) : 0;

		if (r < 0)
			return r;
		skip -= before;
		at += n;
	}
	return 0;
}

/* A pipe without readers is told by a signal, too, which is not for us. */
static ssize_t write_quietly(int fd, const void *data, size_t bytes)
{
	sigset_t pipe_signal, before;
	ssize_t n;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
	n = write(fd, data, bytes);
	if (n < 0 && errno == EPIPE)
		sigtimedwait(&pipe_signal, NULL, &(struct timespec){ 0 });
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return n;
}

/* By a file of our own, which does not block. */
static ssize_t finish_pipe(int fd, const struct cut *c)
{
	_cleanup_close_ int own = -EBADF;
	int size = fcntl(fd, F_GETPIPE_SZ);

	if (size < 0 || reopen_fd(fd, O_WRONLY | O_NONBLOCK, &own) < 0 ||
	    fcntl(own, F_SETPIPE_SZ, size + (int)ROUND_UP(c->bytes, (size_t)PAGE_BYTES)) < 0)
		return 0;
	return write_quietly(own, c->data, c->bytes);
}

static ssize_t send_as(int fd, const struct cut *c, const struct ucred *sender)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(*sender))];
	} control = { .h = { .cmsg_len = CMSG_LEN(sizeof(*sender)), .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_CREDENTIALS } };
	struct iovec io = { c->data, c->bytes };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };

	if (sender) {
		memcpy(CMSG_DATA(&control.h), sender, sizeof(*sender));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
	}
	return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL | (c->flags & MSG_MORE));
}

static ssize_t finish_socket(int fd, const struct cut *c, const struct ucred *sender)
{
	struct sk_sort sort;
	int size, lock;
	ssize_t n;

	if (c->flags & ~(MSG_MORE | MSG_NOSIGNAL) || sk_sort_of(fd, &sort) < 0 || sort.type != SOCK_STREAM ||
	    (sort.family != AF_UNIX && sort.proto != IPPROTO_TCP) ||
	    sk_get_int(fd, SOL_SOCKET, SO_SNDBUF, &size) < 0 ||
	    sk_get_int(fd, SOL_SOCKET, SO_BUF_LOCK, &lock) < 0 ||
	    sk_buffers_for(fd, 0, (size_t)size + c->bytes) < 0)
		return 0;
	n = send_as(fd, c, sort.family == AF_UNIX ? sender : NULL);
	if (sk_set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, size / 2) < 0 ||
	    sk_set_int(fd, SOL_SOCKET, SO_BUF_LOCK, lock) < 0)
		log_warn("its socket's send buffer stays larger");
	return n;
}

/* Its own descriptor, and one that waits for room? */
static int file_get(struct dump_process *p, const struct task *t, int t_fd, struct stat *ret_st)
{
	int pidfd = dump_pidfd(p), fd, flags;
	struct stat own;
	char path[64];

	fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, t_fd, 0);
	if (fd < 0)
		return neg_errno();
	flags = fcntl(fd, F_GETFL);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->tid, t_fd);
	if (flags >= 0 && !(flags & (O_NONBLOCK | O_DIRECT)) && stat(path, &own) >= 0 && fstat(fd, ret_st) >= 0 &&
	    own.st_ino == ret_st->st_ino && own.st_dev == ret_st->st_dev)
		return fd;
	close(fd);
	return -ENOENT;
}

static int finish_at(struct dump_process *p, struct dump_thread *th, int fd, mode_t mode, struct cut *c)
{
	const struct proc_status *status;
	int r = data_read(&th->task, c);
	ssize_t n = 0;

	if (!c->bytes)
		return 0;
	if (r >= 0) {
		r = task_status(p->ctx, p, th, &status);
		if (r < 0)
			return r;
		n = S_ISFIFO(mode) ? finish_pipe(fd, c)
				   : finish_socket(fd, c, &(struct ucred){ p->pid, status->uid[0], status->gid[0] });
		n = MAX(n, 0);
	}
	if ((size_t)n < c->bytes)
		log_warn("of %zu bytes that it writes to fd %d it is told that only %zu are written, for it is stopped",
			 c->done + c->bytes, c->t_fd, c->done + (size_t)n);
	if (!n)
		return 0;
	/* At once: an engine that is killed before has it write these again. */
	th->task.regs.rax += (uint64_t)n;
	r = ptrace(PTRACE_SETREGS, th->task.tid, NULL, &th->task.regs) < 0 ? neg_errno() : 0;
	return r < 0 ? log_err(r, "cannot tell it how much is written") : 0;
}

static int finish(struct dump_process *p, struct dump_thread *th)
{
	_cleanup_(cut_done) struct cut c = { .t_fd = -EBADF };
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	LOG_SCOPE("thread %d", th->task.tid);
	if (restart_is_undisturbed(&th->task) <= 0 || cut_read(&th->task, &c) < 0 || c.flags & MSG_DONTWAIT)
		return 0;
	fd = file_get(p, &th->task, c.t_fd, &st);
	if (fd < 0 || (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)))
		return 0;
	return finish_at(p, th, fd, st.st_mode, &c);
}

static bool has_written(const struct task *t)
{
	switch (t->regs.orig_rax) {
	case SYS_write:
	case SYS_writev:
	case SYS_sendto:
	case SYS_sendmsg:
		return (int64_t)t->regs.rax > 0;
	}
	return false;
}

int finish_writes(struct dump_ctx *ctx _unused_, struct dump_process *p)
{
	int r = 0;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	for (size_t i = 0; r >= 0 && i < p->n_threads; i++) {
		if (!p->threads[i].task.regs_read || !has_written(&p->threads[i].task))
			continue;
		r = p->remote.mem_fd < 0 ? remote_open(&p->remote, p->threads[0].task.tid) : 0;
		if (r >= 0)
			r = finish(p, &p->threads[i]);
	}
	remote_close(&p->remote);
	return r;
}
