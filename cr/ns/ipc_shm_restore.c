/*
 * System V shared memory made again. On the machine of the dump the segment may still be there; if it
 * is the same one and nobody is attached it is taken over, and filled again.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "image/pages.h"
#include "ns/ipc_state.h"
#include "ns/ns.h"
#include "task/vma.h"

#define MODE_KNOWN	(0777u | SHM_DEST | SHM_LOCKED)

struct rest_segment {
	struct rest_segment *next;
	const IpcShmEntry *e;
	bool made;
};

static struct rest_segment *segment_find(struct restore_ctx *ctx, uint64_t id)
{
	for (struct rest_segment *s = ctx->ipc_segments; s; s = s->next)
		if (s->e->desc->id == id)
			return s;
	return NULL;
}

static uint64_t page_bytes_of(const IpcShmEntry *e)
{
	return e->has_hugetlb_flag && e->hugetlb_flag ? huge_page_bytes(e->hugetlb_flag) : PAGE_BYTES;
}

static int segment_check(struct restore_ctx *ctx, const IpcShmEntry *e)
{
	const uint32_t huge_known = SHM_HUGETLB | (uint32_t)MAP_HUGE_MASK << MAP_HUGE_SHIFT;
	uint32_t huge = e->has_hugetlb_flag ? e->hugetlb_flag : 0;
	int r = ipc_desc_check("shm", e->desc, MODE_KNOWN);

	if (r < 0)
		return r;
	if (!e->size || e->size > INT64_MAX / 2 || huge & ~huge_known || (huge && !(huge & SHM_HUGETLB)) ||
	    page_bytes_of(e) < PAGE_BYTES || page_bytes_of(e) > INT64_MAX / 2 ||
	    !e->has_in_pagemaps || !e->in_pagemaps || segment_find(ctx, e->desc->id))
		return log_fail(-EBADMSG, "ipcns-shm: segment %u of %lu bytes is malformed or there twice",
				e->desc->id, e->size);
	return 0;
}

static int segment_get(const void *arg)
{
	const IpcShmEntry *e = arg;
	int id = shmget((key_t)e->desc->key, e->size,
			IPC_CREAT | IPC_EXCL | (int)(e->desc->mode & 0777) |
			(e->has_hugetlb_flag ? (int)e->hugetlb_flag : 0));

	return id < 0 ? neg_errno() : id;
}

static int segment_get_any(void)
{
	return shmget(IPC_PRIVATE, 1, 0600);
}

static void segment_remove(int id)
{
	shmctl(id, IPC_RMID, NULL);
}

static const struct ipc_maker segment_maker = { "shm", segment_get, segment_get_any,
						segment_remove };

static int segment_take_over(struct restore_ctx *ctx, const struct rest_segment *s,
			     const struct shmid_ds *ds)
{
	int r = ipc_same_object(ctx, &ds->shm_perm, s->e->desc);

	if (r < 0)
		return r;
	if (ds->shm_segsz != s->e->size)
		return log_fail(-EEXIST, "its id belongs to another segment of %lu bytes",
				(unsigned long)ds->shm_segsz);
	if (ds->shm_nattch)
		return log_fail(-EBUSY, "it is still attached by %lu", (unsigned long)ds->shm_nattch);
	return 0;
}

static int fill(struct restore_ctx *ctx, const struct rest_segment *s, int fd, void *map)
{
	_cleanup_pages_ struct pages_reader *p = NULL;
	uint64_t bytes = ROUND_UP(s->e->size, page_bytes_of(s->e));
	int r;

	/* One that is taken over is not empty. */
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) < 0)
		return log_err(neg_errno(), "cannot empty it");
	r = pages_open(ctx->store, &image_pagemap_shmem, s->e->desc->id, &p);
	if (r == -ENOENT)
		return log_fail(-EBADMSG, "its pages are missing");
	if (r >= 0 && page_bytes_of(s->e) > PAGE_BYTES)
		r = pages_fill_huge(p, map, bytes, page_bytes_of(s->e), &ctx->stats.pages_restored);
	else if (r >= 0)
		r = pages_fill_file(p, fd, s->e->size, &ctx->stats.pages_restored);
	return r < 0 ? log_err(r, "cannot fill it") : 0;
}

static int segment_fill(struct restore_ctx *ctx, const struct rest_segment *s)
{
	uint64_t bytes = ROUND_UP(s->e->size, page_bytes_of(s->e));
	void *p = shmat((int)s->e->desc->id, NULL, 0);
	_cleanup_close_ int fd = -EBADF;
	char path[80];
	int r;

	if (p == (void *)-1)
		return log_err(neg_errno(), "cannot attach it");
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p,
		 (unsigned long)p + bytes);
	fd = open(path, O_RDWR | O_CLOEXEC);
	/* One that is taken over may consist of other pages. */
	r = fd < 0 ? log_err(neg_errno(), "cannot open %s", path) : fill(ctx, s, fd, p);
	if (shmdt(p) < 0 && r >= 0)
		r = log_err(neg_errno(), "cannot detach it");
	return r;
}

