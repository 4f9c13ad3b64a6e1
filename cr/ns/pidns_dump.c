/*
 * The dump's side of PID namespaces: which one each process is in, and what cannot be made again.
 *
 *   dump     inode numbers of /proc/PID/ns/pid (zombies have it, too) and pid_for_children
 *
 * The tree's root is in ours, or the first process of one right below ours. Others may be in those further
 * down, as long as the first process of each is in the tree: who dumps a part of one would leave
 * the rest behind.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "core/pids.h"
#include "ns/state.h"

/* The namespace is made by its first process: that must be the root, and made from ours. */
static int check_root(struct dump_ctx *ctx, struct dump_process *p)
{
	struct stat st;
	uint64_t parent;
	int r = ns_related(p->proc_fd, "pid", NS_GET_PARENT, &parent);

	if (r < 0 || stat("/proc/self/ns/pid", &st) < 0)
		return log_err(r < 0 ? r : neg_errno(), "cannot ask for the parent of its PID namespace");
	if (parent != st.st_ino || ctx->pid_level != 1)
		return log_obstacle("dump it from inside the namespace that holds it",
				    "its PID namespace is nested in another one");
	if (p->pid_virtual == 1)
		return 0;
	return log_obstacle("dump the whole namespace, from its first process on",
			    "it is process %u of a PID namespace of its own, not the first",
			    p->pid_virtual);
}

/* One that the root is not in. Parents come first, so whose it is nested in is known. */
static int check_nested(struct dump_ctx *ctx, struct dump_process *p, bool is_new)
{
	const char *whole = "dump the whole namespace, from its first process on";
	struct pid_place place;
	uint64_t parent = 0;
	int r = pids_place(p, &place);

	if (r < 0)
		return r;
	if (place.levels <= ctx->pid_level + 1)
		return log_obstacle(whole, "its PID namespace is not below that of the tree's root");
	if (!is_new)
		return 0;
	if (!place.first)
		return log_obstacle(whole, "the first process of its PID namespace is not in the tree, or was found after it");
	if (ns_dump_own_id(ctx, NS_USER))
		return log_obstacle("do without PrivateUsers= and the like",
				    "it has a PID namespace nested in that of the root, in a user namespace");
	if (ns_related(p->proc_fd, "pid", NS_GET_PARENT, &parent) < 0 ||
	    !map_get(&ctx->ns_by_key, ns_key(NS_PID, parent)))
		return log_obstacle(whole, "its PID namespace is nested in one that no process of the tree is in");
	return 0;
}

int pidns_dump_process(struct dump_ctx *ctx, struct dump_process *p)
{
	uint64_t ours, root;
	struct ns_seen *s;
	bool is_new;
	int r;

	if (p == ctx->procs[0])
		return ctx->pid_level ? check_root(ctx, p) : 0;
	if (p->life != TASK_DEAD && p->ids->pid_ns_id == ctx->procs[0]->ids->pid_ns_id)
		return 0;
	r = ns_inode(p->proc_fd, "pid", &ours);
	if (r >= 0)
		r = ns_inode(ctx->procs[0]->proc_fd, "pid", &root);
	if (r >= 0 && ours != root)
		r = ns_lookup(ctx, NS_PID, ours, p, &s, &is_new);
	if (r < 0)
		return log_err(r, "cannot read /proc/PID/ns/pid");
	if (ours == root)
		return 0;
	is_new |= s->p == p;
	p->pid_ns = s->id;
	ctx->nested_pids = true;
	return check_nested(ctx, p, is_new);
}

/* A namespace that lives and whose first process is in the tree. */
static bool can_bear_into(const struct ns_seen *s)
{
	return s && s->p && s->p->life != TASK_DEAD;
}

static int check_thread(struct dump_ctx *ctx, struct dump_process *p, pid_t tid)
{
	static const char remedy[] = "dump the namespace alone, from its first process on, or end it before";
	struct stat now, later = { 0 };
	const struct ns_seen *s;
	char path[48];

	snprintf(path, sizeof(path), "task/%d/ns/pid", tid);
	if (fstatat(p->proc_fd, path, &now, 0) < 0)
		return log_err(neg_errno(), "cannot read /proc/%d/%s", p->pid, path);
	snprintf(path, sizeof(path), "task/%d/ns/pid_for_children", tid);
	/* ENOENT: it has none yet. */
	if (fstatat(p->proc_fd, path, &later, 0) < 0 && errno != ENOENT)
		return log_err(neg_errno(), "cannot read /proc/%d/%s", p->pid, path);
	if (now.st_ino == later.st_ino)
		return 0;
	s = map_get(&ctx->ns_by_key, ns_key(NS_PID, later.st_ino));
	if (tid != p->pid || !can_bear_into(s))
		return log_obstacle(remedy,
				    "process %d (%s): children of its thread %d get another PID namespace than it has itself, %s",
				    p->pid, p->comm, tid, tid == p->pid ?
				    "whose first process is not in the tree, or has ended" :
				    "and those of its other threads do not");
	p->pid_ns_for_children = s->id;
	return 0;
}

/* As unshare(1) --pid --fork stays. Each thread may have its own. */
static int check_children(struct dump_ctx *ctx, struct dump_process *p)
{
	int refused = 0;

	for (size_t i = 0; i < p->n_threads; i++) {
		int r = p->threads[i].shares_ns ? 0 : check_thread(ctx, p, p->threads[i].task.tid);

		refused = r < 0 ? r : refused;
	}
	return refused;
}

int ns_dump_check_pidns(struct dump_ctx *ctx)
{
	int refused = 0;

	for (size_t i = 0; i < ctx->n_procs; i++) {
		int r = ctx->procs[i]->life == TASK_DEAD ? 0 : check_children(ctx, ctx->procs[i]);

		if (r < 0 && r != -EOPNOTSUPP)
			return r;
		refused = r < 0 ? r : refused;
	}
	return refused;
}
