/*
 * The rings of an io_uring are mapped where the kernel wants: mmap() and mremap() with an address
 * are refused (EINVAL). So everything else is filled for a moment, and one hole left of the
 * right size. Fillers are not accessible and cost nothing.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "task/mem.h"
#include "task/vma.h"

#define LOWEST 0x10000ull	/* vm.mmap_min_addr */

struct gap {
	uint64_t start, end;
};

static int gaps_read(struct restore_ctx *ctx, const struct restore_process *p, struct gap **ret,
		     size_t *ret_n)
{
	_cleanup_free_ char *text = NULL;
	char path[32];
	struct vma *vmas;
	struct gap *gaps;
	uint64_t at = LOWEST;
	size_t n_vmas, n = 0;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/maps", p->pid);
	r = read_file_at(-1, path, READ_FILE_MAX, &text, NULL);
	if (r >= 0)
		r = vma_parse_smaps(&ctx->arena, text, &vmas, &n_vmas);
	if (r < 0)
		return log_err(r, "cannot read %s", path);
	gaps = arena_alloc(&ctx->arena, (n_vmas + 1) * sizeof(*gaps));
	if (!gaps)
		return -ENOMEM;
	for (size_t i = 0; i <= n_vmas; i++) {
		uint64_t end = i < n_vmas ? MIN(vmas[i].start, TASK_END) : TASK_END;

		if (at < end)
			gaps[n++] = (struct gap){ at, end };
		at = i < n_vmas ? MAX(at, vmas[i].end) : at;
	}
	*ret = gaps;
	*ret_n = n;
	return 0;
}

static int gaps_call(struct batch *b, const struct gap *gaps, size_t n, bool fill)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t bytes = gaps[i].end - gaps[i].start;
		int r = batch_make_room(b, 1, 0);

		if (r < 0)
			return r;
		if (fill)
			batch_call(b, SYS_mmap, gaps[i].start, bytes, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
				   -1, 0);
		else
			batch_call(b, SYS_munmap, gaps[i].start, bytes);
	}
	return 0;
}

/* The only hole of all is where it belongs. */
static int place_one(struct restore_ctx *ctx, struct batch *b, const VmaEntry *e)
{
	uint64_t bytes = e->end - e->start;
	int fd, get, map, r;

	r = restore_file_get(ctx, (uint32_t)e->shmid, &fd);
	if (r >= 0)
		r = batch_make_room(b, 4, 0);
	if (r < 0)
		return r;
	batch_call(b, SYS_munmap, e->start, bytes);
	get = batch_call(b, SYS_pidfd_getfd, ctx->pidfd_t_fd, fd, 0);
	map = batch_call(b, SYS_mmap, 0, bytes, e->prot, MAP_SHARED | MAP_POPULATE, -1, e->pgoff);
	batch_link(b, get, map, 4);
	/* The task's table is empty but for the engine's pidfd: the result is descriptor 0. */
	batch_call(b, SYS_close, 0);
	r = batch_run(b);
	if (r >= 0 && (uint64_t)batch_ret(b, map) != e->start)
		r = log_fail(-EADDRNOTAVAIL, "the kernel maps the ring of file %lu at 0x%lx, not at 0x%lx",
			     e->shmid, (uint64_t)batch_ret(b, map), e->start);
	batch_begin(b, b->task);
	return r;
}

int place_areas(struct restore_ctx *ctx, struct restore_process *p, const VmaEntry **areas, size_t n)
{
	struct batch *b = &ctx->batch;
	struct gap *gaps;
	size_t n_gaps;
	int r;

	r = gaps_read(ctx, p, &gaps, &n_gaps);
	batch_begin(b, &p->threads[0].task);
	if (r >= 0)
		r = gaps_call(b, gaps, n_gaps, true);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = place_one(ctx, b, areas[i]);
	if (r >= 0)
		r = gaps_call(b, gaps, n_gaps, false);
	return r < 0 ? r : batch_run(b);
}