static int segment_dress(struct restore_ctx *ctx, const struct rest_segment *s, struct shmid_ds *ds)
{
	const IpcDescEntry *d = s->e->desc;

	ds->shm_perm.uid = ns_restore_uid(ctx, d->uid);
	ds->shm_perm.gid = ns_restore_gid(ctx, d->gid);
	ds->shm_perm.mode = d->mode & 0777;
	if (shmctl((int)d->id, IPC_SET, ds) < 0)
		return log_err(neg_errno(), "cannot set its owner");
	if (d->mode & SHM_LOCKED && shmctl((int)d->id, SHM_LOCK, NULL) < 0)
		return log_err(neg_errno(), "cannot lock it");
	return 0;
}

static int segment_restore(struct restore_ctx *ctx, struct rest_segment *s)
{
	struct shmid_ds ds;
	int id = (int)s->e->desc->id, r;

	LOG_SCOPE("System V segment %d", id);
	if (shmctl(id, IPC_STAT, &ds) >= 0) {
		r = segment_take_over(ctx, s, &ds);
	} else {
		r = ipc_make(ctx, &segment_maker, s->e->desc, s->e);
		s->made = r >= 0;
	}
	if (r >= 0)
		r = segment_fill(ctx, s);
	if (r >= 0 && shmctl(id, IPC_STAT, &ds) < 0)
		r = log_err(neg_errno(), "cannot look at it");
	return r < 0 ? r : segment_dress(ctx, s, &ds);
}

/* Once: whoever asks first. */
static int segments_load(struct restore_ctx *ctx, uint32_t ns_id)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	IpcShmEntry *e;
	int r;

	if (ctx->ipc_segments)
		return 0;
	r = image_open_optional(ctx->store, &image_ipcns_shm, &rd, ns_id);
	if (r < 0)
		return r;
	while ((r = image_get(&rd, &ctx->arena, ipc_shm_entry, &e)) > 0) {
		struct rest_segment *s;

		r = segment_check(ctx, e);
		if (r < 0)
			return r;
		s = ARENA_NEW(&ctx->arena, struct rest_segment);
		if (!s)
			return -ENOMEM;
		*s = (struct rest_segment){ ctx->ipc_segments, e, false };
		ctx->ipc_segments = s;
	}
	return r;
}

int ipc_shm_huge_pages(struct restore_ctx *ctx, uint32_t ns_id, uint64_t need[64])
{
	int r = segments_load(ctx, ns_id);

	if (r < 0)
		return r;
	for (const struct rest_segment *s = ctx->ipc_segments; s; s = s->next) {
		uint64_t page = page_bytes_of(s->e);

		if (page > PAGE_BYTES)
			need[__builtin_ctzll(page)] += ROUND_UP(s->e->size, page) / page;
	}
	return 0;
}

int ipc_shm_restore(struct restore_ctx *ctx, uint32_t ns_id)
{
	int r = segments_load(ctx, ns_id);

	for (struct rest_segment *s = ctx->ipc_segments; s && r >= 0; s = s->next)
		r = segment_restore(ctx, s);
	return r;
}

int ipc_check_area(struct restore_ctx *ctx, const VmaEntry *e)
{
	const struct rest_segment *s = segment_find(ctx, e->shmid);

	if (!s || e->pgoff || e->end - e->start != ROUND_UP(s->e->size, page_bytes_of(s->e)))
		return log_fail(-EBADMSG, "area 0x%lx-0x%lx: no System V segment %lu of that size",
				e->start, e->end, e->shmid);
	return 0;
}

uint64_t ipc_attach_flags(const VmaEntry *e)
{
	return (e->prot & PROT_WRITE ? 0 : SHM_RDONLY) | (e->prot & PROT_EXEC ? SHM_EXEC : 0);
}

int ipc_shm_restore_late(struct restore_ctx *ctx)
{
	for (struct rest_segment *s = ctx->ipc_segments; s; s = s->next)
		if (s->e->desc->mode & SHM_DEST && shmctl((int)s->e->desc->id, IPC_RMID, NULL) < 0)
			return log_err(neg_errno(), "System V segment %u: cannot mark it for removal",
				       s->e->desc->id);
	return 0;
}

void ipc_shm_remove(struct restore_ctx *ctx)
{
	for (struct rest_segment *s = ctx->ipc_segments; s; s = s->next)
		if (s->made)
			segment_remove((int)s->e->desc->id);
}
