/*
 * mountpoints-N.img and tmpfs-dev-D.tar.gz.img: the mounts of one namespace and what is in its
 * own memory filesystems.
 */
#define _GNU_SOURCE
#include <string.h>

#include "ns/state.h"
#include "ns/tar.h"

static bool is_root(const struct dump_mntns *mnt, const struct mount *m)
{
	for (size_t i = 0; i < mnt->table.n; i++)
		if (mnt->table.mounts[i].id == m->parent_id)
			return false;
	return true;
}

static int fill_entry(struct dump_ctx *ctx, const struct dump_mntns *mnt,
		      const struct dump_mount *d, MntEntry *e)
{
	const struct mount *m = d->m;

	mnt_entry__init(e);
	e->fstype = fs_to_code(m->fstype);
	if (e->fstype == FSTYPE__AUTO) {
		e->fsname = arena_strdup(&ctx->arena, m->fstype);
		if (!e->fsname)
			return -ENOMEM;
	}
	e->mnt_id = (uint32_t)m->id;
	e->parent_mnt_id = (uint32_t)m->parent_id;
	e->root_dev = m->dev;
	e->flags = m->flags;
	e->has_sb_flags = true;
	e->sb_flags = m->sb_flags;
	e->root = (char *)d->root;
	e->mountpoint = (char *)m->mountpoint;
	e->source = (char *)m->source;
	e->options = (char *)m->options;
	e->has_shared_id = e->has_master_id = true;
	e->shared_id = m->shared_id;
	e->master_id = m->master_id;
	e->has_pid_ns_id = d->pid_ns;
	e->pid_ns_id = d->pid_ns;
	/* As in CRIU, which takes no key here, --root of the restore says where it is. */
	if (ctx->opts->root && is_root(mnt, m)) {
		e->fstype = FSTYPE__UNSUPPORTED;
		e->fsname = NULL;
	} else if (d->origin == ORIGIN_HOST) {
		e->ext_key = (char *)EXT_KEY_AUTO;
		e->source = (char *)d->host_path;
		e->host_mountpoint = (char *)d->host->mountpoint;
	} else if (d->origin == ORIGIN_KEY) {
		e->ext_key = (char *)d->key;
	}
	return 0;
}

static int write_image(void *arg, const void *p, size_t bytes)
{
	return image_put_raw(arg, p, bytes);
}

static uint32_t map_uid(void *arg, uint32_t id)
{
	return dump_uid(arg, id);
}

static uint32_t map_gid(void *arg, uint32_t id)
{
	return dump_gid(arg, id);
}

/* The part of a filesystem that one mount shows, into the archive, under its path there. */
static int add_contents(const struct dump_mntns *mnt, const struct mount *m,
			struct tar_writer *tar)
{
	_cleanup_close_ int fd = -EBADF;
	int r = mount_copy(mnt, m, &fd);

	if (r < 0)
		return log_err(r, "cannot reach the %s at %s", m->fstype, m->mountpoint);
	r = tar_add_tree(tar, fd, m->root);
	if (r < 0)
		return log_err(r, "cannot save the contents of the %s at %s (%s)", m->fstype,
			       m->mountpoint, tar_writer_path(tar));
	return 0;
}

/* Another mount of the same filesystem shows all of what m does, and comes before it. */
static bool is_shown_before(const struct dump_mntns *mnt, size_t at)
{
	const struct mount *m = mnt->mounts[at].m;

	for (size_t i = 0; i < mnt->table.n; i++) {
		const struct mount *o = &mnt->table.mounts[i];

		if (i == at || o->dev != m->dev || !path_below(m->root, o->root))
			continue;
		if (strcmp(o->root, m->root) || i < at)
			return true;
	}
	return false;
}

static int write_contents(struct dump_ctx *ctx, const struct dump_mntns *mnt, uint32_t dev)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	struct tar_ids ids = { .uid = map_uid, .gid = map_gid, .arg = ctx };
	struct tar_writer *tar;
	int r = image_create(ctx->store, &image_tmpfs_dev, &w, dev);

	if (r < 0)
		return r;
	r = tar_writer_new(write_image, w, &ids, TAR_FAST, &tar);
	if (r < 0)
		return log_err(r, "cannot save the contents of a tmpfs");
	for (size_t i = 0; i < mnt->table.n; i++) {
		if (mnt->mounts[i].m->dev != dev || is_shown_before(mnt, i))
			continue;
		r = add_contents(mnt, mnt->mounts[i].m, tar);
		if (r < 0) {
			tar_writer_free(tar);
			return r;
		}
	}
	r = tar_writer_finish(tar);
	tar_writer_free(tar);
	if (r < 0)
		return r;
	return image_close(take_ptr(w));
}

static bool dev_seen_before(const struct ns_dump *ns, const struct dump_mntns *mnt, size_t at)
{
	uint32_t dev = mnt->mounts[at].m->dev;

	for (size_t k = 0; k < ns->n_mntns; k++) {
		const struct dump_mntns *other = &ns->mntns[k];
		size_t end = other == mnt ? at : other->table.n;

		for (size_t i = 0; i < end; i++)
			if (other->mounts[i].m->dev == dev)
				return true;
		if (other == mnt)
			break;
	}
	return false;
}

int mntns_write(struct dump_ctx *ctx, struct dump_mntns *mnt)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r = image_create(ctx->store, &image_mountpoints, &w, mnt->id);

	if (r < 0)
		return r;
	for (size_t i = 0; i < mnt->table.n; i++) {
		MntEntry e;

		r = fill_entry(ctx, mnt, &mnt->mounts[i], &e);
		if (r < 0)
			return log_err(r, "cannot save mounts");
		r = image_put(w, &e.base);
		if (r < 0)
			return r;
	}
	r = image_close(take_ptr(w));
	if (r < 0)
		return r;
	for (size_t i = 0; i < mnt->table.n; i++) {
		const struct dump_mount *d = &mnt->mounts[i];

		if (d->origin != ORIGIN_OWN || !fs_has_contents(d->m->fstype) ||
		    dev_seen_before(ctx->ns_state, mnt, i))
			continue;
		r = write_contents(ctx, mnt, d->m->dev);
		if (r < 0)
			return r;
	}
	return 0;
}
