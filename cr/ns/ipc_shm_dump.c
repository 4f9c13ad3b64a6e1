/*
 * System V shared memory of a tree → ipcns-shm-N.img, pagemap-shmem-ID, pages-N.
 *
 * A segment that the tree made and that nobody has attached is refused: nothing says that
 * somebody still needs it, nothing that nobody does.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/shm.h>

#include "image/pages.h"
#include "ns/ipc_state.h"
#include "task/vma.h"

struct segment {
	struct segment *next;
	int id;
	struct dump_process *p;		/* one that has it attached, there: */
	const struct vma *v;
	uint64_t attached;		/* by the tree */
	struct shmid_ds ds;
};

static struct segment *segment_find(struct dump_ctx *ctx, int id)
{
	for (struct segment *s = ctx->ipc_segments; s; s = s->next)
		if (s->id == id)
			return s;
	return NULL;
}

static int segment_add(struct dump_ctx *ctx, struct dump_process *p, const struct vma *v)
{
	struct segment *s = segment_find(ctx, (int)v->ino);

	if (v->ino > INT32_MAX)
		return log_fail(-EBADMSG, "process %d: segment id %lu", p->pid, v->ino);
	if (!s) {
		s = ARENA_NEW(&ctx->arena, struct segment);
		if (!s)
			return -ENOMEM;
		*s = (struct segment){ .next = ctx->ipc_segments, .id = (int)v->ino, .p = p, .v = v };
		if (shmctl(s->id, IPC_STAT, &s->ds) < 0)
			return log_err(neg_errno(), "process %d: System V segment %d", p->pid, s->id);
		ctx->ipc_segments = s;
	}
	s->attached++;
	if (v->pgoff || v->end - v->start != ROUND_UP(s->ds.shm_segsz, PAGE_BYTES))
		return log_obstacle(IPC_REMEDY,
				    "process %d (%s): only a part of System V segment %d is mapped, or with differing protection",
				    p->pid, p->comm, s->id);
	return 0;
}

static int segments_find(struct dump_ctx *ctx)
{
	int refused = 0;

	for (size_t i = 0; i < ctx->n_procs; i++)
		for (size_t k = 0; k < ctx->procs[i]->n_vmas; k++) {
			const struct vma *v = &ctx->procs[i]->vmas[k];
			int r = v->status & VMA_SYSVIPC ? segment_add(ctx, ctx->procs[i], v) : 0;

			if (r < 0 && r != -EOPNOTSUPP)
				return r;
			refused = r < 0 ? r : refused;
		}
	return refused;
}

static int segments_check(struct dump_ctx *ctx)
{
	int refused = 0;

	for (struct segment *s = ctx->ipc_segments; s; s = s->next)
		if (s->ds.shm_nattch != s->attached)
			refused = log_obstacle(IPC_REMEDY_OTHERS,
					       "System V segment %d (key 0x%08x) is attached %lu times by this tree and %lu times in all",
					       s->id, (unsigned int)s->ds.shm_perm.__key, s->attached,
					       (unsigned long)s->ds.shm_nattch);
	return refused;
}

/* The maker of one that was restored is dead: who attached or detached it last counts, too. */
static pid_t segment_user(struct dump_ctx *ctx, const struct shmid_ds *ds)
{
	if (ipc_user_of(ctx, ds->shm_cpid) == IPC_TREE)
		return ds->shm_cpid;
	return ipc_user_of(ctx, ds->shm_lpid) == IPC_TREE ? ds->shm_lpid : 0;
}

/* The tree's and attached by nobody at the moment. */
static int loose_segments_check(struct dump_ctx *ctx)
{
	struct shm_info info;
	int last = shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info), refused = 0;

	for (int i = 0; i <= last && i < IPC_OBJECTS_MAX; i++) {
		struct shmid_ds ds;
		int id = shmctl(i, SHM_STAT, &ds);
		pid_t pid = id >= 0 && !ds.shm_nattch ? segment_user(ctx, &ds) : 0;

		if (pid)
			refused = log_obstacle(IPC_REMEDY,
					       "System V segment %d (key 0x%08x) of process %d is attached by nobody, nothing says that it is needed",
					       id, (unsigned int)ds.shm_perm.__key, pid);
	}
	return refused;
}

int ipc_shm_check(struct dump_ctx *ctx)
{
	static int (*const checks[])(struct dump_ctx *) = {
		segments_find, segments_check, loose_segments_check,
	};
	int refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		int r = checks[i](ctx);

		if (r < 0 && r != -EOPNOTSUPP)
			return r;
		refused = r < 0 ? r : refused;
	}
	return refused;
}

static int segment_pages(struct dump_ctx *ctx, int fd, uint32_t id, uint64_t size)
{
	_cleanup_pagemap_writer_ struct pagemap_writer w = { 0 };
	int r = pagemap_create(ctx->store, &image_pagemap_shmem, id, ++ctx->next_pages_id, &w);

	if (r >= 0)
		r = pages_put_file(&w, fd, size);
	ctx->stats.pages_written += w.pages_written;
	if (r >= 0)
		r = pagemap_close(&w);
	return r < 0 ? log_err(r, "cannot save its contents") : 0;
}

static int segment_dump(struct dump_ctx *ctx, const struct segment *s, struct image_writer *w)
{
	IpcShmEntry e = IPC_SHM_ENTRY__INIT;
	IpcDescEntry d = IPC_DESC_ENTRY__INIT;
	_cleanup_close_ int fd = -EBADF;
	char link[64];
	int r;

	LOG_SCOPE("System V segment %d", s->id);
	ipc_describe(ctx, &s->ds.shm_perm, s->id, &d);
	e.desc = &d;
	e.size = s->ds.shm_segsz;
	e.has_in_pagemaps = true;
	e.in_pagemaps = true;
	r = image_put(w, &e.base);
	if (r < 0)
		return log_err(r, "cannot write its image");
	snprintf(link, sizeof(link), "map_files/%lx-%lx", s->v->start, s->v->end);
	fd = openat(s->p->proc_fd, link, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot open /proc/%d/%s", s->p->pid, link);
	return segment_pages(ctx, fd, d.id, e.size);
}

int ipc_shm_dump(struct dump_ctx *ctx)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r;

	if (!ctx->ipc_segments)
		return 0;
	r = image_create(ctx->store, &image_ipcns_shm, &w, ctx->root_ids->ipc_ns_id);
	for (struct segment *s = ctx->ipc_segments; s && r >= 0; s = s->next)
		r = segment_dump(ctx, s, w);
	return r < 0 ? r : image_close(take_ptr(w));
}
