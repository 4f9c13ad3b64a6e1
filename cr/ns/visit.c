/*
 * The engine itself in another ipc or network namespace for a moment: objects in there are seen and
 * made by whoever sits in it, and what the engine clones meanwhile is born there.
 *
 * Only the calling thread moves; threads and children made meanwhile are inside too.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "ns/state.h"

int ns_visit_begin(struct ns_visit *v, int ns_fd, enum ns_type type)
{
	static const int flags[NS_TYPES] = { [NS_IPC] = CLONE_NEWIPC, [NS_NET] = CLONE_NEWNET };
	_cleanup_close_ int home = -EBADF;
	char path[40];

	*v = (struct ns_visit)NS_VISIT_INIT;
	if (ns_fd < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/thread-self/ns/%s", ns_names[type]);
	home = open(path, O_RDONLY | O_CLOEXEC);
	if (home < 0)
		return log_err(neg_errno(), "cannot open %s", path);
	if (setns(ns_fd, flags[type]) < 0)
		return log_err(neg_errno(), "cannot enter the tree's %s namespace", ns_names[type]);
	v->home_fd = take_fd(&home);
	v->type = flags[type];
	return 0;
}

int ns_visit_end(struct ns_visit *v)
{
	int r = 0;

	if (v->home_fd < 0)
		return 0;
	if (setns(v->home_fd, v->type) < 0)
		r = log_err(neg_errno(), "cannot go back to the host's namespace");
	close(v->home_fd);
	v->home_fd = -EBADF;
	return r;
}

int ns_restore_enter(struct restore_ctx *ctx)
{
	struct ns_restore *ns = ctx->ns_state;

	return ns ? ns_visit_begin(&ns->ipc_visit, ns->ipc_fd, NS_IPC) : 0;
}

int ns_restore_leave(struct restore_ctx *ctx)
{
	struct ns_restore *ns = ctx->ns_state;

	return ns ? ns_visit_end(&ns->ipc_visit) : 0;
}
