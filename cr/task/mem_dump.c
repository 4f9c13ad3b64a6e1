/*
 * Memory, dumping side.
 *
 * Which pages: PAGEMAP_SCAN (Linux >= 6.7), else /proc/PID/pagemap. Saved are the pages a
 * private area has to itself: present or swapped, not the zero page, not the file's own.
 * Their bytes come through /proc/PID/mem, which leaves copy-on-write sharing alone.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "image/pages.h"
#include "task/mem.h"
#include "task/pagemap.h"
#include "task/vma.h"

/* Runs found before their contents are copied: what one process may cost us in memory. */
#define RUNS_MAX	65536u

#define PM_PRESENT	(1ull << 63)
#define PM_SWAPPED	(1ull << 62)
#define PM_FILE		(1ull << 61)
#define PM_GUARD	(1ull << 58)

struct run {
	uint64_t start;			/* t_addr */
	uint64_t first;			/* pages of the runs before it */
};

struct mem_dump {
	struct dump_ctx *ctx;
	struct dump_process *p;
	struct pagemap_writer *w;
	int pagemap_fd;
	uint64_t guard;			/* category of guard pages: see guard.c */
	struct run *runs;
	size_t n_runs, room;
	uint64_t n_pages;		/* of all runs */
	_Atomic uint64_t failed_at;	/* t_addr that could not be read */
};

/* The run that page `at` of all is in. */
static const struct run *run_of(const struct mem_dump *m, uint64_t at)
{
	size_t lo = 0, hi = m->n_runs;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->runs[mid].first <= at)
			lo = mid;
		else
			hi = mid;
	}
	return &m->runs[lo];
}

/* Several threads at once: see image_fill_fn. */
static int copy_piece(void *arg, unsigned int worker, uint64_t off, void *to, size_t n)
{
	struct mem_dump *m = arg;
	uint64_t at = off / PAGE_BYTES, left = n / PAGE_BYTES;
	const struct run *run = run_of(m, at);
	uint8_t *p = to;
	int r = worker ? 0 : dump_check_cancelled(m->ctx);

	for (; left && r >= 0; run++) {
		uint64_t end = run + 1 < m->runs + m->n_runs ? run[1].first : m->n_pages;
		uint64_t t_addr = run->start + (at - run->first) * PAGE_BYTES;
		uint64_t pages = MIN(left, end - at);

		r = remote_read(&m->p->threads[0].task, t_addr, p, pages * PAGE_BYTES);
		if (r < 0)
			m->failed_at = t_addr;
		p += pages * PAGE_BYTES;
		at += pages;
		left -= pages;
	}
	return r;
}

static int copy_runs(struct mem_dump *m)
{
	int r = pagemap_fill(m->w, m->n_pages, copy_piece, m);

	if (r < 0 && m->failed_at)
		return log_err(r, "cannot read memory at 0x%lx", m->failed_at);
	if (r < 0)
		return log_err(r, "cannot write the pages");
	m->n_runs = 0;
	m->n_pages = 0;
	return 0;
}

static int dump_run(struct mem_dump *m, uint64_t start, uint64_t end)
{
	uint64_t n = (end - start) / PAGE_BYTES;
	int r;

	m->ctx->stats.pages_scanned += n;
	while (n) {
		uint64_t pages = MIN(n, (uint64_t)UINT32_MAX);

		if (m->n_runs == m->room) {
			size_t room = m->room ? m->room * 2 : 64;
			struct run *more = reallocarray(m->runs, room, sizeof(*more));

			if (!more)
				return -ENOMEM;
			m->runs = more;
			m->room = room;
		}
		r = pagemap_add(m->w, start, pages, PE_PRESENT);
		if (r < 0)
			return log_err(r, "cannot write pages at 0x%lx", start);
		m->runs[m->n_runs++] = (struct run){ start, m->n_pages };
		m->n_pages += pages;
		start += pages * PAGE_BYTES;
		n -= pages;
		if (m->n_runs >= RUNS_MAX && (r = copy_runs(m)) < 0)
			return r;
	}
	return 0;
}

