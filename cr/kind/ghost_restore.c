/*
 * Files without a name, on restore: remap-fpath.img, ghost-file-N.img, helper hard links.
 *
 * A ghost is created under the name it had (or beside it, when that is taken), opened and
 * unlinked at once, then filled: a crash leaves at most an empty file for microseconds. Every
 * user then opens it through /proc/self/fd with its own flags, and sees the old name with
 * " (deleted)" as before. Where the file system is read-only in the tree's view (a library
 * that a package upgrade replaced), the host's view is tried, then memory.
 *
 * One from O_TMPFILE is made so again, for only such a one can be given a name by linkat(2). It cannot
 * be opened like that twice: the file that made it is its user's, too.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/files_restore.h"
#include "kernel/mountinfo.h"
#include "kind/ghost_restore.h"
#include "ns/ns.h"

struct ghost {
	struct ghost *next;
	uint32_t id;
	int fd;			/* the unlinked file, O_PATH or by O_TMPFILE; -EBADF before it is made */
	const RegFileEntry *tmpfile;	/* the one of its files that comes from O_TMPFILE */
};

struct remap {
	struct remap *next;
	uint32_t orig_id;
	struct ghost *ghost;
	const RegFileEntry *link;	/* LINKED: the helper's entry */
};

struct remap_state {
	struct map by_orig, ghosts;
	struct ghost *ghost_list;
	struct remap *list;
};

static struct remap_state *remap_state(struct restore_ctx *ctx)
{
	struct remap_state *s = ctx->kind_state[FD_TYPES__REG];

	if (!s)
		s = ctx->kind_state[FD_TYPES__REG] = ARENA_NEW(&ctx->arena, struct remap_state);
	return s;
}

static int ghost_note(struct restore_ctx *ctx, struct remap_state *s, struct remap *m,
		      uint32_t id)
{
	struct ghost *g = map_get(&s->ghosts, id);
	int r;

	if (!g) {
		g = ARENA_NEW(&ctx->arena, struct ghost);
		if (!g)
			return -ENOMEM;
		*g = (struct ghost){ s->ghost_list, id, -EBADF, NULL };
		s->ghost_list = g;
		/* Ids from 1 are common, 0 is none's: map keys may be anything. */
		r = map_put(&s->ghosts, id, g);
		if (r < 0)
			return r;
	}
	m->ghost = g;
	return 0;
}

static int remap_note(struct restore_ctx *ctx, struct remap_state *s, const RemapFilePathEntry *e)
{
	struct remap *m = ARENA_NEW(&ctx->arena, struct remap);
	struct restore_file *orig = restore_file_find(ctx, e->orig_id), *helper;
	RemapType type = e->remap_type;
	uint32_t id = e->remap_id;
	int r = 0;

	/* Old images mark ghosts by the highest bit. */
	if (!e->has_remap_type && e->remap_id & 1u << 31) {
		type = REMAP_TYPE__GHOST;
		id &= ~(1u << 31);
	} else if (!e->has_remap_type) {
		type = REMAP_TYPE__LINKED;
	}

	if (!m)
		return log_err(-ENOMEM, "remap-fpath.img");
	if (!orig || map_get(&s->by_orig, e->orig_id))
		return log_fail(-EBADMSG, "remap-fpath.img: file %u is missing or remapped twice",
				e->orig_id);
	m->orig_id = e->orig_id;
	switch (type) {
	case REMAP_TYPE__GHOST:
		r = ghost_note(ctx, s, m, id);
		if (r >= 0 && orig->fe->type == FD_TYPES__REG &&
		    (orig->fe->reg->flags & O_TMPFILE) == O_TMPFILE)
			m->ghost->tmpfile = orig->fe->reg;
		break;
	case REMAP_TYPE__LINKED:
		helper = restore_file_find(ctx, id);
		if (!helper || helper->fe->type != FD_TYPES__REG || id == e->orig_id)
			return log_fail(-EBADMSG, "remap-fpath.img: file %u leads to %u, which is"
					" no path", e->orig_id, id);
		m->link = helper->fe->reg;
		break;
	default:
		return log_fail(-EOPNOTSUPP, "file %u is in /proc of a process that had ended",
				e->orig_id);
	}
	if (r >= 0)
		r = map_put(&s->by_orig, e->orig_id, m);
	if (r < 0)
		return log_err(r, "remap-fpath.img");
	m->next = s->list;
	s->list = m;
	return 0;
}

int remap_load(struct restore_ctx *ctx)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	struct remap_state *s = remap_state(ctx);
	RemapFilePathEntry *e;
	int r, k;

	if (!s)
		return log_err(-ENOMEM, "remap-fpath.img");
	r = image_open_optional(ctx->store, &image_remap_fpath, &rd);
	if (r < 0)
		return log_err(r, "cannot open remap-fpath.img");
	while ((r = image_get(&rd, &ctx->arena, remap_file_path_entry, &e)) > 0) {
		k = remap_note(ctx, s, e);
		if (k < 0)
			return k;
	}
	return r;
}

