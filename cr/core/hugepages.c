/*
 * Huge pages (hugetlbfs) come from a pool that the administrator sizes, and that an early restore
 * in a new kernel finds empty.
 *
 *   dump     what was free: a child that writes to huge pages it shares with its parent, or a
 *            mapping with MAP_NORESERVE, takes from that, and gets SIGBUS where there is nothing
 *   restore  the pool is enlarged until that many will be free again. Mappings reserve their whole
 *            length, so that is what is counted as needed; of a mapping that a child has from
 *            its parent, the pages that the child has, since each may be a copy. What was too much
 *            is taken back at the end.
 */
#include <fcntl.h>
#include <string.h>

#include "core/dump_process.h"
#include "core/restore_steps.h"
#include "image/pages.h"
#include "kind/kinds.h"
#include "ns/ipc.h"
#include "task/vma.h"

#define FREE_MAX (1ull << 46)	/* bytes: no machine has that */
#define POOLS "/sys/kernel/mm/hugepages"
#define POOL POOLS "/hugepages-%llukB/%s"

static bool is_private_huge(const VmaEntry *e)
{
	return e->flags & MAP_PRIVATE && vma_entry_page_bytes(e) > PAGE_BYTES;
}

static bool parent_has(const struct restore_process *p, const VmaEntry *e)
{
	const MmEntry *mm = p->parent ? p->parent->mm : NULL;

	for (size_t i = 0; mm && i < mm->n_vmas; i++)
		if (mm->vmas[i]->start == e->start && mm->vmas[i]->end == e->end)
			return true;
	return false;
}

static void need_add(uint64_t need[64], const VmaEntry *e, uint64_t bytes)
{
	need[__builtin_ctzll(vma_entry_page_bytes(e))] += bytes / vma_entry_page_bytes(e);
}

static int count_copies(struct restore_ctx *ctx, const struct restore_process *p, uint64_t need[64])
{
	_cleanup_pages_ struct pages_reader *pages = NULL;
	struct page_run run;
	int r = pages_open(ctx->store, &image_pagemap, p->pst->pid, &pages);

	if (r < 0)
		return log_err(r, "process %u: no saved memory", p->pst->pid);
	while ((r = pages_next(pages, &run)) > 0) {
		uint64_t run_end = run.vaddr + run.n_pages * PAGE_BYTES;

		for (size_t i = 0; i < p->mm->n_vmas; i++) {
			const VmaEntry *e = p->mm->vmas[i];
			uint64_t start = MAX(e->start, run.vaddr), end = MIN(e->end, run_end);

			if (start < end && is_private_huge(e) && parent_has(p, e))
				need_add(need, e, end - start);
		}
	}
	return r;
}

static int count_private(struct restore_ctx *ctx, const struct restore_process *p, uint64_t need[64])
{
	bool copies = false;

	for (size_t i = 0; p->mm && i < p->mm->n_vmas; i++) {
		const VmaEntry *e = p->mm->vmas[i];

		if (!is_private_huge(e))
			continue;
		if (parent_has(p, e))
			copies = true;
		else
			need_add(need, e, e->end - e->start);
	}
	return copies ? count_copies(ctx, p, need) : 0;
}

static int pool_read(uint64_t kib, const char *what, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[96];
	int r;

	snprintf(path, sizeof(path), POOL, (unsigned long long)kib, what);
	r = read_file_at(AT_FDCWD, path, 64, &text, NULL);
	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	return parse_u64(text, 10, ret);
}

static int pool_free(uint64_t kib, uint64_t *ret)
{
	uint64_t free_pages, reserved;
	int r = pool_read(kib, "free_hugepages", &free_pages);

	if (r >= 0)
		r = pool_read(kib, "resv_hugepages", &reserved);
	if (r >= 0)
		*ret = free_pages - MIN(reserved, free_pages);
	return r;
}

static int pool_resize(uint64_t kib, uint64_t pages)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)pages);
	return write_filef(text, POOL, (unsigned long long)kib, "nr_hugepages");
}

