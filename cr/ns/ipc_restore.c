/*
 * System V shared memory made again.
 *
 * shmget(2) takes the id from /proc/sys/kernel/shm_next_id (CONFIG_CHECKPOINT_RESTORE), unless
 * somebody is faster. The creator, who keeps rights for good, is who calls: a child of the
 * engine takes that identity. On the machine of the dump the segment may still be there; if it
 * is the same one and nobody is attached it is taken over, and filled again.
 */
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/pages.h"
#include "image/proto.h"
#include "ns/ipc.h"
#include "ns/ns.h"
#include "task/vma.h"
#include "util/io.h"

#define TRIES		20
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

static int segment_check(struct restore_ctx *ctx, const IpcShmEntry *e)
{
	if (e->desc->id > INT32_MAX || !e->size || e->size > INT64_MAX ||
	    e->desc->mode & ~MODE_KNOWN || (e->has_hugetlb_flag && e->hugetlb_flag) ||
	    !e->has_in_pagemaps || !e->in_pagemaps || segment_find(ctx, e->desc->id))
		return log_fail(-EBADMSG, "ipcns-shm: segment %u of %lu bytes, mode 0%o, is malformed or there twice",
				e->desc->id, e->size, e->desc->mode);
	return 0;
}

/* In a child: a change of identity would cost us our parent-death signal. */
static int shmget_as(const IpcDescEntry *d, uint64_t size, uid_t uid, gid_t gid)
{
	int flags = IPC_CREAT | IPC_EXCL | (int)(d->mode & 0777), status, id;
	int *ret = mmap(NULL, sizeof(*ret), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	if (ret == MAP_FAILED)
		return neg_errno();
	*ret = -EIO;
	pid = fork();
	if (!pid) {
		if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0 ||
		    (id = shmget((key_t)d->key, size, flags)) < 0)
			*ret = neg_errno();
		else
			*ret = id;
		_exit(0);
	}
	if (pid < 0)
		*ret = neg_errno();
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	id = *ret;
	munmap(ret, sizeof(*ret));
	return id;
}

static int segment_make(struct restore_ctx *ctx, struct rest_segment *s)
{
	const IpcDescEntry *d = s->e->desc;

	for (unsigned int n = 0; n < TRIES; n++) {
		char text[16];
		int id, r;

		snprintf(text, sizeof(text), "%u", d->id);
		r = write_filef(text, "/proc/sys/kernel/shm_next_id");
		if (r < 0)
			return log_err(r, "cannot write /proc/sys/kernel/shm_next_id");
		id = shmget_as(d, s->e->size, ns_restore_uid(ctx, d->cuid), ns_restore_gid(ctx, d->cgid));
		if (id == -EEXIST)
			return log_fail(id, "its key 0x%08x belongs to another segment", d->key);
		if (id < 0)
			return log_err(id, "cannot make %lu bytes", s->e->size);
		if ((uint32_t)id == d->id) {
			s->made = true;
			return 0;
		}
		shmctl(id, IPC_RMID, NULL);
	}
	return log_fail(-EEXIST, "its id is in use");
}

static int segment_take_over(const struct rest_segment *s, const struct shmid_ds *ds)
{
	const IpcDescEntry *d = s->e->desc;

	if ((uint32_t)ds->shm_perm.__key != d->key || ds->shm_segsz != s->e->size)
		return log_fail(-EEXIST, "its id belongs to another segment (key 0x%08x, %lu bytes)",
				(unsigned int)ds->shm_perm.__key, (unsigned long)ds->shm_segsz);
	if (ds->shm_nattch)
		return log_fail(-EBUSY, "it is still attached by %lu", (unsigned long)ds->shm_nattch);
	return 0;
}

static int fill(struct restore_ctx *ctx, const struct rest_segment *s, int fd)
{
	_cleanup_pages_ struct pages_reader *p = NULL;
	int r;

	/* One that is taken over is not empty. */
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      (off_t)ROUND_UP(s->e->size, PAGE_BYTES)) < 0)
		return log_err(neg_errno(), "cannot empty it");
	r = pages_open(ctx->store, &image_pagemap_shmem, s->e->desc->id, &p);
	if (r == -ENOENT)
		return log_fail(-EBADMSG, "its pages are missing");
	if (r >= 0)
		r = pages_fill_file(p, fd, s->e->size, &ctx->stats.pages_restored);
	return r < 0 ? log_err(r, "cannot fill it") : 0;
}

static int segment_fill(struct restore_ctx *ctx, const struct rest_segment *s)
{
	uint64_t bytes = ROUND_UP(s->e->size, PAGE_BYTES);
	void *p = shmat((int)s->e->desc->id, NULL, 0);
	_cleanup_close_ int fd = -EBADF;
	char path[80];
	int r;

	if (p == (void *)-1)
		return log_err(neg_errno(), "cannot attach it");
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p,
		 (unsigned long)p + bytes);
	fd = open(path, O_RDWR | O_CLOEXEC);
	r = fd < 0 ? log_err(neg_errno(), "cannot open %s", path) : fill(ctx, s, fd);
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
	if (shmctl(id, IPC_STAT, &ds) >= 0)
		r = segment_take_over(s, &ds);
	else
		r = segment_make(ctx, s);
	if (r >= 0)
		r = segment_fill(ctx, s);
	if (r >= 0 && shmctl(id, IPC_STAT, &ds) < 0)
		r = log_err(neg_errno(), "cannot look at it");
	return r < 0 ? r : segment_dress(ctx, s, &ds);
}

int ipc_restore(struct restore_ctx *ctx)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	const TaskKobjIdsEntry *ids = ctx->inventory->root_ids;
	IpcShmEntry *e;
	int r;

	if (!ids || !ids->has_ipc_ns_id)
		return 0;
	r = image_open_optional(ctx->store, &image_ipcns_shm, &rd, ids->ipc_ns_id);
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
		r = segment_restore(ctx, s);
		if (r < 0)
			return r;
	}
	return r;
}

int ipc_check_area(struct restore_ctx *ctx, const VmaEntry *e)
{
	const struct rest_segment *s = segment_find(ctx, e->shmid);

	if (!s || e->pgoff || e->end - e->start != ROUND_UP(s->e->size, PAGE_BYTES))
		return log_fail(-EBADMSG, "area 0x%lx-0x%lx: no System V segment %lu of that size",
				e->start, e->end, e->shmid);
	return 0;
}

uint64_t ipc_attach_flags(const VmaEntry *e)
{
	return (e->prot & PROT_WRITE ? 0 : SHM_RDONLY) | (e->prot & PROT_EXEC ? SHM_EXEC : 0);
}

int ipc_restore_late(struct restore_ctx *ctx)
{
	for (struct rest_segment *s = ctx->ipc_segments; s; s = s->next)
		if (s->e->desc->mode & SHM_DEST && shmctl((int)s->e->desc->id, IPC_RMID, NULL) < 0)
			return log_err(neg_errno(), "System V segment %u: cannot mark it for removal",
				       s->e->desc->id);
	return 0;
}

void ipc_restore_done(struct restore_ctx *ctx, bool failed)
{
	for (struct rest_segment *s = ctx->ipc_segments; s; s = s->next)
		if (failed && s->made)
			shmctl((int)s->e->desc->id, IPC_RMID, NULL);
}
