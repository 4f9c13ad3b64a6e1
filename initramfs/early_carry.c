/*
 * Files of filesystems that do not outlive a kernel (/run, tmpfs): unpacked where they were
 * before the trees that use them come back, removed again when a unit starts cold after all,
 * since it would find the pid file and the sockets of a process that is gone.
 *
 * Nothing is unpacked or removed anywhere else: the file system may be missing in this boot, and then the
 * path leads to a disk.
 *
 * In a distribution's initramfs systemd has put things of its own below /run already; ours take
 * their place. A single file is unpacked beside its place and renamed: the archive's root has attributes
 * too, and they are not those of /run.
 */
#include "initramfs/early_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "ns/tar.h"
#include "util/io.h"
#include "util/log.h"

#define ASIDE_NAME	".crkexec-unpack"
#define DEPTH_MAX	64

struct carrying {
	struct early *e;
	const struct manifest_unit *u;
	struct early_images images;	/* opened for the first archive */
};

static int extract(struct carrying *cy, const char *archive, int to)
{
	const struct manifest_tree *t = cy->u->trees;
	struct image_reader rd;
	int r;

	if (!cy->u->n_trees)
		return log_fail(-EBADMSG, "archive %s belongs to no tree", archive);
	r = cy->images.store ? 0 : early_images_open_files(cy->e, t, &cy->images);
	if (r == 0)
		r = early_images_file(t, &cy->images, archive, &rd);
	if (r < 0)
		return r;
	r = rd.bytes ? tar_extract_over(rd.data, rd.bytes, to, NULL) :
		       log_fail(-EBADMSG, "archive %s is empty", archive);
	image_reader_done(&rd);
	return r;
}

static int open_dir(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? neg_errno() : fd;
}

void early_remove_at(int at, const char *name, dev_t dev, int depth)
{
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *de;
	struct stat st;
	int fd;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
		return;
	if (!S_ISDIR(st.st_mode)) {
		unlinkat(at, name, 0);
		return;
	}
	fd = depth < DEPTH_MAX ? open_dir(at, name) : -EMLINK;
	if (fd < 0 || !(dir = fdopendir(fd)))
		return;
	while ((de = readdir(dir)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			early_remove_at(fd, de->d_name, dev, depth + 1);
	unlinkat(at, name, AT_REMOVEDIR);
}

/* As carry_find.c judged it; devtmpfs says that it is a tmpfs. */
static bool is_volatile(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

static int not_volatile(const char *path)
{
	return log_fail(-ENODEV, "%s would be on a disk: its file system in memory is not mounted", path);
}

/* Splits "/run/a/b" into an open "/run/a" and "b"; makes the former. */
static int open_parent(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *parent = NULL;
	int r;

	if (!slash || slash == path || !slash[1])
		return -EINVAL;
	parent = strndup(path, slash - path);
	if (!parent)
		return -ENOMEM;
	r = early_mkdirs(parent, 0755);
	*ret_name = slash + 1;
	return r < 0 ? r : open_dir(AT_FDCWD, parent);
}

static int carry_single(struct carrying *cy, const struct manifest_carry *c, int parent, const char *name)
{
	_cleanup_close_ int aside = -EBADF;
	struct stat st;
	int r;

	if (fstat(parent, &st) < 0)
		return neg_errno();
	if (mkdirat(parent, ASIDE_NAME, 0700) < 0 && errno != EEXIST)
		return log_err(neg_errno(), "cannot make a directory beside %s", c->path);
	aside = open_dir(parent, ASIDE_NAME);
	r = aside < 0 ? aside : extract(cy, c->archive, aside);
	if (r == 0 && renameat(aside, name, parent, name) < 0)
		r = log_err(neg_errno(), "archive %s does not hold %s", c->archive, name);
	early_remove_at(parent, ASIDE_NAME, st.st_dev, 0);
	return r;
}

static int carry_one(struct carrying *cy, struct manifest_carry *c)
{
	_cleanup_close_ int parent = -EBADF, dir = -EBADF;
	const char *name;

	parent = open_parent(c->path, &name);
	if (parent < 0)
		return log_err(parent, "cannot make the directory of %s", c->path);
	if (c->single && c->archive) {
		int r = is_volatile(parent) ? carry_single(cy, c, parent, name) : not_volatile(c->path);

		c->brought = r == 0;
		return r;
	}
	if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
		return log_err(neg_errno(), "cannot make %s", c->path);
	dir = open_dir(parent, name);
	if (dir < 0)
		return log_err(dir, "cannot open %s", c->path);
	if (!is_volatile(dir))
		return not_volatile(c->path);
	/* Also what is unpacked in part. */
	c->brought = true;
	return c->archive ? extract(cy, c->archive, dir) : 0;
}

/* Units may share a path; the first has brought it for all. */
static bool is_shared(const struct manifest *m, const struct manifest_unit *before,
		      const char *path, bool any_unit)
{
	for (const struct manifest_unit *u = m->units; u < m->units + m->n_units; u++) {
		if (u == before && !any_unit)
			return false;
		if (u == before || u->outcome == OUTCOME_COLD)
			continue;
		for (size_t i = 0; i < u->n_carries; i++)
			if (!strcmp(u->carries[i].path, path))
				return true;
	}
	return false;
}

static void carry_unit(struct early *e, struct manifest_unit *u)
{
	struct carrying cy = { .e = e, .u = u, .images = EARLY_IMAGES_INIT };

	LOG_SCOPE("%s", u->name);
	for (size_t i = 0; i < u->n_carries && u->outcome != OUTCOME_COLD; i++) {
		struct manifest_carry *c = &u->carries[i];

		if (is_shared(e->manifest, u, c->path, false) || carry_one(&cy, c) == 0)
			continue;
		early_mark_cold(u, "cannot bring back %s: %s", c->path, log_first_error());
	}
	early_images_close(&cy.images);
}

int early_carry(struct early *e)
{
	struct manifest *m = e->manifest;

	for (size_t i = 0; i < m->n_units; i++) {
		/* Each unit's first error is its own. */
		log_init(LOGLEVEL_INFO, e->log_fd);
		carry_unit(e, &m->units[i]);
	}
	return 0;
}

/* By us, for whichever unit. */
static bool was_brought(const struct manifest *m, const char *path)
{
	for (size_t i = 0; i < m->n_units; i++)
		for (size_t j = 0; j < m->units[i].n_carries; j++)
			if (m->units[i].carries[j].brought && !strcmp(m->units[i].carries[j].path, path))
				return true;
	return false;
}

void early_carry_remove(struct early *e, const struct manifest_unit *u)
{
	for (size_t i = 0; i < u->n_carries; i++) {
		const char *path = u->carries[i].path, *name;
		_cleanup_close_ int parent = -EBADF;
		struct stat st;

		if (!was_brought(e->manifest, path) || is_shared(e->manifest, u, path, true))
			continue;
		parent = open_parent(path, &name);
		if (parent >= 0 && fstat(parent, &st) == 0)
			early_remove_at(parent, name, st.st_dev, 0);
	}
}
