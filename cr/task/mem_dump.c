/*
 * Memory, dumping side: which pages (mem_scan.h), then their bytes. process_vm_readv(2) copies
 * once where /proc/PID/mem copies twice and takes the lock for each page; but it pins the pages, for
 * which the kernel ends copy-on-write sharing (since 5.19): it is for pages that nobody shares.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

#include "image/pages.h"
#include "task/mem.h"
#include "task/mem_chain.h"
#include "task/mem_scan.h"
#include "task/vma.h"
#include "util/timer.h"

struct copy {
	struct dump_process *p;
	const struct mem_runs *runs;
	int pagemap_fd;			/* or negative: not to be asked */
	_Atomic uint64_t failed_at;	/* t_addr that could not be read */
};

#define PAGES_AT_ONCE 256u		/* their bytes fit the processor's cache: written next */

static uint64_t run_pages(const struct mem_run *run)
{
	return (run->end - run->start) / PAGE_BYTES;
}

/* All of them are there, and in this process only. Silent: called by any thread. */
static bool are_exclusive(int pagemap_fd, uint64_t t_addr, size_t n)
{
	uint64_t bits[PAGES_AT_ONCE], all = PM_PRESENT | PM_EXCLUSIVE;

	if (pread_full(pagemap_fd, bits, n * 8, (off_t)(t_addr / PAGE_BYTES * 8)) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		all &= bits[i];
	return all == (PM_PRESENT | PM_EXCLUSIVE);
}

/*
 * Of a running process pages may have gone meanwhile, or all of it: zeroes then. Their place is
 * taken by new ones or none, which the next dump saves or leaves out. But what the process itself may
 * not read may be there and denied to us, who trace it no more (CONFIG_PROC_MEM_FORCE_PTRACE).
 */
static int read_pages(const struct copy *c, uint64_t t_addr, uint8_t *to, size_t bytes)
{
	struct dump_process *p = c->p;
	struct task *leader = &p->threads[0].task;
	struct iovec ours = { to, bytes }, theirs = { (void *)t_addr, bytes };
	int r;

	if (c->pagemap_fd >= 0 && are_exclusive(c->pagemap_fd, t_addr, bytes / PAGE_BYTES) &&
	    process_vm_readv(leader->tid, &ours, 1, &theirs, 1, 0) == (ssize_t)bytes)
		return 0;
	r = remote_read(leader, t_addr, to, bytes);
	if (r >= 0 || !p->ctx->tree_runs)
		return r;
	for (size_t off = 0; off < bytes; off += PAGE_BYTES) {
		const struct vma *v = vma_find(p, t_addr + off);

		if (remote_read(leader, t_addr + off, to + off, PAGE_BYTES) >= 0)
			continue;
		if (v && !(v->prot & PROT_READ))
			return r;
		memset(to + off, 0, PAGE_BYTES);
	}
	return 0;
}

/* Several threads at once: see image_fill_fn. */
static int copy_piece(void *arg, unsigned int worker, uint64_t off, void *to, size_t n)
{
	struct copy *c = arg;
	uint64_t at = off / PAGE_BYTES, left = n / PAGE_BYTES;
	const struct mem_run *run = mem_runs_find(c->runs, at);
	uint8_t *p = to;
	int r = worker ? 0 : dump_check_cancelled(c->p->ctx);

	for (; left && r >= 0; run++) {
		uint64_t t_addr = run->start + (at - run->first) * PAGE_BYTES;
		uint64_t pages;

		if (!(run->flags & PE_PRESENT))
			continue;
		for (; left && t_addr < run->end && r >= 0; t_addr += pages * PAGE_BYTES) {
			pages = MIN(left, (run->end - t_addr) / PAGE_BYTES);
			pages = MIN(pages, PAGES_AT_ONCE);
			r = read_pages(c, t_addr, p, pages * PAGE_BYTES);
			if (r < 0)
				c->failed_at = t_addr;
			p += pages * PAGE_BYTES;
			at += pages;
			left -= pages;
		}
	}
	return r;
}

static int copy_pages(struct pagemap_writer *w, struct dump_process *p, const struct mem_runs *runs)
{
	_cleanup_close_ int pagemap_fd = -EBADF;
	struct copy c = { .p = p, .runs = runs };
	int r;

	/* process_vm_readv() takes a pid: that of one that runs may be another's by now. */
	if (runs->n_present && !p->ctx->tree_runs) {
		pagemap_fd = mem_pagemap_open(p);
		if (pagemap_fd < 0)
			return pagemap_fd;
	}
	c.pagemap_fd = pagemap_fd;
	r = pagemap_fill(w, runs->n_present, copy_piece, &c);
	if (r < 0 && c.failed_at)
		return log_err(r, "cannot read memory at 0x%lx", c.failed_at);
	return r < 0 ? log_err(r, "cannot write the pages") : 0;
}

/* flags: for every run, whatever its own; 0: its own. */
static int add_entries(struct pagemap_writer *w, const struct mem_runs *runs, uint32_t flags)
{
	for (size_t i = 0; i < runs->n; i++) {
		const struct mem_run *run = &runs->run[i];
		uint64_t n = run_pages(run), at = run->start;

		while (n) {
			uint64_t pages = MIN(n, (uint64_t)UINT32_MAX);
			int r = pagemap_add(w, at, pages, flags ? flags : run->flags);

			if (r < 0)
				return log_err(r, "cannot write pages at 0x%lx", at);
			at += pages * PAGE_BYTES;
			n -= pages;
		}
	}
	return 0;
}

/* A page map with the contents of its PE_PRESENT runs. */
static int write_pages(struct dump_ctx *ctx, struct dump_process *p, struct image_store *store,
		       uint32_t pages_id, const struct mem_runs *runs)
{
	_cleanup_pagemap_writer_ struct pagemap_writer w = { 0 };
	int r;

	r = pagemap_create(store, &image_pagemap, p->pid_virtual, pages_id, &w);
	if (r >= 0)
		r = add_entries(&w, runs, 0);
	if (r >= 0)
		r = copy_pages(&w, p, runs);
	if (r < 0)
		return r;
	ctx->stats.pages_written += w.pages_written;
	r = pagemap_close(&w);
	return r < 0 ? log_err(r, "cannot write the page images") : 0;
}

/* A page map alone: its pages are somewhere else. */
static int write_map(struct dump_process *p, struct image_store *store, uint32_t pages_id,
		     const struct mem_runs *runs, uint32_t flags)
{
	_cleanup_pagemap_writer_ struct pagemap_writer w = { 0 };
	int r;

	r = pagemap_create_map(store, &image_pagemap, p->pid_virtual, pages_id, &w);
	if (r >= 0)
		r = add_entries(&w, runs, flags);
	if (r < 0)
		return r;
	r = pagemap_close(&w);
	return r < 0 ? log_err(r, "cannot write the page images") : 0;
}

static int write_process(struct dump_ctx *ctx, struct dump_process *p)
{
	uint32_t id = ++ctx->next_pages_id;
	int r;

	if (p->is_cow_source) {
		p->pages_id = id;
		r = write_pages(ctx, p, ctx->shared_store, id, &p->runs);
		return r < 0 ? r : write_map(p, ctx->store, ++ctx->next_pages_id, &p->runs,
					     PE_PARENT);
	}
	r = write_pages(ctx, p, ctx->store, id, &p->runs);
	if (r < 0 || !p->cow_from)
		return r;
	return write_map(p, ctx->shared_store, p->cow_from->pages_id, &p->cow_from->runs,
			 PE_PRESENT);
}

int mem_dump(struct dump_ctx *ctx, struct dump_process *p)
{
	uint64_t begin = clock_usec(CLOCK_MONOTONIC), found;
	int r = p->runs.n || ctx->tree_runs ? 0 : mem_chain_find(ctx, p);

	if (r < 0)
		return r;
	found = clock_usec(CLOCK_MONOTONIC);
	ctx->stats.pages_scanned += p->runs.n_present + p->runs.n_parent;
	ctx->stats.pages_skipped_parent += p->runs.n_parent;
	r = write_process(ctx, p);
	/* Those who refer to a source need its runs. */
	if (!p->is_cow_source)
		mem_runs_done(&p->runs);
	ctx->stats.memdump_usec += found - begin;
	ctx->stats.memwrite_usec += clock_usec(CLOCK_MONOTONIC) - found;
	return r;
}

/* Field numbers of /proc/PID/stat (proc_pid_stat(5)), from 1. */
static int stat_fields(const char *text, uint64_t *field, size_t n)
{
	const char *s = strrchr(text, ')');
	size_t i = 2;

	if (!s)
		return -EBADMSG;
	memset(field, 0, n * sizeof(*field));
	for (s++; *s && i + 1 < n;) {
		char *end;

		s += strspn(s, " \n");
		if (!*s)
			break;
		i++;
		if (i == 3) {	/* the state letter */
			s++;
			continue;
		}
		field[i] = strtoull(s, &end, 10);
		if (end == s)
			return -EBADMSG;
		s = end;
	}
	return i >= 51 ? 0 : -EBADMSG;
}

static int mm_dump_ranges(struct dump_process *p, MmEntry *mm)
{
	_cleanup_free_ char *text = NULL;
	uint64_t f[64];
	int r;

	r = read_file_at(p->proc_fd, "stat", READ_FILE_MAX, &text, NULL);
	if (r >= 0)
		r = stat_fields(text, f, ARRAY_SIZE(f));
	if (r < 0)
		return log_err(r, "cannot read /proc/%d/stat", p->pid);
	mm->mm_start_code = f[26];
	mm->mm_end_code = f[27];
	mm->mm_start_stack = f[28];
	mm->mm_start_data = f[45];
	mm->mm_end_data = f[46];
	mm->mm_start_brk = f[47];
	mm->mm_arg_start = f[48];
	mm->mm_arg_end = f[49];
	mm->mm_env_start = f[50];
	mm->mm_env_end = f[51];
	return 0;
}

int mm_dump(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_free_ char *auxv = NULL;
	struct dump_file *exe;
	MmEntry *mm = p->mm;
	size_t bytes;
	int r;

	r = mm_dump_ranges(p, mm);
	if (r < 0)
		return r;
	r = read_file_at(p->proc_fd, "auxv", 65536, &auxv, &bytes);
	if (r < 0)
		return log_err(r, "cannot read /proc/%d/auxv", p->pid);
	/*
	 * Without the AT_NULL pair, which PR_SET_MM_MAP puts behind what it is given: CRIU takes
	 * no more than 46 words, which is what Linux 6.18 has without it.
	 */
	mm->n_mm_saved_auxv = bytes >= 16 ? (bytes - 16) / 8 : 0;
	mm->mm_saved_auxv = arena_memdup(&ctx->arena, auxv, bytes);
	if (!mm->mm_saved_auxv)
		return -ENOMEM;
	r = dump_file_get_link(ctx, p, "exe", O_RDONLY, &exe);
	if (r < 0)
		return r;
	mm->exe_file_id = exe->id;
	r = vma_dump(ctx, p);
	return r < 0 ? r : guards_dump(ctx, p);
}
