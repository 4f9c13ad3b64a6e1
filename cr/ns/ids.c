/*
 * Which namespaces a task is in, as numbers of the image set: the dumper's own first, then new
 * ones as they are met. A task id equal to the dumper's means "not saved, inherit".
 *
 *   dump     inode numbers of /proc/PID/ns/NAME; ioctl_nsfs(2) for the owner
 *
 * What cannot be rebuilt is told here, by name, before anything else is looked at.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/nsfs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "ns/cgroup_state.h"
#include "ns/state.h"

const char *const ns_names[NS_TYPES] = {
	[NS_PID] = "pid", [NS_NET] = "net", [NS_IPC] = "ipc", [NS_UTS] = "uts",
	[NS_TIME] = "time", [NS_MNT] = "mnt", [NS_USER] = "user", [NS_CGROUP] = "cgroup",
};

uint32_t *ns_id_field(TaskKobjIdsEntry *ids, enum ns_type type, protobuf_c_boolean **ret_has)
{
	switch (type) {
#define FIELD(t, f)				\
	case t:					\
		*ret_has = &ids->has_##f;	\
		return &ids->f;
	FIELD(NS_PID, pid_ns_id)
	FIELD(NS_NET, net_ns_id)
	FIELD(NS_IPC, ipc_ns_id)
	FIELD(NS_UTS, uts_ns_id)
	FIELD(NS_TIME, time_ns_id)
	FIELD(NS_MNT, mnt_ns_id)
	FIELD(NS_USER, user_ns_id)
	FIELD(NS_CGROUP, cgroup_ns_id)
#undef FIELD
	case NS_TYPES:
		break;
	}
	return NULL;
}

uint32_t ns_own_id(const InventoryEntry *inv, const TaskKobjIdsEntry *ids, enum ns_type type)
{
	protobuf_c_boolean *has;
	uint32_t id, root;

	if (!ids || !inv || !inv->root_ids)
		return 0;
	id = *ns_id_field((TaskKobjIdsEntry *)ids, type, &has);
	if (!*has)
		return 0;
	root = *ns_id_field(inv->root_ids, type, &has);
	return *has && root == id ? 0 : id;
}

int ns_lookup(struct dump_ctx *ctx, enum ns_type type, uint64_t inode,
		     struct dump_process *p, struct ns_seen **ret, bool *ret_new)
{
	uint64_t key = ns_key(type, inode);
	struct ns_seen *s = map_get(&ctx->ns_by_key, key);
	int r;

	*ret_new = !s;
	if (!s) {
		s = ARENA_NEW(&ctx->arena, struct ns_seen);
		if (!s)
			return -ENOMEM;
		*s = (struct ns_seen){ .type = type, .inode = inode, .p = p };
		s->id = (uint32_t)ctx->ns_by_key.n + 1;
		r = map_put(&ctx->ns_by_key, key, s);
		if (r < 0)
			return r;
	}
	*ret = s;
	return 0;
}

int ns_inode(int proc_fd, const char *name, uint64_t *ret)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "ns/%s", name);
	if (fstatat(proc_fd, path, &st, 0) < 0)
		return neg_errno();
	*ret = st.st_ino;
	return 0;
}

/* The parent, whose ids are known, if they have the same by one structure of the kernel: all but two of them. */
static const struct dump_process *ns_sharer(const struct dump_process *p)
{
	const struct dump_process *q = p->parent;

	return q && q->life != TASK_DEAD && q->ids && p->threads[0].shares[SHARE_NS] &&
	       p->threads[0].shares[SHARE_NS] == q->threads[0].shares[SHARE_NS] ? q : NULL;
}

/* All ids of one process; a kernel without a namespace type leaves its id unset. like: see ns_sharer(), or NULL. */
static int fill_ids(struct dump_ctx *ctx, int proc_fd, struct dump_process *p, const struct dump_process *like,
		    TaskKobjIdsEntry *ids, struct ns_seen *ret_new[NS_TYPES])
{
	for (int t = 0; t < NS_TYPES; t++) {
		protobuf_c_boolean *has, *likes;
		struct ns_seen *s;
		uint64_t inode;
		bool is_new;
		int r;

		if (ret_new)
			ret_new[t] = NULL;
		if (like && t != NS_PID && t != NS_USER) {
			*ns_id_field(ids, t, &has) = *ns_id_field(like->ids, t, &likes);
			*has = *likes;
			continue;
		}
		r = ns_inode(proc_fd, ns_names[t], &inode);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return log_err(r, "cannot read /proc/PID/ns/%s", ns_names[t]);
		r = ns_lookup(ctx, t, inode, p, &s, &is_new);
		if (r < 0)
			return log_err(r, "cannot number namespaces");
		*ns_id_field(ids, t, &has) = s->id;
		*has = true;
		if (ret_new && is_new)
			ret_new[t] = s;
	}
	return 0;
}

static int fill_root_ids(struct dump_ctx *ctx)
{
	_cleanup_close_ int fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	TaskKobjIdsEntry *ids = ARENA_MSG(&ctx->arena, TaskKobjIdsEntry, task_kobj_ids_entry);

	if (fd < 0)
		return log_err(neg_errno(), "cannot open /proc/self");
	if (!ids)
		return log_err(-ENOMEM, "cannot number namespaces");
	ids->vm_id = ids->files_id = ids->fs_id = ids->sighand_id = 1;
	ctx->root_ids = ids;
	return fill_ids(ctx, fd, NULL, NULL, ids, NULL);
}