struct remap *remap_find(struct restore_ctx *ctx, uint32_t id)
{
	struct remap_state *s = remap_state(ctx);

	return s ? map_get(&s->by_orig, id) : NULL;
}

static int linked_open(struct restore_ctx *ctx, struct remap *m, int flags, int *ret_fd)
{
	int r = restore_open(ctx, m->link->name, m->link->has_mnt_id ? m->link->mnt_id : -1, flags,
			     ret_fd);

	return r < 0 ? log_err(r, "cannot open the helper link %s", m->link->name) : 0;
}

bool remap_is_ghost(const struct remap *m)
{
	return m && m->ghost;
}

/* What of a file's flags open(2) takes beside O_TMPFILE; 0: it comes from somewhere else. */
static int tmpfile_flags(const RegFileEntry *e)
{
	uint32_t known = O_ACCMODE | O_APPEND | O_DIRECT | O_DSYNC | O_SYNC | O_NOATIME | O_LARGEFILE |
			 O_NOFOLLOW | O_NONBLOCK;

	if (!e || (e->flags & O_ACCMODE) == O_RDONLY)
		return 0;
	return (int)(e->flags & known) | O_TMPFILE | O_CLOEXEC;
}

static int ghost_get(struct restore_ctx *ctx, struct ghost *g, const RegFileEntry *e)
{
	return g->fd >= 0 ? 0 : ghost_make(ctx, e, g->id, tmpfile_flags(g->tmpfile), &g->fd);
}

static bool is_tmpfile(const struct ghost *g)
{
	int flags = fcntl(g->fd, F_GETFL);

	return flags >= 0 && (flags & O_TMPFILE) == O_TMPFILE;
}

int remap_take_tmpfile(struct restore_ctx *ctx, struct remap *m, const RegFileEntry *e, int *ret_fd)
{
	int r;

	if (!m || !m->ghost || m->ghost->tmpfile != e)
		return 0;
	r = ghost_get(ctx, m->ghost, e);
	if (r < 0 || !is_tmpfile(m->ghost))
		return r;
	*ret_fd = fcntl(m->ghost->fd, F_DUPFD_CLOEXEC, 3);
	return *ret_fd < 0 ? log_err(neg_errno(), "cannot take %s", e->name) : 1;
}

int remap_open(struct restore_ctx *ctx, struct remap *m, const RegFileEntry *e, int flags,
	       int *ret_fd)
{
	int r;

	if (m->link)
		return linked_open(ctx, m, flags, ret_fd);
	r = ghost_get(ctx, m->ghost, e);
	if (r < 0)
		return r;
	/* A removed symbolic link cannot be opened again: the O_PATH descriptor itself. */
	if (is_tmpfile(m->ghost)) {
		r = reopen_fd(m->ghost->fd, flags & ~O_NOFOLLOW, ret_fd);
	} else if (flags & O_NOFOLLOW) {
		*ret_fd = fcntl(m->ghost->fd, F_DUPFD_CLOEXEC, 3);
		r = *ret_fd < 0 ? neg_errno() : 0;
	} else {
		r = reopen_fd(m->ghost->fd, flags, ret_fd);
	}
	return r < 0 ? log_err(r, "cannot open ghost file %x of %s", m->ghost->id, e->name) : 0;
}

/* The helper's name has done its work once the tree runs; a restore that failed may be tried again. */
static void link_remove(struct restore_ctx *ctx, struct remap *m)
{
	_cleanup_free_ char *dir = strdup(m->link->name);
	_cleanup_close_ int dir_fd = -EBADF;
	char *slash = dir ? strrchr(dir, '/') : NULL;
	int r;

	if (!slash)
		return;
	*slash = '\0';
	r = restore_open(ctx, *dir ? dir : "/", m->link->has_mnt_id ? m->link->mnt_id : -1,
			 O_PATH | O_DIRECTORY, &dir_fd);
	/* Several files may have shared it. */
	if (r < 0 || (unlinkat(dir_fd, slash + 1, 0) < 0 && errno != ENOENT))
		log_warn("cannot remove the helper link %s", m->link->name);
}

void remap_done(struct restore_ctx *ctx)
{
	struct remap_state *s = ctx->kind_state[FD_TYPES__REG];

	if (!s)
		return;
	for (struct remap *m = ctx->failed ? NULL : s->list; m; m = m->next)
		if (m->link && restore_file_find(ctx, m->orig_id)->fd >= 0)
			link_remove(ctx, m);
	for (struct ghost *g = s->ghost_list; g; g = g->next) {
		close_fdp(&g->fd);
		g->fd = -EBADF;
	}
	map_done(&s->by_orig);
	map_done(&s->ghosts);
}
