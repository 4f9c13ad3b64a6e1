/*
 * In the builder: a path on the host, as an O_PATH descriptor on exactly the mount meant.
 *
 * Which mount that is: the one at or above the path with the filesystem type and the root of the
 * image, and where it lay then: below the mount point of a file system that is missing the host has
 * a directory, which is another one. Device numbers of tmpfs and the like change with each boot and only
 * break ties. What is covered on the host by another mount is reached through a copy of the mount alone.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "ns/mountapi.h"
#include "ns/state.h"

int hang_on_scratch(struct builder *b, int mount_fd)
{
	return sys_move_mount(mount_fd, b->scratch, "", 0);
}

static bool is_of_type(const struct mount *h, const char *fstype)
{
	if (!strcmp(fstype, FS_OF_DISK))
		return !fs_is_rebuildable(h->fstype) && !fs_is_hosts_own(h->fstype);
	return !strcmp(h->fstype, fstype);
}

/* Does the host's mount h show what the image's m showed, below it at rest? */
static bool shows(const struct mount *h, const struct rest_mount *m,
		  const char *rest)
{
	_cleanup_free_ char *root = NULL;

	if (!is_of_type(h, m->fstype))
		return false;
	if (*h->root != '/' || *m->e->root != '/')
		return !strcmp(h->root, m->e->root);
	root = str_fmt("%s%s%s", *rest && !strcmp(h->root, "/") ? "" : h->root, *rest ? "/" : "",
		       rest);
	return root && !strcmp(root, m->e->root);
}

/* Images of others do not tell. */
static bool lies_right(const struct mount *h, const struct rest_mount *m)
{
	return !m->e->host_mountpoint || !strcmp(h->mountpoint, m->e->host_mountpoint);
}

/* -1: none. On a disk filesystem another root (a snapshot, a subvolume) is a second choice. */
static ssize_t find_host_mount(const struct builder *b, const struct rest_mount *m)
{
	ssize_t found = -1;
	int best = -1;

	for (size_t i = 0; i < b->host.n; i++) {
		const struct mount *h = &b->host.mounts[i];
		const char *rest = path_below(m->host_path, h->mountpoint);
		bool same_root;
		int score;

		if (!rest || !is_of_type(h, m->fstype) || !lies_right(h, m))
			continue;
		same_root = shows(h, m, rest);
		if (!same_root && (fs_is_volatile(m->fstype) || fs_is_hosts_own(m->fstype)))
			continue;
		score = 8 * same_root + 4 * (h->dev == m->e->root_dev) + 2 * b->host_visible[i];
		/* Equal: the deeper mount point, and of stacked ones the later. */
		if (score < best || (score == best && found >= 0 &&
		    strlen(h->mountpoint) < strlen(b->host.mounts[found].mountpoint)))
			continue;
		best = score;
		found = (ssize_t)i;
	}
	return found;
}

static uint64_t mount_id_at(const char *path)
{
	struct statx stx;

	if (statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC,
		  STATX_MNT_ID, &stx) < 0)
		return 0;
	return stx.stx_mnt_id;
}

/*
 * Where the first mount lies that hides the path to h, on it or on what it lies on. 1: path is that; 0:
 * none; -ESTALE: what is there is none of the host's.
 */
static int find_cover(const struct builder *b, const struct mount *h, char path[PATH_MAX])
{
	size_t n = 0, whole = strlen(h->mountpoint);
	const struct mount *x;

	/* From the top down: under a cover a longer path may lead to something on the cover. */
	do {
		n += strcspn(h->mountpoint + n + 1, "/") + 1;
		memcpy(path, h->mountpoint, n);
		path[n] = '\0';
		x = mount_by_id(&b->host, (int)mount_id_at(path));
		if (!x)
			return -ESTALE;
		if (!mount_carries(&b->host, x, h))
			return 1;
	} while (n < whole);
	return x == h ? 0 : -ESTALE;
}

/* The root of the host's mount h. Covers are taken away, which only our copy notices. */
static int open_host_mount(struct builder *b, const struct mount *h, int *ret_fd)
{
	char path[PATH_MAX];
	int fd, r;

	/* One by one: what is stacked goes from the top. */
	for (size_t n = 0; (r = find_cover(b, h, path)) > 0; n++) {
		if (n >= b->host.n)
			return -ESTALE;
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return neg_errno();
	}
	if (r < 0)
		return r;
	fd = open(h->mountpoint, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return neg_errno();
	*ret_fd = fd;
	return 0;
}

/* rest is under another mount: look at a copy of the mount that has nothing on it. */
static int open_covered(struct builder *b, int mount_fd, const char *rest)
{
	_cleanup_close_ int copy = sys_open_tree(mount_fd, "", OPEN_TREE_CLONE);
	int r;

	if (copy < 0)
		return copy;
	r = hang_on_scratch(b, copy);
	return r < 0 ? r : open_on_mount(copy, rest, O_PATH | O_NOFOLLOW);
}

/* --external and --root: whatever is at the path. */
static int open_given(const struct rest_mount *m, int *ret_fd)
{
	int fd = open(m->host_path, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return neg_errno();
	*ret_fd = fd;
	return 0;
}

static int hidden_at(struct rest_mount *m, ssize_t at)
{
	m->hidden = (size_t)at + 1;
	return -EAGAIN;
}

/*
 * -ENXIO: no mount like that on the host; -ENOENT: the mount is there, the path on it is not;
 * -EAGAIN: hidden, and hidden_too is not set; m->hidden tells where.
 */
int source_open_host(struct builder *b, struct rest_mount *m, bool hidden_too, int *ret_fd)
{
	_cleanup_close_ int mount_fd = -EBADF;
	const char *rest;
	ssize_t at;
	int r;

	if (m->origin == ORIGIN_KEY)
		return open_given(m, ret_fd);
	at = find_host_mount(b, m);
	if (at < 0)
		return -ENXIO;
	if (!b->host_visible[at] && !hidden_too)
		return hidden_at(m, at);
	r = open_host_mount(b, &b->host.mounts[at], &mount_fd);
	if (r < 0)
		return r;
	rest = path_below(m->host_path, b->host.mounts[at].mountpoint);
	r = open_on_mount(mount_fd, rest, O_PATH | O_NOFOLLOW);
	if (r == -EXDEV)
		r = hidden_too ? open_covered(b, mount_fd, rest) : hidden_at(m, at);
	if (r < 0)
		return r;
	*ret_fd = r;
	return 0;
}
