/*
 * The engine itself in another ipc or network namespace for a moment: objects in there are seen and
 * made by whoever sits in it, and what the engine clones meanwhile is born there. Of a PID namespace
 * only the latter is true.
 *
 * Only the calling thread moves; threads and children made meanwhile are inside too.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "ns/state.h"

int ns_visit_begin(struct ns_visit *v, int ns_fd, enum ns_type type)
{
	static const int flags[NS_TYPES] = { [NS_IPC] = CLONE_NEWIPC, [NS_NET] = CLONE_NEWNET,
					     [NS_PID] = CLONE_NEWPID };
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
	const TaskKobjIdsEntry *ids = ctx->procs[0].ids;
	int r;

	if (!ns)
		return 0;
	r = ns_visit_begin(&ns->ipc_visit, ns_restore_fd(ns, NS_IPC, ns_own_id(ctx->inventory, ids, NS_IPC)), NS_IPC);
	if (r < 0)
		return r;
	r = ns_visit_begin(&ns->net_visit, ns_restore_fd(ns, NS_NET, ns_own_id(ctx->inventory, ids, NS_NET)), NS_NET);
	if (r < 0)
		ns_visit_end(&ns->ipc_visit);
	return r;
}

int ns_restore_leave(struct restore_ctx *ctx)
{
	struct ns_restore *ns = ctx->ns_state;
	int r = ns ? ns_visit_end(&ns->ipc_visit) : 0, net = ns ? ns_visit_end(&ns->net_visit) : 0;

	return r < 0 ? r : net;
}

int ns_restore_home_net(struct restore_ctx *ctx)
{
	const struct ns_restore *ns = ctx->ns_state;

	return ns->net_visit.home_fd;
}

static uint32_t socket_ns_id(const FileEntry *fe)
{
	if (fe->usk)
		return fe->usk->ns_id;
	if (fe->isk)
		return fe->isk->ns_id;
	if (fe->nlsk)
		return fe->nlsk->ns_id;
	return fe->psk ? fe->psk->ns_id : 0;
}

int ns_restore_visit_socket(struct restore_ctx *ctx, const FileEntry *fe, struct ns_visit *v)
{
	const struct ns_restore *ns = ctx->ns_state;
	uint32_t id = socket_ns_id(fe), own;

	*v = (struct ns_visit)NS_VISIT_INIT;
	if (!id || !ns || !ctx->inventory->root_ids)
		return 0;
	own = ns_own_id(ctx->inventory, ctx->procs[0].ids, NS_NET);
	if (id == (own ? own : ctx->inventory->root_ids->net_ns_id))
		return 0;
	if (id != ctx->inventory->root_ids->net_ns_id)
		return log_fail(-EBADMSG, "files.img: file %u is a socket of network namespace %u, which no process is in",
				fe->id, id);
	return ns_visit_begin(v, ns->net_visit.home_fd, NS_NET);
}

int ns_dump_visit_socket(struct dump_ctx *ctx, int fd, struct ns_visit *v, uint32_t *ret_id)
{
	_cleanup_close_ int ns_fd = -EBADF;
	const struct ns_seen *s;
	uint64_t cookie = 0;	/* of a network namespace; nobody else has it. Linux 5.14 */
	socklen_t len = sizeof(cookie);
	struct stat st;

	*v = (struct ns_visit)NS_VISIT_INIT;
	*ret_id = 0;
	/* As most are: without a descriptor of the namespace for each. */
	if (!getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) && cookie && cookie == ctx->own_net.cookie) {
		*ret_id = ctx->own_net.id;
		return 0;
	}
	ns_fd = ioctl(fd, SIOCGSKNS);
	if (ns_fd < 0 && errno == EPERM)
		return log_obstacle("close it before", "a socket of a network namespace that belongs to another user namespace");
	if (ns_fd < 0 || fstat(ns_fd, &st) < 0)
		return log_err(neg_errno(), "cannot ask for the network namespace of a socket");
	s = map_get(&ctx->ns_by_key, ns_key(NS_NET, st.st_ino));
	if (!s)
		return log_obstacle("close it before", "a socket of a network namespace that no process of the tree is in");
	*ret_id = s->id;
	if (s->p)
		return ns_visit_begin(v, ns_fd, NS_NET);
	ctx->own_net = (typeof(ctx->own_net)){ cookie, s->id };
	return 0;
}
