/* The restore's side as the core sees it: prepare, enter, open files, take down. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

#include "ns/state.h"

/* Every mount namespace the tree's tasks name, once, the root task's first. */
static int find_mntns(struct restore_ctx *ctx, struct ns_restore *ns)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		uint32_t id = ns_own_id(ctx->inventory, ctx->procs[i].ids, NS_MNT);
		struct rest_mntns *mnt;
		bool known = !id;

		for (size_t k = 0; k < ns->n_mntns; k++)
			known |= ns->mntns[k].id == id;
		if (known)
			continue;
		mnt = ARENA_PUSH(&ctx->arena, ns->mntns, ns->n_mntns);
		if (!mnt)
			return log_err(-ENOMEM, "cannot restore mount namespaces");
		*mnt = (struct rest_mntns){ .id = id, .p = &ctx->procs[i], .fd = -EBADF };
	}
	return 0;
}

static struct rest_mntns *mntns_by_id(struct restore_ctx *ctx, uint32_t id)
{
	struct ns_restore *ns = ctx->ns_state;

	for (size_t i = 0; ns && i < ns->n_mntns; i++)
		if (ns->mntns[i].id == id)
			return &ns->mntns[i];
	return NULL;
}

/* A tree without any of its own still gets its clocks, if asked for. */
static int build_time(struct restore_ctx *ctx, const TaskKobjIdsEntry *ids)
{
	uint32_t id = ns_own_id(ctx->inventory, ids, NS_TIME);

	return id || ctx->opts->time_namespace ? timens_build(ctx, id) : 0;
}

/* Made first: filesystems of theirs are mounted from inside. */
static int prepare_visited(struct restore_ctx *ctx)
{
	uint32_t ipc = ns_own_id(ctx->inventory, ctx->procs[0].ids, NS_IPC);
	uint32_t net = ns_own_id(ctx->inventory, ctx->procs[0].ids, NS_NET);
	int r = ns_restore_make_all(ctx, NS_IPC, ipcns_make);

	if (r >= 0)
		r = ns_restore_make_all(ctx, NS_NET, netns_make);
	if (r >= 0)
		r = ns_restore_enter(ctx);
	if (r >= 0 && ipc)
		r = ipcns_restore(ctx, ipc);
	return r >= 0 && net ? netns_restore(ctx, net) : r;
}

int ns_restore_mounts(struct restore_ctx *ctx)
{
	struct ns_restore *ns = ctx->ns_state;
	int r = find_mntns(ctx, ns);

	/* All of them before the first is built: pointers into the table must last. */
	for (size_t i = 0; r >= 0 && i < ns->n_mntns; i++)
		r = mntns_read_image(ctx, &ns->mntns[i]);
	for (size_t i = 0; r >= 0 && i < ns->n_mntns; i++)
		r = mntns_build(ctx, &ns->mntns[i]);
	if (r >= 0)
		r = ns_restore_make_all(ctx, NS_UTS, utsns_make);
	return r >= 0 && ns->userns ? userns_build(ns) : r;
}

static int prepare(struct restore_ctx *ctx)
{
	const TaskKobjIdsEntry *ids = ctx->procs[0].ids;
	uint32_t user = ns_own_id(ctx->inventory, ids, NS_USER);
	int r = ns_restore_check_ids(ctx), left;

	if (r >= 0 && user)	/* first: owners of files in tmpfs images are its ids */
		r = userns_read_image(ctx, user);
	if (r >= 0)
		r = prepare_visited(ctx);
	left = ns_restore_leave(ctx);
	if (r >= 0)
		r = left;
	if (r >= 0)
		r = ns_restore_make_all(ctx, NS_CGROUP, cgroupns_make);
	return r < 0 ? r : build_time(ctx, ids);
}

int ns_restore_prepare(struct restore_ctx *ctx)
{
	struct ns_restore *ns = ARENA_NEW(&ctx->arena, struct ns_restore);
	int r;

	if (!ns)
		return log_err(-ENOMEM, "cannot restore namespaces");
	*ns = (struct ns_restore){ .user_fd = -EBADF, .pid_fd = -EBADF,
				   .ipc_visit = NS_VISIT_INIT, .net_visit = NS_VISIT_INIT, .time_fd = -EBADF,
				   .host_mnt_fd = -EBADF, .host_root_fd = -EBADF,
				   .host_cwd_fd = -EBADF };
	ctx->ns_state = ns;
	r = prepare(ctx);
	if (r < 0)
		ns_restore_done(ctx);
	return r;
}

