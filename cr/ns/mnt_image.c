/*
 * mountpoints-N.img read and checked: a tree with one root, every path normal and below its
 * parent's. Sorted for building: parents first, of siblings those with longer paths first, so
 * that a mount which will be hidden under its sibling is in place before it is covered.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <string.h>

#include "ns/state.h"

static int read_entries(struct restore_ctx *ctx, struct rest_mntns *mnt)
{
	_cleanup_image_reader_ struct image_reader rd;
	int r = image_open(ctx->store, &image_mountpoints, &rd, mnt->id);

	if (r < 0)
		return log_err(r, "cannot open mountpoints-%u.img", mnt->id);
	for (;;) {
		struct rest_mount *m;
		MntEntry *e;

		r = image_get(&rd, &ctx->arena, mnt_entry, &e);
		if (r <= 0)
			return r;
		if (mnt->n >= MOUNTS_MAX)
			return log_fail(-E2BIG, "mountpoints-%u.img: more than %u mounts", mnt->id,
					MOUNTS_MAX);
		m = ARENA_PUSH(&ctx->arena, mnt->mounts, mnt->n);
		if (!m)
			return log_err(-ENOMEM, "cannot read mounts");
		*m = (struct rest_mount){ .e = e, .fd = -EBADF };
	}
}

/* --external mnt[KEY]:PATH */
static const char *external_path(const struct cr_opts *opts, const char *key)
{
	size_t n = strlen(key);

	for (size_t i = 0; i < opts->n_externals; i++) {
		const char *x = opts->externals[i].key;

		if (str_starts(x, "mnt[") && !strncmp(x + 4, key, n) &&
		    str_starts(x + 4 + n, "]:/"))
			return x + 4 + n + 2;
	}
	return NULL;
}

static int find_origin(struct restore_ctx *ctx, struct rest_mount *m)
{
	const MntEntry *e = m->e;

	m->fstype = fs_from_entry(e);
	if (!m->fstype || strlen(m->fstype) > NAME_MAX)
		return log_fail(-EBADMSG, "mount %s: unknown filesystem type %u", e->mountpoint,
				e->fstype);
	if (!m->parent && ctx->opts->root) {
		m->origin = ORIGIN_KEY;
		m->host_path = ctx->opts->root;
		if (!path_is_normal(m->host_path))
			return log_fail(-EINVAL, "--root %s: not an absolute plain path",
					m->host_path);
	} else if (e->ext_key && !strcmp(e->ext_key, EXT_KEY_AUTO)) {
		m->origin = ORIGIN_HOST;
		m->host_path = e->source;
	} else if (e->ext_key && *e->ext_key) {
		m->origin = ORIGIN_KEY;
		m->host_path = external_path(ctx->opts, e->ext_key);
		if (!m->host_path)
			return log_fail(-EINVAL, "mount %s is external: give --external "
					"'mnt[%s]:PATH'", e->mountpoint, e->ext_key);
	} else {
		m->origin = ORIGIN_OWN;
		if (!m->parent && !fs_is_rebuildable(m->fstype))
			return log_fail(-EINVAL, "the tree's root is not in the images: give its "
					"directory by --root");
		if (!fs_is_rebuildable(m->fstype))
			return log_fail(-EOPNOTSUPP, "mount %s: a %s filesystem of its own cannot "
					"be made again", e->mountpoint, m->fstype);
	}
	if (m->host_path && !path_is_normal(m->host_path))
		return log_fail(-EBADMSG, "mount %s: bad source %s", e->mountpoint, m->host_path);
	return 0;
}

static int check_entry(struct restore_ctx *ctx, struct rest_mntns *mnt, struct rest_mount *m)
{
	const MntEntry *e = m->e;
	int r;

	if (!path_is_normal(e->mountpoint))
		return log_fail(-EBADMSG, "mountpoints-%u.img: bad mount point '%.200s'", mnt->id,
				e->mountpoint);
	/* nsfs has roots like "net:[4026531833]". */
	if (*e->root == '/' ? !path_is_normal(e->root) : strchr(e->root, '/') != NULL)
		return log_fail(-EBADMSG, "mount %s: bad root '%.200s'", e->mountpoint, e->root);
	if (strlen(e->source) >= PATH_MAX || strlen(e->options) >= PAGE_BYTES)
		return log_fail(-EBADMSG, "mount %s: source or options too long", e->mountpoint);
	if (map_get(&((struct ns_restore *)ctx->ns_state)->mount_by_id, e->mnt_id))
		return log_fail(-EBADMSG, "mount %s: id %u is there twice", e->mountpoint,
				e->mnt_id);
	r = map_put(&((struct ns_restore *)ctx->ns_state)->mount_by_id, e->mnt_id, m);
	return r < 0 ? log_err(r, "cannot read mounts") : 0;
}