/* Of the pools that this processor has, bit n of pages of 2^n bytes. */
static uint64_t pool_sizes(void)
{
	_cleanup_closedir_ DIR *d = opendir(POOLS);
	struct dirent *e;
	uint64_t ret = 0;

	while (d && (e = readdir(d))) {
		unsigned long long kib;

		if (sscanf(e->d_name, "hugepages-%llukB", &kib) == 1 && kib && kib < 1ull << 53)
			ret |= 1ull << (__builtin_ctzll(kib) + 10);
	}
	return ret;
}

int dump_huge_pools(struct dump_ctx *ctx, InventoryEntry *inv)
{
	for (uint64_t sizes = pool_sizes(); sizes; sizes &= sizes - 1) {
		unsigned int shift = (unsigned int)__builtin_ctzll(sizes);
		HugePoolEntry **e;
		uint64_t pages;

		if (pool_free((1ull << shift) / 1024, &pages) < 0 || !pages)
			continue;
		e = ARENA_PUSH(&ctx->arena, inv->huge_pools, inv->n_huge_pools);
		if (e)
			*e = ARENA_MSG(&ctx->arena, HugePoolEntry, huge_pool_entry);
		if (!e || !*e)
			return -ENOMEM;
		(*e)->page_shift = shift;
		(*e)->free_pages = pages;
	}
	return 0;
}

static uint64_t free_at_dump(const struct restore_ctx *ctx, unsigned int shift)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < ctx->inventory->n_huge_pools; i++)
		if (ctx->inventory->huge_pools[i]->page_shift == shift)
			pages = MIN(ctx->inventory->huge_pools[i]->free_pages, FREE_MAX >> shift);
	return pages;
}

/* A pool that stays too small is no failure yet: the kernel may allow more than its size. */
static int pool_provide(uint64_t kib, uint64_t need, uint64_t *ret_added)
{
	uint64_t have, size, now;
	int r;

	r = pool_free(kib, &have);
	if (r >= 0)
		r = pool_read(kib, "nr_hugepages", &size);
	if (r < 0)
		return log_err(r, "this kernel has no huge pages of %llu KiB, which the images need",
			       (unsigned long long)kib);
	if (have >= need)
		return 0;
	r = pool_resize(kib, size + need - have);
	if (r < 0 || pool_read(kib, "nr_hugepages", &now) < 0 || now < size + need - have)
		log_warn("%llu huge pages of %llu KiB are needed, %llu are free: memory is short",
			 (unsigned long long)need, (unsigned long long)kib, (unsigned long long)have);
	if (r >= 0 && now > size)
		*ret_added = now - size;
	return 0;
}

int restore_huge_pages(struct restore_ctx *ctx)
{
	uint64_t need[64] = { 0 };
	int r = ipc_huge_pages(ctx, need);

	if (r >= 0)
		shmem_huge_pages(ctx, need);
	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++)
		r = count_private(ctx, &ctx->procs[i], need);
	for (unsigned int shift = 12; r >= 0 && shift < 64; shift++)
		if (need[shift])
			r = pool_provide((1ull << shift) / 1024, need[shift] + free_at_dump(ctx, shift),
					 &ctx->huge_added[shift]);
	return r;
}

void restore_huge_pages_end(struct restore_ctx *ctx, bool failed)
{
	for (unsigned int shift = 12; shift < 64; shift++) {
		uint64_t kib = (1ull << shift) / 1024, spare, size;

		if (!ctx->huge_added[shift] || pool_free(kib, &spare) < 0 ||
		    pool_read(kib, "nr_hugepages", &size) < 0)
			continue;
		spare -= MIN(spare, failed ? 0 : free_at_dump(ctx, shift));
		spare = MIN(spare, ctx->huge_added[shift]);
		if (spare && pool_resize(kib, size - spare) < 0)
			log_warn("%llu huge pages of %llu KiB too many stay in the pool",
				 (unsigned long long)spare, (unsigned long long)kib);
		log_info("huge pages of %llu KiB: the pool got %llu more", (unsigned long long)kib,
			 (unsigned long long)(ctx->huge_added[shift] - spare));
	}
}
