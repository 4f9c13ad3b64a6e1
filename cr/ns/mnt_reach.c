/*
 * During a dump: a mount of the tree's namespace, whether or not something is mounted over it.
 *
 * A helper inside the namespace makes a detached copy of the mount: on that nothing is mounted. If
 * the mount cannot be reached by its path, what lies over it is taken away, in a copy of
 * the namespace that only the helper sees.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "ns/mountapi.h"
#include "ns/state.h"

struct reach {
	const struct dump_mntns *mnt;
	const struct mount *m;
	int ns_fd;
	int fd;				/* reply: the detached copy */
};

/* Lies over the path to m: on m or one of the mounts that carry it, but does not carry it. */
static bool covers(const struct mount_table *t, const struct mount *x, const struct mount *m)
{
	const struct mount *parent = mount_by_id(t, x->parent_id);

	return path_below(m->mountpoint, x->mountpoint) && !mount_carries(t, x, m) && parent &&
	       mount_carries(t, parent, m);
}

/* The cover itself and what is stacked on its root, from the top down; the rest goes along. */
static void umount_stack(const struct mount_table *t, const struct mount *x)
{
	for (size_t i = 0; i < t->n; i++)
		if (!strcmp(t->mounts[i].mountpoint, x->mountpoint) && mount_carries(t, x, &t->mounts[i]))
			umount2(x->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
}

/* Shortest paths first: under a cover a longer path may lead to something on the cover. */
static void umount_covers(const struct mount_table *t, const struct mount *m)
{
	size_t longest = strlen(m->mountpoint);

	for (size_t length = 1; length <= longest; length++) {
		for (size_t i = 0; i < t->n; i++) {
			const struct mount *x = &t->mounts[i];

			if (strlen(x->mountpoint) == length && covers(t, x, m))
				umount_stack(t, x);
		}
	}
}

static bool is_visible(const struct mount *m)
{
	struct statx stx;

	return statx(AT_FDCWD, m->mountpoint, AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW |
		     AT_STATX_DONT_SYNC, STATX_MNT_ID, &stx) == 0 &&
	       stx.stx_mnt_id == (uint64_t)m->id;
}

static bool is_of_device(int fd, const struct mount *m)
{
	struct stat st;

	/* btrfs shows another device to stat(2) than in mountinfo. */
	return fstat(fd, &st) == 0 &&
	       (dev_to_kernel(st.st_dev) == m->dev || !strcmp(m->fstype, "btrfs"));
}

static int detach_copy(void *arg, struct ns_reply *reply)
{
	struct reach *a = arg;

	if (setns(a->ns_fd, CLONE_NEWNS) < 0)
		return neg_errno();
	if (!is_visible(a->m)) {
		if (unshare(CLONE_NEWNS) < 0 || mount("", "/", "", MS_REC | MS_PRIVATE, NULL) < 0)
			return neg_errno();
		umount_covers(&a->mnt->table, a->m);
	}
	a->fd = sys_open_tree(AT_FDCWD, a->m->mountpoint, OPEN_TREE_CLONE);
	if (a->fd < 0)
		return a->fd;
	if (!is_of_device(a->fd, a->m))
		return -ESTALE;
	reply->data = &a->fd;
	reply->bytes = sizeof(a->fd);
	return 0;
}

int mount_copy(const struct dump_mntns *mnt, const struct mount *m, int *ret_fd)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	_cleanup_close_ int ns_fd = openat(mnt->p->proc_fd, "ns/mnt", O_RDONLY | O_CLOEXEC);
	struct reach a = { .mnt = mnt, .m = m, .ns_fd = ns_fd, .fd = -EBADF };
	int helper_fd, r;

	if (ns_fd < 0)
		return neg_errno();
	r = ns_helper_start(&h, detach_copy, &a);
	if (r >= 0)
		r = ns_helper_read(&h, &helper_fd, sizeof(helper_fd));
	return r < 0 ? r : ns_helper_take_fd(&h, helper_fd, ret_fd);
}

static struct dump_mntns *mntns_of(struct ns_dump *ns, int mnt_id, const struct mount **ret)
{
	for (size_t i = 0; i < ns->n_mntns; i++) {
		*ret = mount_by_id(&ns->mntns[i].table, mnt_id);
		if (*ret)
			return &ns->mntns[i];
	}
	return NULL;
}

/*
 * The mount's root by its path, if nothing covers it: costs no helper. Through a member's root
 * directory, so not for a member in a chroot.
 */
static int open_visible(const struct dump_mntns *mnt, const struct mount *m)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS };
	_cleanup_close_ int root = openat(mnt->p->proc_fd, "root", O_PATH | O_CLOEXEC);
	_cleanup_close_ int fd = -EBADF;
	struct statx stx;

	if (root < 0)
		return neg_errno();
	fd = (int)syscall(SYS_openat2, root, m->mountpoint, &how, sizeof(how));
	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &stx) < 0)
		return neg_errno();
	return stx.stx_mnt_id == (uint64_t)m->id ? take_fd(&fd) : -ENXIO;
}

/* Nothing on the way to rest, or at its end, is another mount. */
static bool is_uncovered(int fd, const char *rest)
{
	int at = open_on_mount(fd, rest, O_PATH | O_NOFOLLOW);

	if (at >= 0)
		close(at);
	return at >= 0 || at == -ENOENT;
}

/* Copies are kept: many files may be on one mount. Borrowed. */
static int cached_copy(struct ns_dump *ns, int mnt_id, const struct mount **ret_mount)
{
	uintptr_t known = (uintptr_t)map_get(&ns->copies, (uint64_t)mnt_id);
	struct dump_mntns *mnt = mntns_of(ns, mnt_id, ret_mount);
	int fd, r;

	if (!mnt)
		return -ENOENT;
	if (known)
		return (int)(known - 1);
	r = mount_copy(mnt, *ret_mount, &fd);
	if (r < 0)
		return r;
	r = map_put(&ns->copies, (uint64_t)mnt_id, (void *)((uintptr_t)fd + 1));
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int base_in_tree(struct ns_dump *ns, const char *path, int mnt_id, int *ret_fd,
			const char **ret_rest)
{
	const struct mount *m;
	struct dump_mntns *mnt = mntns_of(ns, mnt_id, &m);
	const char *rest = mnt ? path_below(path, m->mountpoint) : NULL;
	int fd;

	if (!rest)
		return -ENOENT;
	fd = open_visible(mnt, m);
	if (fd < 0 || !is_uncovered(fd, rest)) {
		close_fdp(&fd);
		fd = cached_copy(ns, mnt_id, &m);
		if (fd < 0)
			return fd;
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return neg_errno();
	}
	*ret_fd = fd;
	*ret_rest = rest;
	return 0;
}

int ns_dump_path_base(struct dump_ctx *ctx, const char *path, int mnt_id, int *ret_fd,
		      const char **ret_rest)
{
	struct ns_dump *ns = ctx->ns_state;
	const char *rest;
	int fd, r;

	if (!ns || !ns->n_mntns || mnt_id <= 0)
		return -ENOENT;
	/* Ours: a file opened before the task was sandboxed. */
	if (mount_by_id(&ns->host, mnt_id)) {
		fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		rest = path + 1;
	} else {
		r = base_in_tree(ns, path, mnt_id, &fd, &rest);
		if (r < 0)
			return r;
	}
	if (fd < 0)
		return neg_errno();
	*ret_fd = fd;
	*ret_rest = rest;
	return 0;
}