/* The inode number of what a nsfs ioctl gives: owner or parent. */
int ns_related(int proc_fd, const char *name, unsigned long request, uint64_t *ret)
{
	_cleanup_close_ int fd = -EBADF, other = -EBADF;
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "ns/%s", name);
	fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return neg_errno();
	other = ioctl(fd, request);
	if (other < 0 || fstat(other, &st) < 0)
		return neg_errno();
	*ret = st.st_ino;
	return 0;
}

/* Built from outside by root: only what belongs to our own user namespace can be. */
static int check_owner(struct dump_process *p, const struct ns_seen *s)
{
	static const char remedy[] = "run it as a systemd unit without a container around it";
	unsigned long request = s->type == NS_USER ? NS_GET_PARENT : NS_GET_USERNS;
	struct stat st;
	uint64_t owner = 0;
	int r;

	if (stat("/proc/self/ns/user", &st) < 0)
		return log_err(neg_errno(), "cannot read /proc/self/ns/user");
	r = ns_related(p->proc_fd, ns_names[s->type], request, &owner);
	if (r == -EPERM || (r >= 0 && owner != st.st_ino)) {
		if (s->type == NS_USER)
			return log_obstacle(remedy, "its user namespace is nested in another one");
		return log_obstacle(remedy, "its %s namespace belongs to another user namespace",
				    ns_names[s->type]);
	}
	if (r < 0)
		return log_err(r, "cannot ask who owns the %s namespace", ns_names[s->type]);
	return 0;
}

/* 0, or the last error; goes through all types so that `check` sees every obstacle. */
static int check_new(struct dump_ctx *ctx, struct dump_process *p, struct ns_seen *const *fresh)
{
	int ret = 0;

	for (int t = 0; t < NS_TYPES; t++) {
		int r = 0;

		if (!fresh[t])
			continue;
		if (!ns_may_differ(t) && p != ctx->procs[0])
			r = log_obstacle("let the whole unit share one namespace",
					 "its %s namespace differs from that of the tree's root",
					 ns_names[t]);
		else if (t != NS_TIME)
			r = check_owner(p, fresh[t]);
		if (r >= 0 && t == NS_CGROUP)
			r = cgroupns_roots(&ctx->arena, p, &(struct cg_set){ 0 });
		if (r < 0)
			ret = r;
	}
	return ret;
}

/* Ids already known still have to be the root task's (a child that went back to the host's). */
static int check_same_as_root(struct dump_ctx *ctx, struct dump_process *p,
			      struct ns_seen *const *fresh)
{
	int ret = 0;

	if (p == ctx->procs[0])
		return 0;
	for (int t = 0; t < NS_TYPES; t++) {
		protobuf_c_boolean *has;
		uint32_t id;

		if (ns_may_differ(t) || fresh[t])
			continue;
		id = *ns_id_field(ctx->procs[0]->ids, t, &has);
		if (*has && *ns_id_field(p->ids, t, &has) != id)
			ret = log_obstacle("let the whole unit share one namespace",
					   "its %s namespace differs from that of the tree's root",
					   ns_names[t]);
	}
	return ret;
}

/* A task that has prepared a time namespace for its children is between two. */
static int check_time_for_children(struct dump_process *p, const struct dump_process *like)
{
	uint64_t now, later;

	if (like)
		p->time_later = like->time_later;
	else
		p->time_later = ns_inode(p->proc_fd, "time", &now) >= 0 &&
				ns_inode(p->proc_fd, "time_for_children", &later) >= 0 && now != later;
	if (!p->time_later)
		return 0;
	return log_obstacle("let it fork or exec once, then try again",
			    "its children would get another time namespace than it has itself");
}

int ns_dump_ids(struct dump_ctx *ctx, struct dump_process *p)
{
	struct ns_seen *fresh[NS_TYPES];
	const struct dump_process *like;
	int r, ret = 0;

	if (!ctx->root_ids) {
		r = fill_root_ids(ctx);
		if (r < 0)
			return r;
	}
	if (p->life == TASK_DEAD)
		return pidns_dump_process(ctx, p);
	if (!p->ids)
		p->ids = ARENA_MSG(&ctx->arena, TaskKobjIdsEntry, task_kobj_ids_entry);
	if (!p->ids)
		return log_err(-ENOMEM, "cannot number namespaces");
	like = ns_sharer(p);
	r = fill_ids(ctx, p->proc_fd, p, like, p->ids, fresh);
	if (r < 0)
		return r;
	if (p->ids->mnt_ns_id != ctx->root_ids->mnt_ns_id)
		ctx->mntns_dumped = true;
	r = check_new(ctx, p, fresh);
	if (r < 0)
		ret = r;
	r = check_same_as_root(ctx, p, fresh);
	if (r < 0)
		ret = r;
	r = check_time_for_children(p, like);
	if (r < 0)
		ret = r;
	r = pidns_dump_process(ctx, p);
	return r < 0 ? r : ret;
}
