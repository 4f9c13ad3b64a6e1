/* What the cgroup files share: hierarchies and where they are mounted. */
#ifndef CR_NS_CGROUP_STATE_H
#define CR_NS_CGROUP_STATE_H

#include "kernel/mountinfo.h"
#include "ns/cgroup.h"

/* One line of /proc/PID/cgroup. */
struct cg_member {
	const char *name;	/* "" for v2, "cpu,cpuacct", "name=systemd" */
	const char *path;
	size_t ns_prefix;	/* restore: bytes of it that a namespace hides */
};

struct cg_set {
	uint32_t id;
	struct cg_ns *ns;		/* dump: which hides some of the paths */
	struct cg_member *members;	/* by name */
	size_t n;
};

#define CG_HIERARCHIES_MAX 64u

/* /proc/PID/cgroup, sorted by name. -EBADMSG. */
int cgroup_parse(struct arena *a, const char *text, struct cg_set *ret) _must_check_;
/*
 * cgroupns.c. The groups that p's cgroup namespace, another than ours, shows as "/". Obstacle: p is
 * outside of them.
 */
int cgroupns_roots(struct arena *a, const struct dump_process *p, struct cg_set *ret) _must_check_;
bool cgroup_sets_equal(const struct cg_set *a, const struct cg_set *b);
const char *cgroup_path_in(const struct cg_set *set, const char *name);

struct cg_hierarchy {
	const char *name;
	const char *root;	/* the cgroup path that its mount shows */
	int fd;			/* O_PATH of the mount; -EBADF: not mounted */
};
/* Of the same controllers, in whatever order. */
bool cgroup_names_equal(const char *a, const char *b);
/* Is it the hierarchy of this controller, or the one named so? n 0: the unified one. */
bool cgroup_is_called(const char *name, const char *controller, size_t n);
/*
 * Where the hierarchy, of /proc/PID/cgroup, is mounted; one of v1 that no mount of ours shows is mounted
 * where no path leads. fd may stay -EBADF.
 */
void cgroup_find_mount(const struct mount_table *t, struct cg_hierarchy *h);
/* A detached mount of a v1 hierarchy: O_PATH-like, or -errno. One that does not exist is made. */
int cgroup_mount_v1(const char *name) _must_check_;
/* The directory of path below h, O_PATH. -ENOENT, -EXDEV when the mount does not show it. */
int cgroup_open_dir(const struct cg_hierarchy *h, const char *path) _must_check_;

/* cgroup_props.c. All that dirfd's group has of them, and its owner, into dir. */
int cgroup_props_read(struct arena *a, int dirfd, CgroupDirEntry *dir) _must_check_;
/* A limit that cannot be set is told; the tree can run without. path: for messages. */
void cgroup_props_write(int dirfd, const char *path, const CgroupDirEntry *dir);
const CgroupPropEntry *cgroup_prop_find(const CgroupDirEntry *dir, const char *name);
CgroupPerms *cgroup_perms_of(struct arena *a, int dirfd, const char *name);

/* A group of the image, and where it is to be. */
struct cg_group {
	struct cg_hierarchy *h;
	const char *path;
	const CgroupDirEntry *dir;	/* its settings; NULL: none saved */
	bool needed;			/* a task is in it */
};

struct cg_restore {
	struct arena *a;
	const struct cr_opts *opts;
	int mode;
	uint32_t own_id;		/* inventory.root_cg_set: whoever restores */
	struct cg_set own;		/* where we are now */
	struct cg_set *sets;
	size_t n;
	struct cg_hierarchy *hierarchies;	/* with room for CG_HIERARCHIES_MAX: do not move */
	size_t n_hierarchies;
	struct cg_group *made;		/* parents before children */
	size_t n_made;
	struct cg_group *frozen;	/* v1: at the end */
	size_t n_frozen;
};

static inline bool cgroup_may_make(const struct cg_restore *cg)
{
	return cg->mode & (CGROUP_SOFT | CGROUP_FULL | CGROUP_STRICT);
}

struct cg_hierarchy *cgroup_hierarchy(struct cg_restore *cg, const char *name);
/* Below the root task's old group (NULL: unknown) becomes below --cgroup-root. NULL: out of memory. */
const char *cgroup_new_path(struct cg_restore *cg, const char *name, const char *path,
			    const char *old_root) _must_check_;
/* cgroup_make.c. All groups of the image, and those of the sets, as the mode says. */
int cgroup_make_all(struct cg_restore *cg, const CgroupEntry *e, const CgSetEntry *root) _must_check_;
/* Opens path below h, making what is missing if the mode allows it. O_PATH or -errno. */
int cgroup_make_dirs(struct cg_restore *cg, struct cg_hierarchy *h, const char *path) _must_check_;
void cgroup_remove_made(struct cg_restore *cg);
void cgroup_freeze_again(struct cg_restore *cg);

#endif