void ns_restore_done(struct restore_ctx *ctx)
{
	struct ns_restore *ns = ctx->ns_state;

	if (!ns)
		return;
	if (ns->host_mnt_fd >= 0 && ns_leave_mnt(ctx) < 0)
		log_warn("still in the tree's mount namespace");
	for (size_t k = 0; k < ns->n_mntns; k++) {
		for (size_t i = 0; i < ns->mntns[k].n; i++)
			close_fdp(&ns->mntns[k].mounts[i].fd);
		close_fdp(&ns->mntns[k].fd);
	}
	close_fdp(&ns->user_fd);
	ns_restore_made_done(ns);
	close_fdp(&ns->time_fd);
	close_fdp(&ns->pid_fd);
	pidns_restore_done(ns);
	map_done(&ns->mount_by_id);
	ctx->ns_state = NULL;
}

void ns_restore_enter_time_call(struct restore_ctx *ctx, struct batch *b)
{
	const struct ns_restore *ns = ctx->ns_state;

	if (ns && ns->time_fd >= 0)
		batch_call(b, SYS_setns, ns->time_fd, CLONE_NEWTIME);
}

/* Supplementary groups, while we may: outside ids. */
static int add_setgroups(struct restore_ctx *ctx, struct restore_process *p, struct batch *b)
{
	const CredsEntry *creds = NULL;
	uint32_t groups[65536 / 4];
	size_t n = 0;

	if (p->core && p->core->thread_core)
		creds = p->core->thread_core->creds;
	if (creds)
		n = creds->n_groups;
	if (n > ARRAY_SIZE(groups))
		return log_fail(-EBADMSG, "core: %zu supplementary groups", n);
	for (size_t i = 0; i < n; i++)
		groups[i] = ns_restore_gid(ctx, creds->groups[i]);
	batch_call(b, SYS_setgroups, n, n ? batch_put(b, groups, n * sizeof(*groups)) : 0);
	return 0;
}

/* All are born in ours. */
static int own_fd(struct restore_ctx *ctx, const struct restore_process *p, enum ns_type type)
{
	return ns_restore_fd(ctx->ns_state, type, ns_own_id(ctx->inventory, p->ids, type));
}

int ns_restore_enter_calls(struct restore_ctx *ctx, struct restore_process *p, struct batch *b)
{
	struct ns_restore *ns = ctx->ns_state;
	uint32_t id = ns_own_id(ctx->inventory, p->ids, NS_MNT);
	struct rest_mntns *mnt = id ? mntns_by_id(ctx, id) : NULL;
	/* The user namespace last: inside it the others are not ours any more. */
	const struct {
		int fd, type;
	} todo[] = {
		{ mnt ? mnt->fd : -1, CLONE_NEWNS },
		{ own_fd(ctx, p, NS_UTS), CLONE_NEWUTS },
		{ own_fd(ctx, p, NS_CGROUP), CLONE_NEWCGROUP },
		{ ns && p->ids ? ns->user_fd : -1, CLONE_NEWUSER },
	};
	int calls[ARRAY_SIZE(todo)], r;
	int64_t t_fds[ARRAY_SIZE(todo)];
	size_t n = 0;

	if (id && !mnt)
		return log_fail(-EBADMSG, "task %u: no mount namespace %u", p->pst->pid, id);
	for (size_t i = 0; i < ARRAY_SIZE(todo); i++)
		if (todo[i].fd >= 0) {
			calls[i] = batch_call(b, SYS_pidfd_getfd, ctx->pidfd_t_fd, todo[i].fd, 0);
			n++;
		}
	if (!n)
		return 0;
	/* The numbers are needed twice, so they make a round. */
	r = batch_run(b);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(todo); i++)
		t_fds[i] = todo[i].fd >= 0 ? batch_ret(b, calls[i]) : -1;
	batch_begin(b, b->task);
	if (ns->user_fd >= 0) {
		r = add_setgroups(ctx, p, b);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(todo); i++) {
		if (t_fds[i] < 0)
			continue;
		batch_call(b, SYS_setns, t_fds[i], todo[i].type);
		batch_call(b, SYS_close, t_fds[i]);
	}
	return 0;
}

