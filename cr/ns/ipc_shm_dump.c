/*
 * System V shared memory of a tree → ipcns-shm-N.img, pagemap-shmem-ID, pages-N.
 *
 * A segment that the tree made and that nobody has attached is refused: nothing says that
 * somebody still needs it, nothing that nobody does. In a namespace of the tree's own it is saved.
 *
 * One of huge pages is mapped up to the end of the last of them; its size tells less.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/vfs.h>

#include "image/pages.h"
#include "ns/ipc_state.h"
#include "task/vma.h"

#define HUGE_PAGE_MAX	(1ull << 40)

struct segment {
	struct segment *next;
	int id;
	struct dump_process *p;		/* one that has it attached, there: */
	const struct vma *v;		/* NULL: nobody has */
	uint64_t attached;		/* by the tree */
	uint64_t page_bytes;		/* huge pages are larger */
	struct shmid_ds ds;
};

static struct segment *segment_find(struct dump_ctx *ctx, int id)
{
	for (struct segment *s = ctx->ipc_segments; s; s = s->next)
		if (s->id == id)
			return s;
	return NULL;
}

static int segment_new(struct dump_ctx *ctx, int id, struct segment **ret)
{
	struct segment *s = ARENA_NEW(&ctx->arena, struct segment);

	if (!s)
		return -ENOMEM;
	*s = (struct segment){ .next = ctx->ipc_segments, .id = id, .page_bytes = PAGE_BYTES };
	if (shmctl(id, IPC_STAT, &s->ds) < 0)
		return neg_errno();
	ctx->ipc_segments = *ret = s;
	return 0;
}

static int segment_add(struct dump_ctx *ctx, struct dump_process *p, const struct vma *v)
{
	struct segment *s = segment_find(ctx, (int)v->ino);
	int r;

	if (v->ino > INT32_MAX)
		return log_fail(-EBADMSG, "process %d: segment id %lu", p->pid, v->ino);
	if (!s) {
		r = segment_new(ctx, (int)v->ino, &s);
		/* What is attached stays so when a process leaves its namespace. */
		if (r == -EINVAL || r == -EIDRM)
			return log_obstacle(IPC_REMEDY,
					    "process %d (%s) has attached System V segment %lu of another IPC namespace than its own",
					    p->pid, p->comm, v->ino);
		if (r < 0)
			return log_err(r, "System V segment %lu", v->ino);
		s->p = p;
		s->v = v;
		if (v->flags & MAP_HUGETLB && v->page_bytes)
			s->page_bytes = v->page_bytes;
	}
	s->attached++;
	if (v->pgoff || v->end - v->start != ROUND_UP(s->ds.shm_segsz, s->page_bytes))
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

static int area_open(int proc_fd, uint64_t start, uint64_t end, int *ret_fd)
{
	char link[64];

	snprintf(link, sizeof(link), "map_files/%lx-%lx", start, end);
	*ret_fd = openat(proc_fd, link, O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? neg_errno() : 0;
}

/* One that nobody has attached we attach ourselves. What its pages are tells where it ends then. */
static int segment_open(const struct segment *s, int *ret_fd)
{
	_cleanup_close_ int self = -EBADF;
	uint64_t at, page = PAGE_BYTES;
	void *p;
	int r;

	if (s->v) {
		r = area_open(s->p->proc_fd, s->v->start, s->v->end, ret_fd);
		return r < 0 ? log_err(r, "cannot open it at 0x%lx-0x%lx", s->v->start, s->v->end) : 0;
	}
	self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (self < 0)
		return log_err(neg_errno(), "cannot open /proc/self");
	p = shmat(s->id, NULL, SHM_RDONLY);
	if (p == (void *)-1)
		return log_err(neg_errno(), "cannot attach it");
	at = (uintptr_t)p;
	do
		r = area_open(self, at, at + ROUND_UP(s->ds.shm_segsz, page), ret_fd);
	while (r == -ENOENT && (page <<= 1) <= HUGE_PAGE_MAX);
	shmdt(p);
	return r < 0 ? log_err(r, "cannot open it") : 0;
}

static int loose_segment_add(struct dump_ctx *ctx, int id)
{
	_cleanup_close_ int fd = -EBADF;
	struct segment *s;
	struct statfs fs;
	int r = segment_new(ctx, id, &s);

	if (r < 0)
		return log_err(r, "System V segment %d", id);
	r = segment_open(s, &fd);
	if (r < 0)
		return r;
	if (fstatfs(fd, &fs) < 0)
		return log_err(neg_errno(), "System V segment %d", id);
	if (fs.f_type == HUGETLBFS_MAGIC)
		s->page_bytes = (uint64_t)fs.f_bsize;
	return 0;
}

/* The tree's and attached by nobody at the moment. */
static int loose_segments_check(struct dump_ctx *ctx)
{
	struct shm_info info;
	int last = shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info), refused = 0;

	for (int i = 0; i <= last && i < IPC_OBJECTS_MAX; i++) {
		struct shmid_ds ds;
		int id = shmctl(i, SHM_STAT, &ds), r;
		bool loose = id >= 0 && !ds.shm_nattch;
		pid_t pid = loose && !ipc_all_ours(ctx) ? segment_user(ctx, &ds) : 0;

		r = loose && ipc_all_ours(ctx) ? loose_segment_add(ctx, id) : 0;
		if (r < 0 && r != -EOPNOTSUPP)
			return r;
		refused = r < 0 ? r : refused;
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

static int segment_pages(struct dump_ctx *ctx, const struct segment *s, int fd, uint32_t id)
{
	bool huge = s->page_bytes > PAGE_BYTES;
	_cleanup_pagemap_writer_ struct pagemap_writer w = { 0 };
	int r = pagemap_create(ctx->store, &image_pagemap_shmem, id, ++ctx->next_pages_id, &w);

	if (r >= 0)
		r = huge ? pages_put_huge_file(&w, fd, ROUND_UP(s->ds.shm_segsz, s->page_bytes),
					       s->page_bytes) :
			   pages_put_file(&w, fd, s->ds.shm_segsz);
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
	int r;

	LOG_SCOPE("System V segment %d", s->id);
	ipc_describe(ctx, &s->ds.shm_perm, s->id, &d);
	e.desc = &d;
	e.size = s->ds.shm_segsz;
	e.has_in_pagemaps = true;
	e.in_pagemaps = true;
	e.has_hugetlb_flag = s->page_bytes > PAGE_BYTES;
	if (e.has_hugetlb_flag)
		e.hugetlb_flag = SHM_HUGETLB | (uint32_t)__builtin_ctzll(s->page_bytes) << MAP_HUGE_SHIFT;
	r = image_put(w, &e.base);
	if (r < 0)
		return log_err(r, "cannot write its image");
	r = segment_open(s, &fd);
	return r < 0 ? r : segment_pages(ctx, s, fd, d.id);
}

int ipc_shm_dump(struct dump_ctx *ctx)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r;

	if (!ctx->ipc_segments)
		return 0;
	r = image_create(ctx->store, &image_ipcns_shm, &w, ctx->procs[0]->ids->ipc_ns_id);
	for (struct segment *s = ctx->ipc_segments; s && r >= 0; s = s->next)
		r = segment_dump(ctx, s, w);
	return r < 0 ? r : image_close(take_ptr(w));
}
