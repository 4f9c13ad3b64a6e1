/*
 * Phases that run beside the others: the network comes up while the disks do. They have a process
 * of their own, because a driver may hang and because it shall keep what its phases have opened
 * (the network lock) until it is told to end.
 *
 * It has a uevent socket of its own, too: two who wait at one take each other's events.
 */
#include "initramfs/early.h"

#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "util/io.h"
#include "util/log.h"

#define LANE_MARKS_MAX	8

struct early_lane {
	pid_t pid;
	int pidfd, fd;
};

/* Names in the marks are constants of this program: both processes have them at one address. */
struct lane_result {
	size_t n_marks;
	struct early_mark marks[LANE_MARKS_MAX];
	char reason[EARLY_REASON_BYTES];
};

static void __attribute__((noreturn)) run(struct early *e, const struct early_phase *phases, size_t n,
					  int fd)
{
	struct lane_result res = { 0 };
	char byte;

	e->n_marks = 0;
	e->uevent_fd = uevent_open();
	for (size_t i = 0; i < n && !*e->reason; i++)
		early_run_phase(e, &phases[i]);
	res.n_marks = MIN(e->n_marks, (size_t)LANE_MARKS_MAX);
	memcpy(res.marks, e->marks, res.n_marks * sizeof(*res.marks));
	memcpy(res.reason, e->reason, sizeof(res.reason));
	if (send(fd, &res, sizeof(res), MSG_NOSIGNAL) != sizeof(res))
		_exit(2);
	while (recv(fd, &byte, 1, 0) < 0 && errno == EINTR)
		;
	_exit(0);
}

int early_lane_begin(struct early *e, const struct early_phase *phases, size_t n,
		     struct early_lane **ret)
{
	_cleanup_close_ int ours = -EBADF, theirs = -EBADF;
	struct early_lane *l;
	int p[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
		return neg_errno();
	ours = p[0];
	theirs = p[1];
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &l->pidfd, 0, 0);
	if (l->pid < 0) {
		free(l);
		return neg_errno();
	}
	if (l->pid == 0) {
		/* Or it would never see its end. */
		close(take_fd(&ours));
		run(e, phases, n, theirs);
	}
	l->fd = take_fd(&ours);
	*ret = l;
	return 0;
}

int early_lane_join(struct early *e, struct early_lane *l, uint64_t usec)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	struct lane_result res;

	if (poll(&p, 1, (int)(usec / 1000)) <= 0) {
		/* It does not listen: early_lane_end() would ask in vain. */
		syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0);
		return log_fail(-ETIMEDOUT, "not done after %llu s",
				(unsigned long long)usec / 1000000);
	}
	if (recv(l->fd, &res, sizeof(res), 0) != sizeof(res))
		return log_fail(-ECHILD, "the process that does it has crashed or was killed");
	for (size_t i = 0; i < res.n_marks && e->n_marks < EARLY_MARKS_MAX; i++)
		e->marks[e->n_marks++] = res.marks[i];
	return *res.reason ? log_fail(-EIO, "%s", res.reason) : 0;
}

void early_lane_end(struct early_lane *l)
{
	struct pollfd p = { .fd = l->pidfd, .events = POLLIN };

	/* A byte and not just the end: others have copies of our descriptor. */
	if (send(l->fd, "", 1, MSG_NOSIGNAL) != 1)
		log_warn("process %d has ended before: %s", l->pid, strerror(errno));
	close(l->fd);
	if (poll(&p, 1, EARLY_END_MSEC) <= 0) {
		syscall(SYS_pidfd_send_signal, l->pidfd, SIGKILL, NULL, 0);
		log_warn("process %d does not end, going on without it", l->pid);
	} else {
		waitpid(l->pid, NULL, WNOHANG);
	}
	close(l->pidfd);
	free(l);
}
