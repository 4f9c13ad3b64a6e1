/* See child.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "util/child.h"

#define STACK_BYTES	(256u << 10)

struct call {
	int (*fn)(void *arg);
	void *arg;
	int r;
};

static int child_main(void *arg)
{
	struct call *c = arg;

	c->r = c->fn(c->arg);
	return 0;
}

int child_call(int (*fn)(void *arg), void *arg)
{
	_cleanup_free_ char *stack = malloc(STACK_BYTES);
	struct call c = { fn, arg, -EIO };
	pid_t pid;

	if (!stack)
		return -ENOMEM;
	pid = clone(child_main, stack + STACK_BYTES, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &c);
	if (pid < 0)
		return neg_errno();
	while (waitpid(pid, NULL, 0) < 0)
		if (errno != EINTR)
			return neg_errno();
	return c.r;
}

struct call_in_pidns {
	int ns_fd;
	int (*fn)(void *arg);
	void *arg;
};

static int enter_and_call(void *arg)
{
	struct call_in_pidns *c = arg;

	if (setns(c->ns_fd, CLONE_NEWPID) < 0)
		return neg_errno();
	return child_call(c->fn, c->arg);
}

int child_call_in_pidns(int ns_fd, int (*fn)(void *arg), void *arg)
{
	struct call_in_pidns c = { ns_fd, fn, arg };

	return child_call(enter_and_call, &c);
}
