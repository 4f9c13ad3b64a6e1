/*
 * Files without a name, on dump: unlinked but open or mapped.
 *
 *   no name at all       contents and attributes go to ghost-file-N.img, once an inode
 *   another name exists  --link-remap makes a hard link beside the old name for the time
 *
 * Both are announced in remap-fpath.img. Contents are read through a struct file of our own
 * without touching the access time; holes stay holes.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "core/files_dump.h"
#include "kernel/mountinfo.h"
#include "kind/kinds.h"

#define GHOST_LIMIT_DEFAULT	(1ull << 20)
/* From this size on the payload is framed in chunks. */
#define GHOST_CHUNKED_BYTES	12288

struct ghost_seen {
	struct ghost_seen *next;
	dev_t dev;
	uint32_t id;
};

/* ghosts by inode; FIFO, PIPE ... have slots of their own, REG has this one. */
struct ghost_state {
	struct map by_ino;
};

static struct ghost_state *ghost_state(struct dump_ctx *ctx)
{
	struct ghost_state *s = ctx->kind_state[FD_TYPES__REG];

	if (!s)
		s = ctx->kind_state[FD_TYPES__REG] = ARENA_NEW(&ctx->arena, struct ghost_state);
	return s;
}

static int remap_put(struct dump_ctx *ctx, uint32_t orig_id, uint32_t remap_id, RemapType type)
{
	RemapFilePathEntry e = REMAP_FILE_PATH_ENTRY__INIT;
	struct image_writer *w = NULL;
	int r;

	r = dump_writer(ctx, &ctx->w_remap, &image_remap_fpath, &w);
	if (r < 0 || !w)
		return r;
	e.orig_id = orig_id;
	e.remap_id = remap_id;
	e.has_remap_type = true;
	e.remap_type = type;
	r = image_put(w, &e.base);
	return r < 0 ? log_err(r, "cannot write remap-fpath.img") : 0;
}

static int put_bytes(struct image_writer *w, int fd, uint64_t off, uint64_t bytes)
{
	while (bytes) {
		size_t n = (size_t)MIN(bytes, (uint64_t)IMAGE_SPAN_MAX);
		void *room;
		int r;

		r = image_reserve(w, n, &room);
		if (r >= 0)
			r = pread_full(fd, room, n, (off_t)off);
		if (r < 0)
			return r;
		off += n;
		bytes -= n;
	}
	return 0;
}

static int put_chunks(struct image_writer *w, int fd, uint64_t size)
{
	uint64_t off = 0, end;
	int r;

	while ((r = file_next_data(fd, size, &off, &end)) > 0) {
		GhostChunkEntry c = GHOST_CHUNK_ENTRY__INIT;

		c.off = off;
		c.len = end - off;
		r = image_put(w, &c.base);
		if (r >= 0)
			r = put_bytes(w, fd, c.off, c.len);
		if (r < 0)
			return r;
		off = end;
	}
	return r;
}

static int ghost_contents(struct image_writer *w, const struct dump_file *f,
			  const GhostFileEntry *e)
{
	_cleanup_close_ int own = -EBADF;
	int r;

	if (!S_ISREG(f->st.st_mode))
		return 0;
	r = reopen_for_read(f->fd, &own);
	if (r < 0)
		return r;
	return e->chunks ? put_chunks(w, own, e->size) :
			   put_bytes(w, own, 0, (uint64_t)f->st.st_size);
}

static void time_put(Timeval *tv, const struct timespec *ts)
{
	tv->tv_sec = (uint64_t)ts->tv_sec;
	tv->tv_usec = (uint64_t)ts->tv_nsec / 1000;
}

static int ghost_attributes(struct dump_ctx *ctx, const struct dump_file *f, GhostFileEntry *e)
{
	const struct stat *st = &f->st;
	_cleanup_free_ char *target = NULL;
	int r;

	e->uid = dump_uid(ctx, st->st_uid);
	e->gid = dump_gid(ctx, st->st_gid);
	e->mode = st->st_mode;
	e->has_dev = e->has_ino = true;
	e->dev = dev_to_kernel(st->st_dev);
	e->ino = st->st_ino;
	e->has_rdev = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
	if (e->has_rdev)
		e->rdev = dev_to_kernel(st->st_rdev);
	e->atim = ARENA_MSG(&ctx->arena, Timeval, timeval);
	e->mtim = ARENA_MSG(&ctx->arena, Timeval, timeval);
	if (!e->atim || !e->mtim)
		return log_err(-ENOMEM, "%s", f->link);
	time_put(e->atim, &st->st_atim);
	time_put(e->mtim, &st->st_mtim);
	if (S_ISREG(st->st_mode) && st->st_size >= GHOST_CHUNKED_BYTES) {
		e->has_chunks = e->chunks = true;
		e->has_size = true;
		e->size = (uint64_t)st->st_size;
	}
	if (S_ISLNK(st->st_mode)) {
		r = readlink_at(f->fd, "", &target);
		if (r < 0)
			return log_err(r, "cannot read the removed link %s", f->link);
		e->symlnk_target = arena_strdup(&ctx->arena, target);
		return 0;
	}
	r = ghost_xattrs_dump(ctx, f, e);
	return r < 0 ? log_err(r, "cannot read the extended attributes of %s", f->link) : 0;
}

static int ghost_write(struct dump_ctx *ctx, struct dump_file *f, uint32_t ghost_id)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	GhostFileEntry e = GHOST_FILE_ENTRY__INIT;
	int r;

	r = ghost_attributes(ctx, f, &e);
	if (r < 0 || ctx->opts->log_obstacles_only)
		return r;
	r = image_create(ctx->store, &image_ghost_file, &w, (uint64_t)ghost_id);
	if (r >= 0)
		r = image_put(w, &e.base);
	if (r >= 0)
		r = ghost_contents(w, f, &e);
	if (r >= 0)
		r = image_close(take_ptr(w));
	return r < 0 ? log_err(r, "cannot save the contents of %s", f->link) : 0;
}