static struct rest_mount *find_mount(struct rest_mntns *mnt, const struct map *index, uint32_t id)
{
	struct rest_mount *m = map_get(index, id);

	return m && m >= mnt->mounts && m < mnt->mounts + mnt->n ? m : NULL;
}

/* One root, no cycles, every mount at or below its parent's mount point. */
static int link_parents(struct rest_mntns *mnt, const struct map *index)
{
	struct rest_mount *root = NULL;

	for (size_t i = 0; i < mnt->n; i++) {
		struct rest_mount *m = &mnt->mounts[i];

		m->parent = find_mount(mnt, index, m->e->parent_mnt_id);
		if (m->parent == m)
			m->parent = NULL;
		if (!m->parent && (root || strcmp(m->e->mountpoint, "/")))
			return log_fail(-EBADMSG, "mountpoints-%u.img: mount %s hangs nowhere",
					mnt->id, m->e->mountpoint);
		if (!m->parent)
			root = m;
		else if (!path_below(m->e->mountpoint, m->parent->e->mountpoint))
			return log_fail(-EBADMSG, "mountpoints-%u.img: mount %s is not below its "
					"parent %s", mnt->id, m->e->mountpoint,
					m->parent->e->mountpoint);
	}
	if (!root)
		return log_fail(-EBADMSG, "mountpoints-%u.img: no root", mnt->id);
	return 0;
}

/* Depth below the root; -1 in a cycle. */
static int depth_of(const struct rest_mntns *mnt, const struct rest_mount *m)
{
	size_t depth = 0;

	for (; m->parent; m = m->parent)
		if (++depth > mnt->n)
			return -1;
	return (int)depth;
}

struct sort_item {
	struct rest_mount *m;
	size_t depth, length, at;
};

static int compare(const void *va, const void *vb)
{
	const struct sort_item *a = va, *b = vb;

	if (a->depth != b->depth)
		return a->depth < b->depth ? -1 : 1;
	if (a->length != b->length)
		return a->length > b->length ? -1 : 1;
	return a->at < b->at ? -1 : a->at > b->at;
}

/* By depth: also a parent's siblings come before, which does no harm. */
static int sort_mounts(struct restore_ctx *ctx, struct rest_mntns *mnt, struct map *index)
{
	struct sort_item *items = arena_alloc(&ctx->arena, mnt->n * sizeof(*items));
	struct rest_mount *sorted = arena_alloc(&ctx->arena, mnt->n * sizeof(*sorted));
	int r;

	if (!items || !sorted)
		return log_err(-ENOMEM, "cannot read mounts");
	for (size_t i = 0; i < mnt->n; i++) {
		struct rest_mount *m = &mnt->mounts[i];
		int depth = depth_of(mnt, m);

		if (depth < 0)
			return log_fail(-EBADMSG, "mountpoints-%u.img: mount %s is its own parent",
					mnt->id, m->e->mountpoint);
		items[i] = (struct sort_item){ m, (size_t)depth, strlen(m->e->mountpoint), i };
	}
	qsort(items, mnt->n, sizeof(*items), compare);
	for (size_t i = 0; i < mnt->n; i++) {
		sorted[i] = *items[i].m;
		r = map_put(index, sorted[i].e->mnt_id, &sorted[i]);
		if (r < 0)
			return log_err(r, "cannot read mounts");
	}
	mnt->mounts = sorted;
	for (size_t i = 0; i < mnt->n; i++)
		if (sorted[i].parent)
			sorted[i].parent = map_get(index, sorted[i].e->parent_mnt_id);
	return 0;
}

int mntns_read_image(struct restore_ctx *ctx, struct rest_mntns *mnt)
{
	struct ns_restore *ns = ctx->ns_state;
	int r = read_entries(ctx, mnt);

	if (r < 0)
		return r;
	for (size_t i = 0; i < mnt->n; i++) {
		r = check_entry(ctx, mnt, &mnt->mounts[i]);
		if (r < 0)
			return r;
	}
	if (!mnt->n)
		return log_fail(-EBADMSG, "mountpoints-%u.img: no mounts", mnt->id);
	r = link_parents(mnt, &ns->mount_by_id);
	for (size_t i = 0; r >= 0 && i < mnt->n; i++)
		r = find_origin(ctx, &mnt->mounts[i]);
	if (r < 0)
		return r;
	r = sort_mounts(ctx, mnt, &ns->mount_by_id);
	return r < 0 ? r : mounts_find_late(mnt);
}