bool ns_restore_any(const struct restore_ctx *ctx)
{
	for (enum ns_type t = 0; t < NS_TYPES; t++)
		if (ns_own_id(ctx->inventory, ctx->procs[0].ids, t))
			return true;
	return false;
}

static int open_in_root(const struct rest_mntns *mnt, const char *path, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC),
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS };
	int fd = (int)syscall(SYS_openat2, mnt->mounts[0].fd, path, &how, sizeof(how));

	return fd < 0 ? neg_errno() : fd;
}

int ns_open_path(struct restore_ctx *ctx, const char *path, int mnt_id, int flags)
{
	struct ns_restore *ns = ctx->ns_state;
	const struct rest_mount *m = NULL;
	struct open_how how;
	const char *rel;
	int fd;

	if (ns && mnt_id > 0)
		m = map_get(&ns->mount_by_id, (uint64_t)mnt_id);
	if (m) {
		if (m->skipped)
			return -ENXIO;
		rel = path_is_normal(path) ? path_below(path, m->e->mountpoint) : NULL;
		return rel ? open_on_mount(m->fd, rel, flags) : -EBADMSG;
	}
	if (ns && mnt_id <= 0) {
		const struct rest_mntns *mnt = NULL;
		uint32_t id = ns_own_id(ctx->inventory, ctx->procs[0].ids, NS_MNT);

		if (id)
			mnt = mntns_by_id(ctx, id);
		if (mnt)
			return open_in_root(mnt, path, flags);
	}
	how = (struct open_how){ .flags = (uint64_t)(flags | O_CLOEXEC),
				 .resolve = RESOLVE_NO_SYMLINKS };
	fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
	return fd < 0 ? neg_errno() : fd;
}

int ns_enter_mnt(struct restore_ctx *ctx, uint32_t ns_id)
{
	struct ns_restore *ns = ctx->ns_state;
	struct rest_mntns *mnt;

	if (!ns_id)
		ns_id = ns_own_id(ctx->inventory, ctx->procs[0].ids, NS_MNT);
	mnt = mntns_by_id(ctx, ns_id);
	if (!ns_id || !mnt)
		return 0;
	if (ns->host_mnt_fd >= 0)
		return log_fail(-EBUSY, "already in a mount namespace of the tree");
	ns->host_mnt_fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	ns->host_root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	ns->host_cwd_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* setns wants a root and cwd that no other thread shares. */
	if (ns->host_mnt_fd < 0 || ns->host_root_fd < 0 || ns->host_cwd_fd < 0 ||
	    unshare(CLONE_FS) < 0 || setns(mnt->fd, CLONE_NEWNS) < 0) {
		int r = log_err(neg_errno(), "cannot enter the tree's mount namespace");

		close_fdp(&ns->host_mnt_fd);
		close_fdp(&ns->host_root_fd);
		close_fdp(&ns->host_cwd_fd);
		ns->host_mnt_fd = ns->host_root_fd = ns->host_cwd_fd = -EBADF;
		return r;
	}
	return 0;
}

int ns_leave_mnt(struct restore_ctx *ctx)
{
	struct ns_restore *ns = ctx->ns_state;
	int r = 0;

	if (!ns || ns->host_mnt_fd < 0)
		return 0;
	if (setns(ns->host_mnt_fd, CLONE_NEWNS) < 0 || fchdir(ns->host_root_fd) < 0 ||
	    chroot(".") < 0 || fchdir(ns->host_cwd_fd) < 0)
		r = log_err(neg_errno(), "cannot go back to the host's mount namespace");
	close_fdp(&ns->host_mnt_fd);
	close_fdp(&ns->host_root_fd);
	close_fdp(&ns->host_cwd_fd);
	ns->host_mnt_fd = ns->host_root_fd = ns->host_cwd_fd = -EBADF;
	return r;
}
