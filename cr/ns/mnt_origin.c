/*
 * Where a mount of the tree comes from, and whether it can be made again.
 *
 * The host's mount of the same device whose root holds the mount's root gives a host path. Of
 * several the one that was simply inherited (same path here and there) is right, then one that
 * is not covered by another, then the deeper one and of stacked ones the later.
 */
#define _GNU_SOURCE
#include <string.h>

#include "ns/cgroup_state.h"
#include "ns/state.h"

/* What a root is below another mount's root, as path_below(); nsfs roots only equal. */
static const char *root_below(const char *root, const char *of)
{
	if (*of != '/' || *root != '/')
		return strcmp(root, of) ? NULL : "";
	return path_below(root, of);
}

static int better(const struct ns_dump *ns, size_t i, const char *path, const char *mountpoint)
{
	return 2 * !strcmp(path, mountpoint) + ns->host_visible[i];
}

static int find_on_host(struct dump_ctx *ctx, const struct ns_dump *ns, struct dump_mount *d)
{
	int best = -1;

	for (size_t i = 0; i < ns->host.n; i++) {
		const struct mount *h = &ns->host.mounts[i];
		const char *rest;
		char *path;
		int score;

		if (h->dev != d->m->dev || h->deleted)
			continue;
		rest = root_below(d->m->root, h->root);
		if (!rest)
			continue;
		path = path_join(&ctx->arena, h->mountpoint, rest);
		if (!path)
			return -ENOMEM;
		score = better(ns, i, path, d->m->mountpoint);
		if (score < best || (score == best && strlen(h->mountpoint) < strlen(d->host->mountpoint)))
			continue;
		best = score;
		d->origin = ORIGIN_HOST;
		d->host = h;
		d->host_path = path;
	}
	return best >= 0;
}

/*
 * Control groups as a cgroup namespace of the tree's shows them: by a path on the host they would be
 * bound to one group, but the tree may come back in another, and CRIU takes no such binds.
 */
static int find_own_groups(struct dump_ctx *ctx, struct dump_mntns *mnt, struct dump_mount *d)
{
	const char *rest;

	if (strcmp(d->m->fstype, "cgroup2") || !ns_dump_id(ctx, mnt->p, NS_CGROUP))
		return 0;
	if (!mnt->cgroup_root) {
		struct cg_set roots;
		int r = cgroupns_roots(&ctx->arena, mnt->p, &roots);

		if (r < 0)
			return r;
		mnt->cgroup_root = cgroup_path_in(&roots, "");
	}
	rest = mnt->cgroup_root ? path_below(d->m->root, mnt->cgroup_root) : NULL;
	if (!rest)
		return 0;
	d->origin = ORIGIN_OWN;
	d->root = path_join(&ctx->arena, "/", rest);
	return d->root ? 1 : -ENOMEM;
}

/* --external mnt[MOUNTPOINT]:KEY */
static const char *external_key(const struct cr_opts *opts, const char *mountpoint)
{
	size_t n = strlen(mountpoint);

	for (size_t i = 0; i < opts->n_externals; i++) {
		const char *key = opts->externals[i].key;

		if (str_starts(key, "mnt[") && !strncmp(key + 4, mountpoint, n) &&
		    str_starts(key + 4 + n, "]:"))
			return key + 4 + n + 2;
	}
	return NULL;
}

static bool group_is_among(const struct mount_table *t, uint32_t id)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->mounts[i].shared_id == id)
			return true;
	return false;
}

/* Told once: usually it is all of them. */
static int check_shared_with_host(const struct ns_dump *ns, const struct dump_mntns *mnt)
{
	for (size_t i = 0; i < mnt->table.n; i++) {
		const struct mount *m = &mnt->table.mounts[i];

		if (m->shared_id && group_is_among(&ns->host, m->shared_id))
			return log_obstacle("make it a slave in its namespace, as systemd does "
					    "(mount --make-rslave /)",
					    "mount %s and perhaps others share mount events with "
					    "the host both ways", m->mountpoint);
	}
	return 0;
}

static int check_master(const struct ns_dump *ns, const struct mount *m)
{
	if (!m->master_id || group_is_among(&ns->host, m->master_id))
		return 0;
	for (size_t i = 0; i < ns->n_mntns; i++)
		if (group_is_among(&ns->mntns[i].table, m->master_id))
			return log_obstacle("make it private in the namespace",
					    "mount %s follows another mount of the tree",
					    m->mountpoint);
	return 0;
}

/* Each namespace is built apart from the others: what holds data must be in one of them only. */
static int check_one_owner(const struct ns_dump *ns, const struct dump_mntns *mnt,
			   const struct dump_mount *d)
{
	if (d->origin != ORIGIN_OWN || !fs_has_contents(d->m->fstype))
		return 0;
	for (size_t k = 0; &ns->mntns[k] != mnt; k++)
		for (size_t i = 0; i < ns->mntns[k].table.n; i++)
			if (ns->mntns[k].table.mounts[i].dev == d->m->dev)
				return log_obstacle("let all processes of the unit share one mount "
						    "namespace",
						    "the %s at %s is mounted in two mount "
						    "namespaces of the tree", d->m->fstype,
						    d->m->mountpoint);
	return 0;
}

