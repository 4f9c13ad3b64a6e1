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
/* Where the hierarchy is mounted; fd may stay -EBADF. */
void cgroup_find_mount(const struct mount_table *t, struct cg_hierarchy *h);
/* The directory of path below h, O_PATH. -ENOENT, -EXDEV when the mount does not show it. */
int cgroup_open_dir(const struct cg_hierarchy *h, const char *path) _must_check_;

/* Files of a group that are worth keeping; NULL at the end. */
extern const char *const cgroup_properties[];
bool cgroup_property_is_known(const char *name);

#endif
