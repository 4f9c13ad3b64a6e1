/*
 * Shared memory objects made again: memfd.img and their pages.
 *
 * A memfd is memfd_create(2). Shared anonymous memory shows "/dev/zero" in /proc/PID/maps: it
 * is mapped here for a moment and its file taken from /proc/self/map_files, so that it looks,
 * and can be saved, as before.
 */
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "image/pages.h"
#include "kind/shmem.h"
#include "ns/ns.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#define MFD_EXEC 0x0010U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif
#define SEALS_KNOWN (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | \
		     F_SEAL_FUTURE_WRITE | F_SEAL_EXEC)

struct shmem_inode {
	const MemfdInodeEntry *e;
	int fd;
	bool sealed, is_taken;
	struct shmem_inode *next;
};

struct shmem_restore_state {
	struct map by_id;
	struct shmem_inode *inodes;
};

static struct shmem_restore_state *shmem_state(struct restore_ctx *ctx)
{
	struct shmem_restore_state *s = ctx->kind_state[FD_TYPES__MEMFD];

	if (!s)
		s = ctx->kind_state[FD_TYPES__MEMFD] = ARENA_NEW(&ctx->arena,
								 struct shmem_restore_state);
	return s;
}

static bool is_anon(const MemfdInodeEntry *e)
{
	return !strcmp(e->name, SHMEM_ANON_NAME) || !strcmp(e->name, SHMEM_ANON_HUGE_NAME);
}

static uint64_t page_bytes_of(const MemfdInodeEntry *e)
{
	return e->has_hugetlb_flag && e->hugetlb_flag ? huge_page_bytes(e->hugetlb_flag) : PAGE_BYTES;
}

static int inode_check(const MemfdInodeEntry *e)
{
	uint32_t huge_known = MFD_HUGETLB | (uint32_t)MFD_HUGE_MASK << MFD_HUGE_SHIFT;

	if (e->size > INT64_MAX || e->seals & ~(uint32_t)SEALS_KNOWN ||
	    (e->has_mode && e->mode & ~(uint32_t)(S_IFREG | 07777)) ||
	    (e->has_hugetlb_flag && e->hugetlb_flag & ~huge_known) ||
	    (e->has_hugetlb_flag && e->hugetlb_flag && !(e->hugetlb_flag & MFD_HUGETLB)) ||
	    e->size % page_bytes_of(e) > (page_bytes_of(e) == PAGE_BYTES ? PAGE_BYTES : 0) ||
	    !e->inode_id || e->inode_id > UINT32_MAX)
		return log_fail(-EBADMSG, "memfd.img: \"%s\": size, seals or flags out of range",
				e->name);
	return 0;
}

int shmem_prepare(struct restore_ctx *ctx)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	struct shmem_restore_state *s = shmem_state(ctx);
	MemfdInodeEntry *e;
	int r;

	if (!s)
		return log_err(-ENOMEM, "memfd.img");
	r = image_open_optional(ctx->store, &image_memfd, &rd);
	if (r < 0)
		return log_err(r, "cannot open memfd.img");
	while ((r = image_get(&rd, &ctx->arena, memfd_inode_entry, &e)) > 0) {
		struct shmem_inode *n = ARENA_NEW(&ctx->arena, struct shmem_inode);

		r = inode_check(e);
		if (r < 0)
			return r;
		if (map_get(&s->by_id, e->inode_id))
			return log_fail(-EBADMSG, "memfd.img: inode %llu is there twice",
					(unsigned long long)e->inode_id);
		if (n)
			*n = (struct shmem_inode){ e, -EBADF, false, false, s->inodes };
		r = n ? map_put(&s->by_id, e->inode_id, n) : -ENOMEM;
		if (r < 0)
			return log_err(r, "memfd.img");
		s->inodes = n;
	}
	return r;
}

/* Shared anonymous memory of e->size bytes as a descriptor. */
static int anon_make(const MemfdInodeEntry *e, int *ret_fd)
{
	int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
	size_t bytes = (size_t)e->size;
	char path[80];
	void *p;
	int fd, r = 0;

	if (e->has_hugetlb_flag && e->hugetlb_flag)
		flags |= MAP_HUGETLB | (int)(e->hugetlb_flag & ~MFD_HUGETLB);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (p == MAP_FAILED)
		return neg_errno();
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p,
		 (unsigned long)p + ROUND_UP(bytes, page_bytes_of(e)));
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		r = neg_errno();
	if (munmap(p, bytes) < 0 && !r)
		r = neg_errno();
	*ret_fd = fd;
	return r;
}

