/*
 * The tree's mount namespace, built by a helper process out of a copy of the host's.
 *
 * Order, each step for a reason found the hard way:
 *   1  unshare as root of the initial user namespace (else it owns the mounts and almost every
 *      later call is refused), then make everything a slave: nothing done here reaches the host
 *   2  take a detached clone of every source before anything is covered; clones of what is
 *      hidden on the host last
 *   3  attributes and propagation of each clone before it is attached: a clone still in the
 *      host's peer group would carry what is mounted on it into the host
 *   4  attach, parents first, each target opened on its parent's mount and nowhere else
 *   5  pivot_root onto the new root, drop the old one; out of a chroot also up to the top
 *   6  make shared what was shared: together with slave the kernel refuses it
 *
 * What shows a terminal comes later: mnt_terminal.c.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

#include "ns/mountapi.h"
#include "ns/state.h"

/*
 * Simply copied from the host when the namespace was made, not bound for the sandbox: the host had a mount at
 * the same place. Images of others do not tell; there a part of a file system is believed to be bound.
 */
static bool is_inherited(const struct rest_mount *m)
{
	const MntEntry *e = m->e;

	if (m->origin != ORIGIN_HOST || strcmp(m->host_path, e->mountpoint))
		return false;
	return e->host_mountpoint ? !strcmp(e->host_mountpoint, e->mountpoint) : *e->root != '/' || !e->root[1];
}

/*
 * What lies on a mount that is left out. A disk's: what covers it altogether (ProtectHome=) covers
 * its mount point instead, and the kernel puts what the host mounts there later beneath (mount_namespaces(7)
 * does not say so: tried on 6.1 to 7.2); any other mount of the sandbox would be missing in what comes.
 */
static int skip(struct builder *b, struct rest_mount *m)
{
	bool on_skipped = m->parent && m->parent->skipped;

	m->skipped = true;
	/* Made anew by the host with nothing on it. */
	if (!on_skipped && (fs_is_volatile(m->fstype) || fs_is_hosts_own(m->fstype)))
		return 0;
	for (size_t i = 0; i < b->mnt->n; i++) {
		struct rest_mount *on = &b->mnt->mounts[i];

		if (on->parent != m)
			continue;
		if (!strcmp(on->e->mountpoint, m->e->mountpoint))
			on->parent = m->parent;
		else if (!is_inherited(on))
			return log_fail(-ENOENT, "mount %s: lies on %s, which the host has not mounted",
					on->e->mountpoint, m->e->mountpoint);
	}
	return 0;
}

/*
 * The host does not have it (yet). When the host mounts it later, it comes by propagation if the
 * parent follows the host; what has no state of its own is made afresh; what only the host can
 * make, and the tree merely inherited, it can do without. The rest is missed.
 */
static int do_without(struct builder *b, struct rest_mount *m)
{
	bool follows = m->parent && m->parent->origin == ORIGIN_HOST && mount_is_slave(m->parent->e);
	bool rebuildable = fs_is_rebuildable(m->fstype);
	int src, r;

	if (is_inherited(m) && (fs_is_hosts_own(m->fstype) ? follows || !rebuildable :
				follows)) {
		log_warn("mount %s: the host has no such %s now, left out", m->e->mountpoint,
			 m->fstype);
		return skip(b, m);
	}
	if (!fs_is_hosts_own(m->fstype) || !rebuildable)
		return log_fail(-ENOENT, "mount %s: the host has no %s mounted at or above %s",
				m->e->mountpoint, m->fstype, m->host_path);
	r = source_open_own(b, m, &src);
	if (r < 0)
		return r;
	m->fd = sys_open_tree(src, "", OPEN_TREE_CLONE);
	close(src);
	return m->fd < 0 ? log_err(m->fd, "mount %s: cannot clone", m->e->mountpoint) : 0;
}