static int ghost_limit_check(struct dump_ctx *ctx, const struct dump_file *f)
{
	uint64_t limit = ctx->opts->ghost_limit_bytes;
	uint64_t bytes = (uint64_t)f->st.st_blocks * 512;
	char remedy[128];

	if (!limit)
		limit = GHOST_LIMIT_DEFAULT;
	if (!S_ISREG(f->st.st_mode) || bytes <= limit)
		return 0;
	snprintf(remedy, sizeof(remedy), "--ghost-limit %llu or more saves it",
		 (unsigned long long)bytes);
	return log_obstacle(remedy, "%s: %llu bytes of a removed file, more than the limit of %llu",
			    f->link, (unsigned long long)bytes, (unsigned long long)limit);
}

int ghost_dump(struct dump_ctx *ctx, struct dump_file *f, uint32_t id)
{
	struct ghost_state *s = ghost_state(ctx);
	struct ghost_seen *head, *n;
	int r;

	head = s ? map_get(&s->by_ino, f->st.st_ino) : NULL;
	for (n = head; n; n = n->next)
		if (n->dev == f->st.st_dev)
			return remap_put(ctx, id, n->id, REMAP_TYPE__GHOST);
	r = ghost_limit_check(ctx, f);
	if (r < 0)
		return r;
	n = s ? ARENA_NEW(&ctx->arena, struct ghost_seen) : NULL;
	if (!n)
		return log_err(-ENOMEM, "%s", f->link);
	if (!ctx->next_ghost_id)
		ctx->next_ghost_id = 1;
	*n = (struct ghost_seen){ head, f->st.st_dev, ctx->next_ghost_id++ };
	r = map_put(&s->by_ino, f->st.st_ino, n);
	if (r < 0)
		return log_err(r, "%s", f->link);
	r = ghost_write(ctx, f, n->id);
	return r < 0 ? r : remap_put(ctx, id, n->id, REMAP_TYPE__GHOST);
}

/* Remembers the link, so that a dump that fails or leaves the tree running takes it away. */
static int link_note(struct dump_ctx *ctx, int dir_fd, const char *name)
{
	struct files_state *s = dump_files_state(ctx);
	struct made_link *l = s ? ARENA_NEW(&ctx->arena, struct made_link) : NULL;

	if (!l)
		return -ENOMEM;
	*l = (struct made_link){ s->made_links, dir_fd, name };
	s->made_links = l;
	return 0;
}

static int link_make(struct dump_ctx *ctx, struct dump_file *f, const char *dir, const char *name)
{
	_cleanup_close_ int dir_fd = -EBADF;
	char self[48];
	int r;

	r = dump_open_dir(f->owner, dir, f->mnt_id, &dir_fd);
	if (r < 0)
		return r;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
	/* A dump that was killed here before has left its link. */
	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return neg_errno();
	if (linkat(AT_FDCWD, self, dir_fd, name, AT_SYMLINK_FOLLOW) < 0)
		return neg_errno();
	r = link_note(ctx, dir_fd, name);
	if (r >= 0)
		dir_fd = -EBADF;
	return r;
}

int link_remap_dump(struct dump_ctx *ctx, struct dump_file *f, uint32_t id, const char *path)
{
	FileEntry *fe = ARENA_MSG(&ctx->arena, FileEntry, file_entry);
	const char *slash = strrchr(path, '/');
	char *dir, *name;
	int r;

	if (!ctx->opts->link_remap)
		return log_obstacle("--link-remap keeps it", "%s: its name is gone, other hard"
				    " links of the file exist", f->link);
	dir = arena_strndup(&ctx->arena, path, slash == path ? 1 : (size_t)(slash - path));
	if (!fe || !dir)
		return log_err(-ENOMEM, "%s", f->link);
	fe->id = dump_file_new_id(ctx);
	fe->type = FD_TYPES__REG;
	name = arena_printf(&ctx->arena, "link_remap.%u", fe->id);
	fe->reg = ARENA_MSG(&ctx->arena, RegFileEntry, reg_file_entry);
	if (!name || !fe->reg)
		return log_err(-ENOMEM, "%s", f->link);
	fe->reg->id = fe->id;
	fe->reg->flags = f->flags;
	fe->reg->name = path_join(&ctx->arena, dir, name);
	fe->reg->has_mode = true;
	fe->reg->mode = f->st.st_mode;
	fe->reg->fown = ARENA_MSG(&ctx->arena, FownEntry, fown_entry);
	if (!fe->reg->name || !fe->reg->fown)
		return log_err(-ENOMEM, "%s", f->link);
	if (ctx->mntns_dumped && f->mnt_id >= 0) {
		fe->reg->has_mnt_id = true;
		fe->reg->mnt_id = f->mnt_id;
	}
	if (ctx->opts->log_obstacles_only)
		return 0;
	r = link_make(ctx, f, dir, name);
	if (r < 0)
		return log_err(r, "cannot make the hard link %s", fe->reg->name);
	r = dump_file_put(ctx, fe);
	return r < 0 ? r : remap_put(ctx, id, fe->id, REMAP_TYPE__LINKED);
}

void ghost_dump_done(struct dump_ctx *ctx)
{
	struct ghost_state *s = ctx->kind_state[FD_TYPES__REG];

	if (s)
		map_done(&s->by_ino);
}