static int memfd_make(const MemfdInodeEntry *e, int *ret_fd)
{
	uint32_t flags = MFD_CLOEXEC | (e->has_hugetlb_flag ? e->hugetlb_flag : 0);
	int fd;

	if (!(e->seals & F_SEAL_SEAL) || e->seals & ~F_SEAL_SEAL)
		flags |= MFD_ALLOW_SEALING;
	fd = memfd_create(e->name, flags | (e->seals & F_SEAL_EXEC ? MFD_NOEXEC_SEAL : MFD_EXEC));
	if (fd < 0 && errno == EINVAL)	/* before Linux 6.3 */
		fd = memfd_create(e->name, flags);
	if (fd < 0)
		return neg_errno();
	if (ftruncate(fd, (off_t)e->size) < 0) {
		int r = neg_errno();

		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int contents_fill(struct restore_ctx *ctx, const MemfdInodeEntry *e, int fd)
{
	_cleanup_pages_ struct pages_reader *p = NULL;
	int r;

	r = pages_open(ctx->store, &image_pagemap_shmem, e->shmid, &p);
	if (r == -ENOENT)
		return 0;	/* nothing was ever written to it */
	if (r >= 0)
		r = pages_fill_file(p, fd, e->size, &ctx->stats.pages_restored);
	return r < 0 ? log_err(r, "cannot fill \"%s\"", e->name) : 0;
}

static int contents_fill_mapped(struct restore_ctx *ctx, const MemfdInodeEntry *e, int fd)
{
	_cleanup_pages_ struct pages_reader *p = NULL;
	void *m;
	int r;

	r = pages_open(ctx->store, &image_pagemap_shmem, e->shmid, &p);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	m = mmap(NULL, (size_t)e->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (m == MAP_FAILED)
		return log_err(neg_errno(), "cannot map the huge pages of \"%s\"", e->name);
	r = pages_fill_huge(p, m, e->size, page_bytes_of(e), &ctx->stats.pages_restored);
	munmap(m, (size_t)e->size);
	return r < 0 ? log_err(r, "cannot fill \"%s\"", e->name) : 0;
}

static int inode_make(struct restore_ctx *ctx, const MemfdInodeEntry *e, int *ret_fd)
{
	_cleanup_close_ int fd = -EBADF;
	uint32_t uid = ns_restore_uid(ctx, e->uid), gid = ns_restore_gid(ctx, e->gid);
	int r = -EINVAL;

	if (is_anon(e) && e->size)
		r = anon_make(e, &fd);
	if (r < 0)
		r = memfd_make(e, &fd);
	if (r < 0)
		return log_err(r, "cannot make shared memory \"%s\" of %llu bytes", e->name,
			       (unsigned long long)e->size);
	if (page_bytes_of(e) == PAGE_BYTES)
		r = contents_fill(ctx, e, fd);
	else if (e->size)
		r = contents_fill_mapped(ctx, e, fd);
	if (r < 0)
		return r;
	if (fchown(fd, uid, gid) < 0 || (e->has_mode && fchmod(fd, e->mode & 07777) < 0))
		return log_err(neg_errno(), "cannot set owner or mode of \"%s\"", e->name);
	*ret_fd = take_fd(&fd);
	return 0;
}

void shmem_huge_pages(struct restore_ctx *ctx, uint64_t need[64])
{
	struct shmem_restore_state *s = shmem_state(ctx);

	for (struct shmem_inode *n = s ? s->inodes : NULL; n; n = n->next)
		if (page_bytes_of(n->e) > PAGE_BYTES)
			need[__builtin_ctzll(page_bytes_of(n->e))] += n->e->size / page_bytes_of(n->e);
}

int shmem_restore_inode(struct restore_ctx *ctx, uint32_t inode_id, int *ret_fd)
{
	struct shmem_restore_state *s = shmem_state(ctx);
	struct shmem_inode *n = s ? map_get(&s->by_id, inode_id) : NULL;
	int r;

	if (!n)
		return log_fail(-EBADMSG, "memfd.img has no inode %u", inode_id);
	if (n->fd < 0) {
		r = inode_make(ctx, n->e, &n->fd);
		if (r < 0)
			return r;
	}
	*ret_fd = n->fd;
	return 0;
}

int shmem_take_file(struct restore_ctx *ctx, uint32_t inode_id, int *ret_fd)
{
	struct shmem_restore_state *s = shmem_state(ctx);
	struct shmem_inode *n = map_get(&s->by_id, inode_id);

	if (n->is_taken)
		return 0;
	*ret_fd = fcntl(n->fd, F_DUPFD_CLOEXEC, 3);
	if (*ret_fd < 0)
		return neg_errno();
	n->is_taken = true;
	return 1;
}

int shmem_seal(struct restore_ctx *ctx, uint32_t inode_id)
{
	struct shmem_restore_state *s = shmem_state(ctx);
	struct shmem_inode *n = s ? map_get(&s->by_id, inode_id) : NULL;
	int now;

	if (!n || n->fd < 0 || n->sealed)
		return 0;
	now = fcntl(n->fd, F_GET_SEALS);
	if (now < 0)
		return log_err(neg_errno(), "cannot read the seals of \"%s\"", n->e->name);
	if (n->e->seals & ~(uint32_t)now &&
	    fcntl(n->fd, F_ADD_SEALS, (int)(n->e->seals & ~(uint32_t)now)) < 0)
		return log_err(neg_errno(), "cannot seal \"%s\"", n->e->name);
	n->sealed = true;
	return 0;
}

void shmem_restore_done(struct restore_ctx *ctx)
{
	struct shmem_restore_state *s = ctx->kind_state[FD_TYPES__MEMFD];

	if (!s)
		return;
	for (struct shmem_inode *n = s->inodes; n; n = n->next) {
		close_fdp(&n->fd);
		n->fd = -EBADF;
	}
	map_done(&s->by_id);
}
