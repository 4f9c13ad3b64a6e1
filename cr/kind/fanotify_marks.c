/*
 * Marks of a fanotify group: on an inode (found as an inotify watch's, watched.c), on a mount, on a
 * file system (by one of its mounts). CRIU's format has no marks of the last kind.
 *
 * The one trap: FAN_EVENT_ON_CHILD in the mask of what is no directory is the kernel's own, and
 * not every group may ask for it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>

#include "core/files_dump.h"
#include "kernel/mountinfo.h"
#include "kind/fanotify.h"
#include "ns/ns.h"

#define MARK_FLAGS (FAN_MARK_IGNORED_SURV_MODIFY | FAN_MARK_EVICTABLE | FAN_MARK_IGNORE)
#define REMEDY "have the program remove the mark before"

/* A directory that is on m as the process sees it, and not on what covers it. */
static bool mount_is_reachable(struct dump_process *p, const struct mount *m)
{
	_cleanup_close_ int fd = -EBADF;
	struct statx stx;

	if (dump_open_dir(p, m->mountpoint, m->id, &fd) < 0)
		return false;
	/* In a namespace of its own it may be a copy of the mount. */
	return !statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &stx) &&
	       (stx.stx_mnt_id == (uint64_t)m->id || ns_dump_mount_is_known(p->ctx, m->id));
}

/* The mount that is marked, or one of the marked file system: best of all one that shows it whole. */
static const struct mount *mount_find(struct dump_ctx *ctx, struct dump_process *p,
				      const struct fanotify_line *l)
{
	const struct mount_table *t = watched_mounts(ctx, p);
	const struct mount *found = NULL;

	for (size_t i = 0; t && i < t->n; i++) {
		const struct mount *m = &t->mounts[i];
		bool whole = !strcmp(m->root, "/");

		if (l->object == FANOTIFY_MOUNT ? (uint32_t)m->id != l->mnt_id :
						  m->dev != l->inode.sdev || (found && !whole))
			continue;
		if (!mount_is_reachable(p, m))
			continue;
		found = m;
		if (whole)
			break;
	}
	return found;
}

static int mount_put(struct dump_ctx *ctx, struct dump_process *p, const struct fanotify_line *l,
		     FanotifyMarkEntry *e)
{
	FanotifyMountMarkEntry *me;
	const struct mount *m = mount_find(ctx, p, l);

	if (!m && l->object == FANOTIFY_MOUNT)
		return log_obstacle(REMEDY, "fanotify: a mark on mount %u, which cannot be found or is covered",
				    l->mnt_id);
	if (!m)
		return log_obstacle(REMEDY, "fanotify: a mark on the file system of device %u:%u, which is"
				    " mounted nowhere here", l->inode.sdev >> 20, l->inode.sdev & 0xfffff);
	me = ARENA_MSG(&ctx->arena, FanotifyMountMarkEntry, fanotify_mount_mark_entry);
	if (!me)
		return log_err(-ENOMEM, "fanotify");
	e->type = MARK_TYPE__MOUNT;
	e->s_dev = m->dev;
	e->me = me;
	me->mnt_id = (uint32_t)m->id;
	me->path = (char *)m->mountpoint;
	return 0;
}

static int inode_put(struct dump_ctx *ctx, struct dump_file *f, const struct fanotify_line *l,
		     FanotifyMarkEntry *e)
{
	e->type = MARK_TYPE__INODE;
	e->s_dev = l->inode.sdev;
	e->ie = ARENA_MSG(&ctx->arena, FanotifyInodeMarkEntry, fanotify_inode_mark_entry);
	if (!e->ie)
		return log_err(-ENOMEM, "fanotify");
	e->ie->i_ino = l->inode.ino;
	return watched_dump(ctx, f, "fanotify mark", &l->inode, &e->ie->f_handle);
}

static int mark_dump(struct dump_ctx *ctx, struct dump_file *f, FanotifyFileEntry *e,
		     const struct fanotify_line *l)
{
	FanotifyMarkEntry *m = ARENA_MSG(&ctx->arena, FanotifyMarkEntry, fanotify_mark_entry), **slot;

	if (l->object == FANOTIFY_MNTNS)
		return log_obstacle(REMEDY, "fanotify: a mark on a mount namespace");
	slot = l->object == FANOTIFY_FILESYSTEM ? ARENA_PUSH(&ctx->arena, e->fs_mark, e->n_fs_mark) :
						  ARENA_PUSH(&ctx->arena, e->mark, e->n_mark);
	if (!m || !slot)
		return log_err(-ENOMEM, "fanotify");
	*slot = m;
	m->id = e->id;
	m->mflags = l->mflags;
	m->mask = l->mask;
	m->ignored_mask = l->ignored_mask;
	return l->object == FANOTIFY_INODE ? inode_put(ctx, f, l, m) : mount_put(ctx, f->owner, l, m);
}

