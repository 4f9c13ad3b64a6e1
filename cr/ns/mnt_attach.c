/*
 * A mount that the builder has taken: its flags and propagation, its place, its peer group. In the
 * namespace that is being built.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "ns/mountapi.h"
#include "ns/state.h"

static const struct {
	uint32_t ms;
	uint64_t attr;
} attributes[] = {
	{ MS_RDONLY, MOUNT_ATTR_RDONLY },
	{ MS_NOSUID, MOUNT_ATTR_NOSUID },
	{ MS_NODEV, MOUNT_ATTR_NODEV },
	{ MS_NOEXEC, MOUNT_ATTR_NOEXEC },
	{ MS_NODIRATIME, MOUNT_ATTR_NODIRATIME },
	{ MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW },
};

static int set_attr(int fd, const struct mount_attr *attr)
{
	return syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, attr, sizeof(*attr)) < 0 ?
	       neg_errno() : 0;
}

/* CRIU's images carry MS_SLAVE and MS_SHARED as flags or as group ids alone. */
bool mount_is_slave(const MntEntry *e)
{
	return e->flags & MS_SLAVE || e->master_id;
}

static bool is_shared(const MntEntry *e)
{
	return e->flags & MS_SHARED || e->shared_id;
}

int mount_dress(const struct rest_mount *m)
{
	struct mount_attr attr = { .attr_clr = MOUNT_ATTR__ATIME };
	uint32_t flags = m->e->flags;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
		if (flags & attributes[i].ms)
			attr.attr_set |= attributes[i].attr;
		else
			attr.attr_clr |= attributes[i].attr;
	}
	if (flags & MS_NOATIME)
		attr.attr_set |= MOUNT_ATTR_NOATIME;
	else if (!(flags & MS_RELATIME))
		attr.attr_set |= MOUNT_ATTR_STRICTATIME;
	if (flags & MS_UNBINDABLE)
		attr.propagation = MS_UNBINDABLE;
	else
		attr.propagation = mount_is_slave(m->e) ? MS_SLAVE : MS_PRIVATE;
	r = set_attr(m->fd, &attr);
	return r < 0 ? log_err(r, "cannot set the flags of mount %s", m->e->mountpoint) : 0;
}

int mount_attach(const struct rest_mount *m)
{
	_cleanup_close_ int target = -EBADF;
	const char *rel;
	int r;

	if (!m->parent) {
		r = sys_move_mount(m->fd, AT_FDCWD, "/", 0);
		return r < 0 ? log_err(r, "cannot attach the new root") : 0;
	}
	rel = path_below(m->e->mountpoint, m->parent->e->mountpoint);
	target = open_on_mount(m->parent->fd, rel, O_PATH | O_NOFOLLOW);
	if (target < 0)
		return log_err(target, "mount %s: cannot open its mount point on %s",
			       m->e->mountpoint, m->parent->e->mountpoint);
	r = sys_move_mount(m->fd, target, "", 0);
	return r < 0 ? log_err(r, "cannot attach mount %s", m->e->mountpoint) : 0;
}

/*
 * The mount of a peer group that shows most of the filesystem: a group can be handed on only to
 * a mount that shows a part of it. A mount without a group number is its own.
 */
static const struct rest_mount *group_leader(const struct rest_mntns *mnt,
					     const struct rest_mount *m)
{
	const struct rest_mount *best = m;

	for (size_t i = 0; m->e->shared_id && i < mnt->n; i++) {
		const struct rest_mount *o = &mnt->mounts[i];

		if (!o->skipped && o->e->shared_id == m->e->shared_id &&
		    (strlen(o->e->root) < strlen(best->e->root) ||
		     (o < best && strlen(o->e->root) == strlen(best->e->root))))
			best = o;
	}
	return best;
}

/* Joins a peer group, with its master (Linux ≥ 5.15). Only a private mount may. */
static int join_group(const struct rest_mount *m, const struct rest_mount *leader)
{
	struct mount_attr attr = { .propagation = MS_PRIVATE };
	int r = set_attr(m->fd, &attr);

	return r < 0 ? r : sys_move_mount(leader->fd, m->fd, "", MOVE_MOUNT_SET_GROUP);
}

static int share_pass(const struct rest_mntns *mnt, bool leaders)
{
	struct mount_attr attr = { .propagation = MS_SHARED };

	for (size_t i = 0; i < mnt->n; i++) {
		const struct rest_mount *m = &mnt->mounts[i], *leader;
		int r;

		if (m->skipped || !is_shared(m->e))
			continue;
		leader = group_leader(mnt, m);
		if ((leader == m) != leaders)
			continue;
		r = leaders ? set_attr(m->fd, &attr) : join_group(m, leader);
		if (r < 0)
			return log_err(r, "cannot make mount %s shared", m->e->mountpoint);
	}
	return 0;
}

int mounts_share(const struct rest_mntns *mnt)
{
	int r = share_pass(mnt, true);

	return r < 0 ? r : share_pass(mnt, false);
}
