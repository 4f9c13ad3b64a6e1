/*
 * The host's mounts, from PID 1's mount table (crkexec itself may run in a unit with another
 * view), and which of them the early program does not make.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "crkexec/machine.h"
#include "ns/state.h"
#include "util/io.h"
#include "util/log.h"

static const char *const remote_types[] = { "nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs" };
/* They want a daemon, a pool or a lower layer that the early program does not have. */
static const char *const late_types[] = { "9p", "overlay", "squashfs", "zfs" };

static bool is_among(const char *const *types, size_t n, const char *fstype)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(fstype, types[i]))
			return true;
	return false;
}

static bool type_comes_late(const char *fstype)
{
	return is_among(remote_types, ARRAY_SIZE(remote_types), fstype) ||
	       is_among(late_types, ARRAY_SIZE(late_types), fstype) ||
	       (str_starts(fstype, "fuse") && strcmp(fstype, "fusectl"));
}

bool mount_block_device(const struct mount *mt, dev_t *ret)
{
	uint32_t major_no = mt->dev >> 20;
	struct stat st;

	*ret = makedev(major_no, mt->dev & 0xfffff);
	if (major_no)
		return true;
	if (mt->source[0] != '/' || stat(mt->source, &st) < 0 || !S_ISBLK(st.st_mode))
		return false;
	*ret = st.st_rdev;
	return true;
}

/* btrfs: is it that subvolume, and not a directory of it? Options show the subvolume in both cases. */
static bool is_subvolume(const struct mount *mt)
{
	size_t n = strlen(mt->root);

	for (const char *s = mt->options; s; s = strchr(s, ',')) {
		s += *s == ',';
		if (str_starts(s, "subvol=") && !strncmp(s + 7, mt->root, n) && (!s[7 + n] || s[7 + n] == ','))
			return true;
	}
	return false;
}

static bool is_stored(const struct mount *mt)
{
	return mt->dev >> 20 || !strcmp(mt->fstype, "btrfs");
}

bool mount_is_whole(const struct mount_table *t, const struct mount *mt)
{
	if (!strcmp(mt->fstype, "btrfs") ? !is_subvolume(mt) : strcmp(mt->root, "/") && strcmp(mt->fstype, "cgroup2"))
		return false;
	/* Memory would be another one, empty; a disk refuses other settings than it has. */
	for (const struct mount *m = t->mounts; m < mt; m++)
		if (m->dev == mt->dev && !strcmp(m->root, mt->root) && (is_stored(mt) || fs_is_volatile(mt->fstype)))
			return false;
	return true;
}

char *mount_bind_source(struct arena *a, const struct mount_table *t, const struct mount *mt)
{
	for (const struct mount *m = t->mounts; m < mt; m++) {
		const char *rest = m->dev == mt->dev ? path_below(mt->root, m->root) : NULL;

		if (rest && !mount_is_skipped(m->mountpoint))
			return path_join(a, m->mountpoint, rest);
	}
	return NULL;
}

/* The one on top. */
static const struct mount *root_of(const struct mount_table *t)
{
	const struct mount *root = NULL;

	for (size_t i = 0; i < t->n; i++)
		if (!strcmp(t->mounts[i].mountpoint, "/"))
			root = &t->mounts[i];
	return root;
}

/* Not for the mount it lies on. Whatever brings the root's disk up brings all that is on it. */
static int own_reason(struct host_mounts *h, const struct mount *mt, const struct mount *root, const char **ret)
{
	_cleanup_free_ char *why = NULL, *text = NULL;
	dev_t dev;
	int r;

	*ret = NULL;
	if (mt == root)
		return 0;
	if (is_stored(mt) && !mount_is_whole(&h->table, mt) && !mount_bind_source(&h->arena, &h->table, mt)) {
		*ret = "a directory of a file system that is mounted nowhere else";
		return 0;
	}
	if (root && mt->dev == root->dev)
		return 0;
	if (type_comes_late(mt->fstype)) {
		*ret = mt->fstype;
		return 0;
	}
	if (!mount_block_device(mt, &dev))
		return 0;
	r = disk_is_plain(dev, &why);
	if (r)
		return r < 0 ? r : 0;
	text = str_fmt("%s on %s", mt->fstype, why);
	*ret = text ? arena_strdup(&h->arena, text) : NULL;
	return *ret ? 0 : -ENOMEM;
}

