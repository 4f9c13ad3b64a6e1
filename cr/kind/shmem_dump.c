/*
 * Contents of a shared memory object → memfd.img, pagemap-shmem-N.img, pages-N.img.
 *
 * Reading goes through a struct file of our own, or the target's position would move.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <linux/memfd.h>

#include "image/pages.h"
#include "kind/shmem.h"

#define SHMID_NOT_SYSV	0x80000000u

struct shmem_seen {
	struct shmem_seen *next;
	dev_t dev;
	uint32_t inode_id;
};

struct shmem_dump_state {
	struct map by_ino;		/* struct shmem_seen *, chained */
	struct map shmids;		/* numbers of pagemap-shmem-N in use */
	struct image_writer *w;
	uint32_t next_id;
};

static struct shmem_dump_state *shmem_state(struct dump_ctx *ctx)
{
	struct shmem_dump_state *s = ctx->kind_state[FD_TYPES__MEMFD];

	if (!s)
		s = ctx->kind_state[FD_TYPES__MEMFD] = ARENA_NEW(&ctx->arena,
								 struct shmem_dump_state);
	return s;
}

static int contents_dump(struct dump_ctx *ctx, int fd, const MemfdInodeEntry *e,
			 uint64_t huge_bytes)
{
	_cleanup_pagemap_writer_ struct pagemap_writer w = { 0 };
	_cleanup_close_ int own = -EBADF;
	int r;

	r = reopen_for_read(fd, &own);
	if (r < 0)
		return log_err(r, "cannot open %s for reading", e->name);
	r = pagemap_create(ctx->store, &image_pagemap_shmem, e->shmid,
			   ++ctx->next_pages_id, &w);
	if (r < 0)
		return log_err(r, "cannot create pagemap-shmem-%u.img", e->shmid);
	r = huge_bytes ? pages_put_huge_file(&w, own, e->size, huge_bytes) :
			 pages_put_file(&w, own, e->size);
	if (r < 0)
		return log_err(r, "cannot save the contents of %s", e->name);
	ctx->stats.pages_written += w.pages_written;
	r = pagemap_close(&w);
	return r < 0 ? log_err(r, "cannot write the contents of %s", e->name) : 0;
}

/*
 * Inode numbers are 64 bits wide, the image's are 32, and must not meet; nor System V segments,
 * whose ids are the lower half.
 */
static int shmid_new(struct shmem_dump_state *s, uint64_t ino, uint32_t *ret)
{
	uint32_t id = (uint32_t)ino | SHMID_NOT_SYSV;

	while (map_get(&s->shmids, id))
		id = (id + 1) | SHMID_NOT_SYSV;
	*ret = id;
	return map_put(&s->shmids, id, s);
}

static int inode_entry(struct dump_ctx *ctx, int fd, const struct stat *st, MemfdInodeEntry *e,
		       uint64_t *ret_huge)
{
	struct statfs fs;
	int seals = fcntl(fd, F_GET_SEALS);

	if (fstatfs(fd, &fs) < 0)
		return log_err(neg_errno(), "statfs");
	/* A file reached through a mapping (O_PATH) is asked through a descriptor of its own. */
	if (seals < 0) {
		_cleanup_close_ int own = -EBADF;
		int r = reopen_for_read(fd, &own);

		if (r < 0)
			return log_err(r, "cannot open it for reading");
		seals = fcntl(own, F_GET_SEALS);
		if (seals < 0)
			return log_err(neg_errno(), "cannot read its seals");
	}
	e->seals = (uint32_t)seals;
	e->uid = dump_uid(ctx, st->st_uid);
	e->gid = dump_gid(ctx, st->st_gid);
	e->size = (uint64_t)st->st_size;
	e->has_mode = true;
	e->mode = st->st_mode;
	*ret_huge = 0;
	if (fs.f_type == HUGETLBFS_MAGIC) {
		*ret_huge = (uint64_t)fs.f_bsize;
		e->has_hugetlb_flag = true;
		e->hugetlb_flag = MFD_HUGETLB |
				  (uint32_t)__builtin_ctzll(*ret_huge) << MFD_HUGE_SHIFT;
	}
	return 0;
}

static int inode_dump(struct dump_ctx *ctx, int fd, const struct stat *st, const char *name,
		      struct shmem_dump_state *s, uint32_t *ret_inode_id)
{
	MemfdInodeEntry e = MEMFD_INODE_ENTRY__INIT;
	uint64_t huge_bytes = 0;
	int r;

	LOG_SCOPE("%s", name);
	r = inode_entry(ctx, fd, st, &e, &huge_bytes);
	if (r < 0)
		return r;
	r = shmid_new(s, st->st_ino, &e.shmid);
	if (r < 0)
		return log_err(r, "cannot number it");
	e.name = (char *)name;
	e.inode_id = ++s->next_id;
	*ret_inode_id = s->next_id;
	if (ctx->opts->log_obstacles_only)
		return 0;
	if (!s->w)
		r = image_create(ctx->store, &image_memfd, &s->w);
	if (r >= 0)
		r = image_put(s->w, &e.base);
	if (r < 0)
		return log_err(r, "cannot write memfd.img");
	return contents_dump(ctx, fd, &e, huge_bytes);
}

int shmem_dump_inode(struct dump_ctx *ctx, int fd, const struct stat *st, const char *name,
		     uint32_t *ret_inode_id)
{
	struct shmem_dump_state *s = shmem_state(ctx);
	struct shmem_seen *head, *n;
	int r;

	head = s ? map_get(&s->by_ino, st->st_ino) : NULL;
	for (n = head; n; n = n->next) {
		if (n->dev != st->st_dev)
			continue;
		*ret_inode_id = n->inode_id;
		return 0;
	}
	n = s ? ARENA_NEW(&ctx->arena, struct shmem_seen) : NULL;
	if (!n)
		return log_err(-ENOMEM, "%s", name);
	r = inode_dump(ctx, fd, st, name, s, ret_inode_id);
	if (r < 0)
		return r;
	*n = (struct shmem_seen){ head, st->st_dev, *ret_inode_id };
	r = map_put(&s->by_ino, st->st_ino, n);
	return r < 0 ? log_err(r, "%s", name) : 0;
}

int shmem_dump_end(struct dump_ctx *ctx)
{
	struct shmem_dump_state *s = shmem_state(ctx);
	int r = s ? image_close(take_ptr(s->w)) : 0;

	return r < 0 ? log_err(r, "cannot write memfd.img") : 0;
}

void shmem_dump_done(struct dump_ctx *ctx)
{
	struct shmem_dump_state *s = ctx->kind_state[FD_TYPES__MEMFD];

	if (!s)
		return;
	image_abandonp(&s->w);
	map_done(&s->by_ino);
	map_done(&s->shmids);
}