static int take(struct builder *b, struct rest_mount *m, bool hidden_too)
{
	_cleanup_close_ int src = -EBADF;
	int r;

	if (m->parent && m->parent->skipped)
		return skip(b, m);
	if (m->origin == ORIGIN_OWN) {
		r = source_open_own(b, m, &src);
		if (r < 0)
			return r;
	} else {
		r = source_open_host(b, m, hidden_too, &src);
		if (r == -EAGAIN && !hidden_too)
			return 0;
		if (r == -ENXIO)
			return do_without(b, m);
		if (r < 0)
			return log_err(r, "mount %s: cannot open its source on the host, %s",
				       m->e->mountpoint, m->host_path);
	}
	m->fd = sys_open_tree(src, "", OPEN_TREE_CLONE);
	if (m->fd < 0)
		return log_err(m->fd, "mount %s: cannot clone %s", m->e->mountpoint,
			       m->host_path ? m->host_path : m->fstype);
	return 0;
}

/*
 * A host's automount point that is covered by what it brought (systemd's binfmt_misc): no path leads
 * to it but by setting it off again, which fails in a copy of the namespace. What covers it is what
 * counts, and comes into its place.
 */
static bool leave_out_automount(struct builder *b, struct rest_mount *m)
{
	if (strcmp(m->fstype, "autofs") || !is_inherited(m) || !m->parent)
		return false;
	log_warn("mount %s: a covered automount point, left out", m->e->mountpoint);
	m->skipped = true;
	for (size_t i = 0; i < b->mnt->n; i++)
		if (b->mnt->mounts[i].parent == m)
			b->mnt->mounts[i].parent = m->parent;
	return true;
}

static int take_visible(struct builder *b, bool own)
{
	for (size_t i = 0; i < b->mnt->n; i++) {
		struct rest_mount *m = &b->mnt->mounts[i];
		int r;

		if (m->fd >= 0 || m->skipped || m->late || (m->origin == ORIGIN_OWN) != own)
			continue;
		r = take(b, m, false);
		if (r < 0)
			return r;
	}
	return 0;
}

static int last_hidden_first(const void *a, const void *b)
{
	const struct rest_mount *x = *(struct rest_mount *const *)a, *y = *(struct rest_mount *const *)b;

	return (x->hidden < y->hidden) - (x->hidden > y->hidden);
}

/*
 * Covers that are taken away take along what lies on them. So the last comes first: in a copy of a
 * namespace a cover and all on it have their places behind what it covers.
 */
static int take_hidden(struct builder *b)
{
	struct rest_mount **last = arena_alloc(b->a, b->mnt->n * sizeof(*last));
	size_t n = 0;
	int r = 0;

	if (!last)
		return -ENOMEM;
	for (size_t i = 0; i < b->mnt->n; i++)
		if (b->mnt->mounts[i].fd < 0 && !b->mnt->mounts[i].skipped && !b->mnt->mounts[i].late)
			last[n++] = &b->mnt->mounts[i];
	qsort(last, n, sizeof(*last), last_hidden_first);
	for (size_t i = 0; i < n && r >= 0; i++)
		if (!last[i]->skipped && !leave_out_automount(b, last[i]))
			r = take(b, last[i], true);
	return r;
}

/* Host sources in plain sight, then what covers the scratch directory, then the hidden ones. */
static int take_all(struct builder *b)
{
	int r = take_visible(b, false);

	if (r >= 0)
		r = take_visible(b, true);
	return r < 0 ? r : take_hidden(b);
}

/* The new root lies where the chroot was; whoever enters the namespace begins at its top. */
static int move_to_top(struct builder *b, const struct rest_mount *root)
{
	int r = setns(b->own_ns, CLONE_NEWNS) < 0 ? neg_errno() :
		sys_move_mount(root->fd, AT_FDCWD, "/", 0);

	if (r >= 0 && (fchdir(root->fd) < 0 || chroot(".") < 0))
		r = neg_errno();
	return r < 0 ? log_err(r, "cannot move the new root to the top") : 0;
}

static int pivot(struct builder *b, const struct rest_mount *root)
{
	if (fchdir(root->fd) < 0)
		return log_err(neg_errno(), "cannot enter the new root");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return log_err(neg_errno(), "cannot pivot to the new root (it does not work on an "
			       "initramfs: the real root must be / before)");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return log_err(neg_errno(), "cannot leave the old root");
	return b->chrooted ? move_to_top(b, root) : 0;
}

