/*
 * Mounts that show one terminal of a devpts of the tree's own, as runtimes make /dev/console of a
 * container's terminal.
 *
 *   dump     the terminal must be one that is saved: kind/tty_judge.c asks for all of them
 *   restore  a terminal's node is there when the terminal is, which is after the mounts; so these
 *            come then, and what is shared becomes so only after them
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "kernel/stat.h"
#include "ns/mountapi.h"
#include "ns/state.h"

bool mount_shows_terminal(const char *fstype, const char *root, uint32_t *ret_index)
{
	return !strcmp(fstype, "devpts") && *root == '/' && parse_u32(root + 1, 10, ret_index) >= 0;
}

static bool is_terminal(const struct dump_mount *d, uint32_t *ret_index)
{
	return d->origin == ORIGIN_OWN && mount_shows_terminal(d->m->fstype, d->m->root, ret_index);
}

static bool is_whole_devpts(const struct dump_mount *d, uint32_t dev)
{
	return d->m->dev == dev && d->origin == ORIGIN_OWN && !strcmp(d->m->fstype, "devpts") &&
	       !strcmp(d->m->root, "/");
}

static bool has_whole_devpts(const struct dump_mntns *mnt, uint32_t dev)
{
	for (size_t i = 0; i < mnt->table.n; i++)
		if (is_whole_devpts(&mnt->mounts[i], dev))
			return true;
	return false;
}

static int check_one(const struct dump_mntns *mnt, const struct dump_mount *d)
{
	uint32_t index;

	if (!has_whole_devpts(mnt, d->m->dev))
		return log_obstacle("unmount it", "mount %s shows a terminal of a devpts that is not mounted",
				    d->m->mountpoint);
	for (size_t i = 0; i < mnt->table.n; i++)
		if (mnt->mounts[i].m->parent_id == d->m->id && !is_terminal(&mnt->mounts[i], &index))
			return log_obstacle("unmount it", "mount %s lies on one that shows a terminal",
					    d->m->mountpoint);
	return 0;
}

int mounts_check_terminals(const struct dump_mntns *mnt)
{
	uint32_t index;
	int ret = 0;

	for (size_t i = 0; i < mnt->table.n; i++) {
		int r = is_terminal(&mnt->mounts[i], &index) ? check_one(mnt, &mnt->mounts[i]) : 0;

		ret = r < 0 ? r : ret;
	}
	return ret;
}

int ns_list_terminals(struct dump_ctx *ctx, ns_terminal_fn fn, void *arg)
{
	const struct ns_dump *ns = ctx->ns_state;
	int ret = 0;

	for (size_t k = 0; ns && k < ns->n_mntns; k++) {
		for (size_t i = 0; i < ns->mntns[k].table.n; i++) {
			const struct dump_mount *d = &ns->mntns[k].mounts[i];
			uint32_t index;
			int r = 0;

			if (is_terminal(d, &index))
				r = fn(arg, d->m->mountpoint, dev_of_kernel(d->m->dev), index);
			ret = r < 0 ? r : ret;
		}
	}
	return ret;
}

bool ns_dump_is_own_devpts(struct dump_ctx *ctx, int mnt_id)
{
	const struct ns_dump *ns = ctx->ns_state;

	for (size_t k = 0; ns && k < ns->n_mntns; k++) {
		const struct mount *m = mount_by_id(&ns->mntns[k].table, mnt_id);

		if (m)
			return has_whole_devpts(&ns->mntns[k], m->dev);
	}
	return false;
}

static const struct rest_mount *whole_devpts(const struct rest_mntns *mnt, uint32_t dev)
{
	for (size_t i = 0; i < mnt->n; i++) {
		const struct rest_mount *m = &mnt->mounts[i];

		if (m->e->root_dev == dev && m->origin == ORIGIN_OWN && !strcmp(m->fstype, "devpts") &&
		    !strcmp(m->e->root, "/"))
			return m;
	}
	return NULL;
}

static int find_late(struct rest_mntns *mnt, struct rest_mount *m)
{
	uint32_t index;

	m->late = m->origin == ORIGIN_OWN && mount_shows_terminal(m->fstype, m->e->root, &index);
	if (m->late && (!m->parent || !whole_devpts(mnt, m->e->root_dev)))
		return log_fail(-EBADMSG, "mount %s: it shows a terminal of a devpts that is not there",
				m->e->mountpoint);
	if (!m->late && m->parent && m->parent->late)
		return log_fail(-EOPNOTSUPP, "mount %s: it lies on one that shows a terminal",
				m->e->mountpoint);
	mnt->has_late |= m->late;
	return 0;
}

int mounts_find_late(struct rest_mntns *mnt)
{
	int r = 0;

	/* Parents come first. */
	for (size_t i = 0; r >= 0 && i < mnt->n; i++)
		r = find_late(mnt, &mnt->mounts[i]);
	return r;
}

