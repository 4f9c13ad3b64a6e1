/*
 * /proc/PID/mountinfo: the mounts of one mount namespace, as proc(5) describes the lines.
 *
 * The file shows only what is below the reading process's root directory: a namespace is read
 * whole through a process that sits at the namespace's own root.
 */
#ifndef CR_KERNEL_MOUNTINFO_H
#define CR_KERNEL_MOUNTINFO_H

#include <stdbool.h>
#include <sys/types.h>

#include "util/arena.h"

struct mount {
	int id, parent_id;
	uint32_t dev;			/* kernel encoding: major << 20 | minor */
	const char *root;		/* path inside the filesystem; "net:[1]" on nsfs */
	const char *mountpoint;
	const char *fstype;		/* "fuse.sshfs" with its subtype */
	const char *source;
	const char *options;		/* the filesystem's own, without what sb_flags says */
	uint32_t flags;			/* MS_* of the mount; SHARED, SLAVE, UNBINDABLE too */
	uint32_t sb_flags;		/* MS_* of the superblock */
	uint32_t shared_id, master_id;	/* peer groups, 0: none */
	bool deleted;			/* root was unlinked; the mark is cut off */
	bool idmapped;
};

struct mount_table {
	struct mount *mounts;
	size_t n;
};

#define MOUNTS_MAX 100000u		/* fs.mount-max's default */

/* -EBADMSG when a line cannot be understood. Everything lives in the arena. */
int mountinfo_parse(struct arena *a, const char *text, struct mount_table *ret) _must_check_;
/* dirfd: /proc/PID. */
int mountinfo_read(struct arena *a, int dirfd, struct mount_table *ret) _must_check_;
struct mount *mount_by_id(const struct mount_table *t, int id);
/* Is x m itself, or one of the mounts that m lies on? */
bool mount_carries(const struct mount_table *t, const struct mount *x, const struct mount *m);

/*
 * What is left of path below prefix: "" when equal, "b/c" for "/a/b/c" below "/a"; NULL when
 * it is not below. Both normal and absolute.
 */
const char *path_below(const char *path, const char *prefix);
/* Absolute, no empty, "." or ".." component, no slash at the end (but "/"), below PATH_MAX. */
bool path_is_normal(const char *path);
/* "/a" + "b/c", minding "/" and an empty rest. NULL: out of memory. */
char *path_join(struct arena *a, const char *dir, const char *rest);

/* /proc/PID/mountinfo's numbers as stat(2)'s, and back. */
static inline uint32_t dev_to_kernel(dev_t dev)
{
	uint32_t major = (uint32_t)((dev >> 8) & 0xfff) | (uint32_t)((dev >> 32) & ~0xfffu);
	uint32_t minor = (uint32_t)(dev & 0xff) | (uint32_t)((dev >> 12) & ~0xffu);

	return major << 20 | minor;
}

#endif