static int attach_all(struct builder *b)
{
	for (size_t i = 0; i < b->mnt->n; i++) {
		const struct rest_mount *m = &b->mnt->mounts[i];
		int r = m->skipped || m->late ? 0 : mount_dress(m);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < b->mnt->n; i++) {
		const struct rest_mount *m = &b->mnt->mounts[i];
		int r = m->skipped || m->late ? 0 : mount_attach(m);

		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * In a distribution's initramfs the engine runs chrooted below mounts that are shared, and
 * pivot_root wants them not to be. Entering a namespace, also one's own, leaves every chroot.
 */
static int cut_from_host(struct builder *b)
{
	_cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statx was, top;

	b->own_ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (root < 0 || b->own_ns < 0 || setns(b->own_ns, CLONE_NEWNS) < 0 ||
	    statx(root, "", AT_EMPTY_PATH, STATX_MNT_ID, &was) < 0 ||
	    statx(AT_FDCWD, "/", 0, STATX_MNT_ID, &top) < 0 ||
	    mount("", "/", "", MS_REC | MS_SLAVE, NULL) < 0 ||
	    fchdir(root) < 0 || chroot(".") < 0)
		return neg_errno();
	b->chrooted = was.stx_mnt_id != top.stx_mnt_id;
	return 0;
}

static int prepare(struct builder *b)
{
	int r;

	b->proc_self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (b->proc_self < 0)
		return log_err(neg_errno(), "cannot open /proc/self");
	if (unshare(CLONE_NEWNS) < 0)
		return log_err(neg_errno(), "cannot make a mount namespace");
	r = cut_from_host(b);
	if (r < 0)
		return log_err(r, "cannot cut the new mount namespace from the host");
	/* The directory as our copy of the namespace has it, not as the host's. */
	b->scratch = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (b->scratch < 0)
		return log_err(neg_errno(), "cannot open /proc");
	r = mountinfo_read(b->a, b->proc_self, &b->host);
	if (r >= 0)
		r = mounts_visible(b->a, &b->host, &b->host_visible);
	if (r < 0)
		return log_err(r, "cannot read the host's mounts");
	return 0;
}

/* What the engine gets: the descriptor's number of each mount, -1 for those left out. */
static int reply_fds(struct builder *b, struct ns_reply *reply)
{
	int *fds = arena_alloc(b->a, b->mnt->n * sizeof(int));

	if (!fds)
		return -ENOMEM;
	for (size_t i = 0; i < b->mnt->n; i++)
		fds[i] = b->mnt->mounts[i].skipped ? -1 : b->mnt->mounts[i].fd;
	reply->data = fds;
	reply->bytes = b->mnt->n * sizeof(int);
	return 0;
}

static int build(void *arg, struct ns_reply *reply)
{
	struct builder *b = arg;
	int r = prepare(b);

	if (r >= 0)
		r = take_all(b);
	if (r >= 0)
		r = attach_all(b);
	if (r >= 0)
		r = pivot(b, &b->mnt->mounts[0]);
	if (r >= 0 && !b->mnt->has_late)
		r = mounts_share(b->mnt);
	return r < 0 ? r : reply_fds(b, reply);
}

int mntns_build(struct restore_ctx *ctx, struct rest_mntns *mnt)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	struct builder b = { .ctx = ctx, .mnt = mnt, .a = &ctx->arena, .proc_self = -EBADF,
			     .scratch = -EBADF, .own_ns = -EBADF };
	int *fds = arena_alloc(&ctx->arena, mnt->n * sizeof(*fds));
	int r;

	if (!fds)
		return log_err(-ENOMEM, "cannot rebuild mounts");
	r = ns_helper_start(&h, build, &b);
	if (r >= 0)
		r = ns_helper_read(&h, fds, mnt->n * sizeof(*fds));
	if (r >= 0)
		r = ns_helper_open(&h, "ns/mnt", &mnt->fd);
	for (size_t i = 0; r >= 0 && i < mnt->n; i++) {
		if (fds[i] < 0)
			mnt->mounts[i].skipped = !mnt->mounts[i].late;
		else
			r = ns_helper_take_fd(&h, fds[i], &mnt->mounts[i].fd);
	}
	if (r < 0)
		return log_err(r, "cannot rebuild the mount namespace %u", mnt->id);
	return 0;
}
