/*
 * An open namespace: /proc/PID/ns/net and the like, a file of nsfs.
 *
 *   dump     inode → the namespace's id in the images; it must be one that a task of the tree
 *            or the dumper is in
 *   restore  one of those that were made for the tree, which its tasks enter later; of those that they are
 *            born into /proc/PID/ns/NAME; our own for the host's
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>

#include "kind/kinds.h"
#include "ns/ns.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static const struct ns_name {
	const char *name;
	uint32_t cflag;
	size_t id, has;			/* in TaskKobjIdsEntry */
} ns_names[] = {
#define NS(n, f, m) { n, f, offsetof(TaskKobjIdsEntry, m), offsetof(TaskKobjIdsEntry, has_##m) }
	NS("pid", CLONE_NEWPID, pid_ns_id),
	NS("net", CLONE_NEWNET, net_ns_id),
	NS("ipc", CLONE_NEWIPC, ipc_ns_id),
	NS("uts", CLONE_NEWUTS, uts_ns_id),
	NS("mnt", CLONE_NEWNS, mnt_ns_id),
	NS("user", CLONE_NEWUSER, user_ns_id),
	NS("cgroup", CLONE_NEWCGROUP, cgroup_ns_id),
	NS("time", CLONE_NEWTIME, time_ns_id),
#undef NS
};

static const struct ns_name *ns_by_link(const char *link)
{
	for (size_t i = 0; i < ARRAY_SIZE(ns_names); i++) {
		size_t n = strlen(ns_names[i].name);

		if (!strncmp(link, ns_names[i].name, n) && !strncmp(link + n, ":[", 2))
			return &ns_names[i];
	}
	return NULL;
}

static const struct ns_name *ns_by_cflag(uint32_t cflag)
{
	for (size_t i = 0; i < ARRAY_SIZE(ns_names); i++)
		if (ns_names[i].cflag == cflag)
			return &ns_names[i];
	return NULL;
}

/* 0: not known. */
static uint32_t ns_id_of(const TaskKobjIdsEntry *ids, const struct ns_name *n)
{
	if (!ids || !*(const protobuf_c_boolean *)((const char *)ids + n->has))
		return 0;
	return *(const uint32_t *)((const char *)ids + n->id);
}

static bool nsfile_match(const struct dump_file *f)
{
	return ns_by_link(f->link) && fs_magic(f->fd) == NSFS_MAGIC;
}

static bool dir_shows(int proc_fd, const struct ns_name *n, const struct stat *st)
{
	char path[32];
	struct stat now;

	snprintf(path, sizeof(path), "ns/%s", n->name);
	return !fstatat(proc_fd, path, &now, 0) && now.st_ino == st->st_ino;
}

static int nsfile_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	NsFileEntry *e = ARENA_MSG(&ctx->arena, NsFileEntry, ns_file_entry);
	const struct ns_name *n = ns_by_link(f->link);

	if (!e || self < 0)
		return log_err(e ? neg_errno() : -ENOMEM, "%s", f->link);
	e->id = f->id;
	e->flags = f->flags;
	e->ns_cflag = n->cflag;
	f->fe->nsf = e;
	if (dir_shows(self, n, &f->st))
		e->ns_id = ns_id_of(ctx->root_ids, n);
	for (size_t i = 0; !e->ns_id && i < ctx->n_procs; i++)
		if (ctx->procs[i]->ids && dir_shows(ctx->procs[i]->proc_fd, n, &f->st))
			e->ns_id = ns_id_of(ctx->procs[i]->ids, n);
	if (!e->ns_id)
		return log_obstacle("close it before", "%s: a namespace that no process of the tree"
				    " is in", f->link);
	return 0;
}

static int nsfile_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const NsFileEntry *e = f->fe->nsf;
	const struct ns_name *n = ns_by_cflag(e->ns_cflag);
	char path[64] = "";
	int fd, r;

	if (!n || !e->ns_id)
		return log_fail(-EBADMSG, "namespace %u of kind %x is unknown", e->ns_id,
				e->ns_cflag);
	r = ns_restore_open(ctx, n->cflag, e->ns_id, (int)(e->flags & O_NONBLOCK), ret_fd);
	if (r != -ENOENT)
		return r < 0 ? log_err(r, "cannot open %s namespace %u", n->name, e->ns_id) : 0;
	if (ns_id_of(ctx->inventory->root_ids, n) == e->ns_id)
		snprintf(path, sizeof(path), "/proc/self/ns/%s", n->name);
	for (size_t i = 0; !path[0] && i < ctx->n_procs; i++)
		if (ctx->procs[i].n_threads && ns_id_of(ctx->procs[i].ids, n) == e->ns_id)
			snprintf(path, sizeof(path), "/proc/%d/ns/%s",
				 ctx->procs[i].threads[0].task.tid, n->name);
	if (!path[0])
		return log_fail(-EBADMSG, "no process of the images is in namespace %u", e->ns_id);
	fd = open(path, O_RDONLY | O_CLOEXEC | (int)(e->flags & O_NONBLOCK));
	if (fd < 0)
		return log_err(neg_errno(), "cannot open %s", path);
	*ret_fd = fd;
	return 0;
}

const struct kind kind_nsfile = {
	.name = "namespace",
	.type = FD_TYPES__NS,
	.match = nsfile_match,
	.dump = nsfile_dump,
	.restore = nsfile_restore,
};