/* -ENOTTY: the kernel has no PAGEMAP_SCAN. */
static int dump_area_by_scan(struct mem_dump *m, const struct vma *v)
{
	struct scan_region regions[512];
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = v->start,
		.end = v->end,
		.vec = (uint64_t)regions,
		.vec_len = ARRAY_SIZE(regions),
		.category_inverted = CR_PAGE_FILE | CR_PAGE_PFNZERO | m->guard,
		.category_mask = CR_PAGE_FILE | CR_PAGE_PFNZERO | m->guard,
		.category_anyof_mask = CR_PAGE_PRESENT | CR_PAGE_SWAPPED,
		.return_mask = CR_PAGE_PRESENT | CR_PAGE_SWAPPED,
	};

	while (arg.start < v->end) {
		int n = ioctl(m->pagemap_fd, CR_PAGEMAP_SCAN, &arg);
		int r;

		if (n < 0)
			return neg_errno();
		for (int i = 0; i < n; i++) {
			r = dump_run(m, regions[i].start, regions[i].end);
			if (r < 0)
				return r;
		}
		if (arg.walk_end <= arg.start)
			break;
		arg.start = arg.walk_end;
	}
	return 0;
}

static int dump_area_by_pagemap(struct mem_dump *m, const struct vma *v)
{
	uint64_t bits[1024], run = 0;
	int r;

	for (uint64_t at = v->start; at < v->end;) {
		size_t n = MIN((v->end - at) / PAGE_BYTES, ARRAY_SIZE(bits));

		r = pread_full(m->pagemap_fd, bits, n * 8, (off_t)(at / PAGE_BYTES * 8));
		if (r < 0)
			return log_err(r, "cannot read pagemap at 0x%lx", at);
		for (size_t i = 0; i < n; i++, at += PAGE_BYTES) {
			bool want = bits[i] & (PM_PRESENT | PM_SWAPPED) &&
				    !(bits[i] & (PM_FILE | PM_GUARD));

			if (want && !run)
				run = at;
			if (want || !run)
				continue;
			r = dump_run(m, run, at);
			if (r < 0)
				return r;
			run = 0;
		}
	}
	return run ? dump_run(m, run, v->end) : 0;
}

static int dump_area(struct mem_dump *m, const struct vma *v)
{
	int r;

	if (!vma_status_has_pages(v->status) || v->status & (VMA_VVAR | VMA_VSYSCALL))
		return 0;
	/* Droppable memory may vanish at any time: to its owner an empty page is normal. */
	if (v->flags & 0x08 && !(v->flags & MAP_PRIVATE))
		return 0;
	if (v->status & (VMA_VDSO | VMA_AIORING))
		return dump_run(m, v->start, v->end);
	r = dump_area_by_scan(m, v);
	if (r == -ENOTTY || r == -EINVAL)
		r = dump_area_by_pagemap(m, v);
	return r;
}

static uint64_t usec_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

int mem_dump(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_pagemap_writer_ struct pagemap_writer w = { 0 };
	_cleanup_close_ int fd = openat(p->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	struct mem_dump m = { .ctx = ctx, .p = p, .w = &w, .pagemap_fd = fd };
	uint64_t begin = usec_now();
	int r;

	if (fd < 0)
		return log_err(neg_errno(), "cannot open /proc/%d/pagemap", p->pid);
	m.guard = pagemap_guard_category(fd);
	r = pagemap_create(ctx->store, &image_pagemap, p->pid_virtual, ++ctx->next_pages_id, &w);
	if (r < 0)
		return log_err(r, "cannot create the page images");
	for (size_t i = 0; i < p->n_vmas && r >= 0; i++)
		r = dump_area(&m, &p->vmas[i]);
	if (r >= 0)
		r = copy_runs(&m);
	free(m.runs);
	if (r < 0)
		return r;
	ctx->stats.pages_written += w.pages_written;
	ctx->stats.memdump_usec += usec_now() - begin;
	r = pagemap_close(&w);
	return r < 0 ? log_err(r, "cannot write the page images") : 0;
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