int fanotify_marks_dump(struct dump_ctx *ctx, struct dump_file *f, FanotifyFileEntry *e)
{
	const char *line = f->fdinfo;
	struct fanotify_line l;
	int r;

	while ((line = fanotify_next_mark(line))) {
		r = fanotify_line_parse(line, &l);
		if (r < 0)
			return log_err(r, "fanotify: fdinfo line \"%.80s\" cannot be understood", line);
		/* Nothing of it is left since its inode was written to. */
		if (!l.mask && !l.ignored_mask)
			continue;
		r = dump_files_obstacle(ctx, mark_dump(ctx, f, e, &l));
		if (r < 0)
			return r;
	}
	return 0;
}

static int mark_open(struct restore_ctx *ctx, const FanotifyMarkEntry *m, int *ret_fd)
{
	struct statx stx;
	int r;

	if (m->type == MARK_TYPE__INODE)
		return watched_open(ctx, m->ie->f_handle, m->s_dev, m->ie->i_ino, ret_fd);
	r = restore_open(ctx, m->me->path, (int)m->me->mnt_id, O_PATH | O_DIRECTORY, ret_fd);
	if (r < 0)
		return log_err(r, "cannot open mount %s", m->me->path);
	if (statx(*ret_fd, "", AT_EMPTY_PATH, 0, &stx) < 0)
		return log_err(neg_errno(), "cannot look at %s", m->me->path);
	if (!(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return log_fail(-ENOENT, "nothing is mounted on %s", m->me->path);
	return 0;
}

static int mark_check(struct restore_ctx *ctx, const FanotifyMarkEntry *m, uint32_t type _unused_,
		      int group _unused_)
{
	_cleanup_close_ int target = -EBADF;

	if (m->mflags & ~(uint32_t)MARK_FLAGS || !(m->mask | m->ignored_mask))
		return log_fail(-EBADMSG, "a mark with flags %x and masks %x, %x", m->mflags, m->mask,
				m->ignored_mask);
	if (m->type == MARK_TYPE__INODE ? !m->ie : m->type != MARK_TYPE__MOUNT || !m->me || !m->me->path)
		return log_fail(-EBADMSG, "a mark of type %d without its object", (int)m->type);
	if ((m->mask | m->ignored_mask) & FANOTIFY_VERDICT_MASK)
		return log_fail(-EOPNOTSUPP, "a mark that asks for permission (mask %x): what the restore opens"
				" would wait for it", m->mask | m->ignored_mask);
	return mark_open(ctx, m, &target);
}

/* type: FAN_MARK_INODE, FAN_MARK_MOUNT or FAN_MARK_FILESYSTEM. */
static int mark_add(struct restore_ctx *ctx, const FanotifyMarkEntry *m, uint32_t type, int group)
{
	_cleanup_close_ int target = -EBADF;
	uint32_t flags = FAN_MARK_ADD | type | (m->mflags & FAN_MARK_EVICTABLE), mask = m->mask, ignore;
	struct stat st;
	char path[48];
	int r = mark_open(ctx, m, &target);

	if (r < 0)
		return r;
	if (fstat(target, &st) < 0)
		return log_err(neg_errno(), "fanotify mark");
	if (type != FAN_MARK_INODE || !S_ISDIR(st.st_mode))
		mask &= ~(uint32_t)FAN_EVENT_ON_CHILD;
	ignore = m->mflags & FAN_MARK_IGNORE ? FAN_MARK_IGNORE : FAN_MARK_IGNORED_MASK;
	ignore |= m->mflags & FAN_MARK_IGNORED_SURV_MODIFY;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", target);
	r = mask ? fanotify_mark(group, flags, mask, AT_FDCWD, path) : 0;
	if (!r && m->ignored_mask)
		r = fanotify_mark(group, flags | ignore, m->ignored_mask, AT_FDCWD, path);
	return r < 0 ? log_err(neg_errno(), "cannot set a fanotify mark with flags %x and masks %x, %x",
			       flags | m->mflags, m->mask, m->ignored_mask) : 0;
}

static int each_mark(struct restore_ctx *ctx, const FanotifyFileEntry *e, int group,
		     int (*fn)(struct restore_ctx *ctx, const FanotifyMarkEntry *m, uint32_t type,
			       int group))
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < e->n_mark; i++)
		r = fn(ctx, e->mark[i], e->mark[i]->type == MARK_TYPE__MOUNT ? FAN_MARK_MOUNT :
		       FAN_MARK_INODE, group);
	for (size_t i = 0; r >= 0 && i < e->n_fs_mark; i++)
		r = e->fs_mark[i]->type == MARK_TYPE__MOUNT ?
		    fn(ctx, e->fs_mark[i], FAN_MARK_FILESYSTEM, group) :
		    log_fail(-EBADMSG, "a mark of a file system by type %d", (int)e->fs_mark[i]->type);
	return r;
}

int fanotify_marks_check(struct restore_ctx *ctx, const FanotifyFileEntry *e)
{
	return each_mark(ctx, e, -1, mark_check);
}

int fanotify_marks_add(struct restore_ctx *ctx, const FanotifyFileEntry *e, int fd)
{
	return each_mark(ctx, e, fd, mark_add);
}