static int place_one(const struct rest_mntns *mnt, struct rest_mount *m)
{
	const struct rest_mount *whole = whole_devpts(mnt, m->e->root_dev);
	_cleanup_close_ int node = -EBADF;
	int r;

	node = open_on_mount(whole->fd, m->e->root + 1, O_PATH | O_NOFOLLOW);
	if (node < 0)
		return log_err(node, "mount %s: no terminal %s has been restored", m->e->mountpoint,
			       m->e->root + 1);
	m->fd = sys_open_tree(node, "", OPEN_TREE_CLONE);
	if (m->fd < 0)
		return log_err(m->fd, "mount %s: cannot clone terminal %s", m->e->mountpoint,
			       m->e->root + 1);
	r = mount_dress(m);
	return r < 0 ? r : mount_attach(m);
}

struct placing {
	struct rest_mntns *mnt;
	int *fds;			/* reply: of those that came now, else -1 */
};

static int place_all(void *arg, struct ns_reply *reply)
{
	struct placing *a = arg;
	int r = setns(a->mnt->fd, CLONE_NEWNS) < 0 ? neg_errno() : 0;

	for (size_t i = 0; r >= 0 && i < a->mnt->n; i++) {
		struct rest_mount *m = &a->mnt->mounts[i];

		a->fds[i] = -1;
		m->skipped |= m->late && m->parent->skipped;
		if (!m->late || m->skipped)
			continue;
		r = place_one(a->mnt, m);
		a->fds[i] = m->fd;
	}
	if (r >= 0)
		r = mounts_share(a->mnt);
	reply->data = a->fds;
	reply->bytes = a->mnt->n * sizeof(*a->fds);
	return r;
}

static int place_in(struct restore_ctx *ctx, struct rest_mntns *mnt)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	int *fds = arena_alloc(&ctx->arena, mnt->n * sizeof(*fds));
	struct placing a = { mnt, fds };
	int r = fds ? ns_helper_start(&h, place_all, &a) : -ENOMEM;

	if (r >= 0)
		r = ns_helper_read(&h, fds, mnt->n * sizeof(*fds));
	for (size_t i = 0; r >= 0 && i < mnt->n; i++) {
		struct rest_mount *m = &mnt->mounts[i];

		if (!m->late)
			continue;
		if (fds[i] < 0)
			m->skipped = true;
		else
			r = ns_helper_take_fd(&h, fds[i], &m->fd);
	}
	return r < 0 ? log_err(r, "cannot mount terminals in the mount namespace %u", mnt->id) : 0;
}

int ns_restore_terminals(struct restore_ctx *ctx)
{
	struct ns_restore *ns = ctx->ns_state;
	int r = 0;

	for (size_t k = 0; r >= 0 && ns && k < ns->n_mntns; k++)
		if (ns->mntns[k].has_late)
			r = place_in(ctx, &ns->mntns[k]);
	return r;
}

const MntEntry *ns_restore_own_devpts(struct restore_ctx *ctx, int mnt_id)
{
	struct ns_restore *ns = ctx->ns_state;
	const struct rest_mount *whole, *m = NULL;

	if (ns && mnt_id > 0)
		m = map_get(&ns->mount_by_id, (uint64_t)mnt_id);
	for (size_t k = 0; m && k < ns->n_mntns; k++) {
		const struct rest_mntns *mnt = &ns->mntns[k];

		if (m < mnt->mounts || m >= mnt->mounts + mnt->n)
			continue;
		whole = whole_devpts(mnt, m->e->root_dev);
		return whole && !whole->skipped ? whole->e : NULL;
	}
	return NULL;
}