/* What lies on a late one cannot be there before it. */
static int add_inherited(struct host_mounts *h, size_t i)
{
	const struct mount_table *t = &h->table;
	_cleanup_free_ char *text = NULL;

	for (size_t k = 0; k < t->n && !h->late[i]; k++) {
		if (!h->late[k] || k == i || !mount_carries(t, &t->mounts[k], &t->mounts[i]))
			continue;
		text = str_fmt("%s below %s", t->mounts[i].fstype, t->mounts[k].mountpoint);
		h->late[i] = text ? arena_strdup(&h->arena, text) : NULL;
		if (!h->late[i])
			return -ENOMEM;
	}
	return 0;
}

int host_mounts_read(struct host_mounts *h)
{
	_cleanup_close_ int fd = open("/proc/1", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mount_table *t = &h->table;
	int r;

	*h = (struct host_mounts){ 0 };
	arena_init(&h->arena);
	r = fd < 0 ? neg_errno() : mountinfo_read(&h->arena, fd, t);
	if (r == 0) {
		h->late = arena_alloc(&h->arena, (t->n + 1) * sizeof(*h->late));
		r = h->late ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < t->n && r == 0; i++)
		r = own_reason(h, &t->mounts[i], root_of(t), &h->late[i]);
	for (size_t i = 0; i < t->n && r == 0; i++)
		r = add_inherited(h, i);
	return r < 0 ? log_err(r, "cannot read the host's mount table") : 0;
}

void host_mounts_done(struct host_mounts *h)
{
	arena_done(&h->arena);
}

const struct mount *host_mounts_late(const struct host_mounts *h, const struct mount *m, const char **ret_why)
{
	ssize_t same = -1, late = -1;
	bool early = false;

	for (size_t i = 0; i < h->table.n; i++) {
		if (h->table.mounts[i].dev != m->dev)
			continue;
		early |= !h->late[i];
		if (h->late[i])
			late = (ssize_t)i;
		if (!strcmp(h->table.mounts[i].mountpoint, m->mountpoint))
			same = (ssize_t)i;
	}
	if (same < 0 && !early)
		same = late;
	if (same < 0 || !h->late[same])
		return NULL;
	*ret_why = h->late[same];
	return &h->table.mounts[same];
}

int root_is_on_plain_disk(char **ret_why)
{
	const struct mount *root;
	struct host_mounts h;
	dev_t dev;
	int r = host_mounts_read(&h);

	*ret_why = NULL;
	root = r < 0 ? NULL : root_of(&h.table);
	if (root && !mount_is_whole(&h.table, root))
		*ret_why = str_fmt("%s, a directory of a file system", root->root);
	else if (root && mount_block_device(root, &dev))
		r = disk_is_plain(dev, ret_why);
	else if (r == 0)
		*ret_why = strdup("no disk");
	if (r == 0 && !*ret_why)
		r = -ENOMEM;
	host_mounts_done(&h);
	return r;
}

bool mount_is_remote(const struct mount *mt)
{
	dev_t dev;

	return is_among(remote_types, ARRAY_SIZE(remote_types), mt->fstype) ||
	       (mount_block_device(mt, &dev) && disk_is_remote(dev));
}

bool root_is_remote(void)
{
	const struct mount *root;
	struct host_mounts h;
	bool remote = false;

	if (host_mounts_read(&h) == 0) {
		root = root_of(&h.table);
		remote = root && mount_is_remote(root);
	}
	host_mounts_done(&h);
	return remote;
}
