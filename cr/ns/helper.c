/*
 * A child of the engine that sits in other namespaces for a moment. The engine itself never
 * leaves its own, so an error anywhere needs no way back.
 *
 * The child dies with the engine and holds nothing that outlives it but what was taken from it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "ns/state.h"

static void helper_main(ns_helper_fn fn, void *arg, int out_fd, int release_fd)
{
	struct ns_reply reply = { 0 };
	char byte;
	int r;

	/* The engine may have died before this took effect: then release_fd is at its end. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = fn(arg, &reply);
	if (write_full(out_fd, &r, sizeof(r)) < 0)
		_exit(1);
	if (r >= 0 && reply.bytes && write_full(out_fd, reply.data, reply.bytes) < 0)
		_exit(1);
	while (read(release_fd, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

int ns_helper_start(struct ns_helper *h, ns_helper_fn fn, void *arg)
{
	int out[2], release[2], r, result;

	*h = (struct ns_helper)NS_HELPER_INIT;
	if (pipe2(out, O_CLOEXEC) < 0)
		return neg_errno();
	h->out_fd = out[0];
	if (pipe2(release, O_CLOEXEC) < 0) {
		r = neg_errno();
		close(out[1]);
		ns_helper_end(h);
		return r;
	}
	h->release_fd = release[1];
	h->pid = fork();
	if (!h->pid) {
		close(out[0]);
		close(release[1]);
		helper_main(fn, arg, out[1], release[0]);
	}
	r = h->pid < 0 ? neg_errno() : 0;
	close(out[1]);
	close(release[0]);
	if (r >= 0) {
		h->pidfd = (int)syscall(SYS_pidfd_open, h->pid, 0);
		if (h->pidfd < 0)
			r = neg_errno();
	}
	if (r >= 0)
		r = read_full(h->out_fd, &result, sizeof(result));
	if (r < 0 || result < 0) {
		ns_helper_end(h);
		return r < 0 ? r : result;
	}
	return 0;
}

int ns_helper_read(struct ns_helper *h, void *buf, size_t bytes)
{
	return read_full(h->out_fd, buf, bytes);
}

int ns_helper_take_fd(struct ns_helper *h, int helper_fd, int *ret_fd)
{
	int fd = (int)syscall(SYS_pidfd_getfd, h->pidfd, helper_fd, 0);

	if (fd < 0)
		return neg_errno();
	*ret_fd = fd;
	return 0;
}

int ns_helper_open(struct ns_helper *h, const char *proc_name, int *ret_fd)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", h->pid, proc_name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return neg_errno();
	*ret_fd = fd;
	return 0;
}

void ns_helper_end(struct ns_helper *h)
{
	close_fdp(&h->out_fd);
	close_fdp(&h->release_fd);
	h->out_fd = h->release_fd = -EBADF;
	if (h->pid > 0) {
		while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	h->pid = -1;
	close_fdp(&h->pidfd);
	h->pidfd = -EBADF;
}