static int check_kind(const struct dump_mount *d)
{
	const struct mount *m = d->m;

	if (m->idmapped)
		return log_obstacle("do without id-mapped mounts for the unit",
				    "mount %s is id-mapped", m->mountpoint);
	if (m->deleted && d->origin != ORIGIN_KEY)
		return log_obstacle("restart the unit, so that it binds what is there now",
				    "mount %s is bound from %s, which has been removed",
				    m->mountpoint, m->root);
	if (d->origin == ORIGIN_OWN && !fs_is_rebuildable(m->fstype))
		return log_obstacle("mount it on the host and bind it, or give it by "
				    "--external mnt[PATH]:NAME",
				    "mount %s is a %s filesystem that the host has not mounted",
				    m->mountpoint, m->fstype);
	return 0;
}

/* Where the whole of the filesystem shows. */
static const struct mount *whole_of(const struct dump_mntns *mnt, const struct mount *m)
{
	for (size_t i = 0; i < mnt->table.n; i++)
		if (mnt->table.mounts[i].dev == m->dev && !strcmp(mnt->table.mounts[i].root, "/"))
			return &mnt->table.mounts[i];
	return NULL;
}

/*
 * A proc filesystem of the tree's own is mounted again inside of a PID namespace: it must have been. Of
 * which one, the first process in it tells. We are outside.
 */
static int find_proc_owner(struct dump_ctx *ctx, const struct dump_mntns *mnt, struct dump_mount *d)
{
	const struct mount *whole = whole_of(mnt, d->m);
	_cleanup_close_ int fd = -EBADF;
	const struct ns_seen *s;
	uint64_t root;
	struct stat st;
	int r;

	if ((!ctx->pid_level && !ctx->nested_pids) || d->origin != ORIGIN_OWN || strcmp(d->m->fstype, "proc"))
		return 0;
	if (!whole)
		return ctx->nested_pids ? log_obstacle("unmount it",
				"mount %s is a part of a proc that does not tell of which PID namespace it is",
				d->m->mountpoint) : 0;
	r = mount_copy(mnt, whole, &fd);
	if (r >= 0)
		r = ns_inode(ctx->procs[0]->proc_fd, "pid", &root);
	if (r >= 0 && fstatat(fd, "1/ns/pid", &st, 0) < 0)
		st.st_ino = 0;
	if (r < 0)
		return log_err(r, "cannot look at mount %s", d->m->mountpoint);
	if (st.st_ino == root)
		return 0;
	s = map_get(&ctx->ns_by_key, ns_key(NS_PID, st.st_ino));
	if (s && s->p)
		d->pid_ns = s->id;
	else if (ctx->pid_level || !s)
		return log_obstacle("unmount it",
				    "mount %s is a proc of the outer PID namespace that only the tree has, or of one that has ended",
				    d->m->mountpoint);
	return 0;
}

int mntns_find_origins(struct dump_ctx *ctx, struct ns_dump *ns, struct dump_mntns *mnt)
{
	int ret = 0;

	mnt->mounts = arena_alloc(&ctx->arena, mnt->table.n * sizeof(*mnt->mounts));
	if (!mnt->mounts)
		return log_err(-ENOMEM, "cannot save mounts");
	for (size_t i = 0; i < mnt->table.n; i++) {
		struct dump_mount *d = &mnt->mounts[i];
		int r;

		d->m = &mnt->table.mounts[i];
		d->origin = ORIGIN_OWN;
		d->root = d->m->root;
		d->key = external_key(ctx->opts, d->m->mountpoint);
		if (d->key) {
			d->origin = ORIGIN_KEY;
		} else {
			r = find_own_groups(ctx, mnt, d);
			if (r == 0)
				r = find_on_host(ctx, ns, d);
			if (r < 0)
				return log_err(r, "cannot save mounts");
		}
		r = check_kind(d);
		if (r < 0)
			ret = r;
		r = check_master(ns, d->m);
		if (r < 0)
			ret = r;
		r = find_proc_owner(ctx, mnt, d);
		if (r < 0)
			ret = r;
		r = check_one_owner(ns, mnt, d);
		if (r < 0)
			ret = r;
	}
	if (mounts_check_terminals(mnt) < 0)
		ret = -EOPNOTSUPP;
	return check_shared_with_host(ns, mnt) < 0 ? -EOPNOTSUPP : ret;
}

static int tell_source(const struct dump_mount *d, ns_host_source_fn fn, void *arg)
{
	struct ns_host_source s = {
		.host_path = d->host_path,
		.mountpoint = d->m->mountpoint,
		.host_mountpoint = d->host->mountpoint,
		.fstype = d->host->fstype,
		.source = d->host->source,
		.options = d->host->options,
		.flags = d->host->flags,
		.sb_flags = d->host->sb_flags,
		.whole_mount = !strcmp(d->host_path, d->host->mountpoint),
		.volatile_fs = fs_is_volatile(d->host->fstype),
	};

	return fn(arg, &s);
}

int ns_list_host_sources(struct dump_ctx *ctx, ns_host_source_fn fn, void *arg)
{
	const struct ns_dump *ns = ctx->ns_state;

	for (size_t k = 0; ns && k < ns->n_mntns; k++) {
		for (size_t i = 0; i < ns->mntns[k].table.n; i++) {
			const struct dump_mount *d = &ns->mntns[k].mounts[i];
			int r = d->origin == ORIGIN_HOST ? tell_source(d, fn, arg) : 0;

			if (r < 0)
				return r;
		}
	}
	return 0;
}
