/*
 * The contents of restored memory.
 *
 * A clone has its parent's memory. Of areas both have, only pages that differ are written, so
 * copy-on-write sharing between parent and workers comes back by itself. Pages that two
 * page maps share in the images need not even be looked at.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "image/store.h"
#include "task/mem_restore.h"
#include "task/parts.h"
#include "util/parallel.h"

/* To be written: pages that are together in the image and in the task. */
struct span {
	uint64_t t_addr;
	uint64_t first;			/* pages of the spans before it */
	const struct image_reader *file;
	const uint8_t *data;		/* in file */
};

struct fill {
	struct restore_process *p;
	struct span *spans;
	size_t n, room;
	uint64_t n_pages;		/* of all spans */
	void *copies[PARALLEL_WORKERS_MAX];	/* see image_bytes() */
	_Atomic uint64_t failed_at;	/* t_addr that could not be filled */
};

static const VmaEntry *area_at(const MmEntry *mm, uint64_t addr)
{
	size_t lo = 0, hi = mm->n_vmas;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (mm->vmas[mid]->end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < mm->n_vmas && mm->vmas[lo]->start <= addr ? mm->vmas[lo] : NULL;
}

static int add_span(struct fill *f, const struct page_run *run)
{
	struct span *last = f->n ? &f->spans[f->n - 1] : NULL;
	uint64_t last_bytes = last ? (f->n_pages - last->first) * PAGE_BYTES : 0;

	if (!last || last->file != run->file || last->t_addr + last_bytes != run->vaddr ||
	    last->data + last_bytes != run->data) {
		if (f->n == f->room) {
			size_t room = f->room ? f->room * 2 : 64;
			struct span *more = reallocarray(f->spans, room, sizeof(*more));

			if (!more)
				return -ENOMEM;
			f->spans = more;
			f->room = room;
		}
		f->spans[f->n++] = (struct span){ run->vaddr, f->n_pages, run->file, run->data };
	}
	f->n_pages += run->n_pages;
	return 0;
}

/* The first n_pages of run, which goes on behind them. */
static struct page_run take_pages(struct page_run *run, uint64_t n_pages)
{
	struct page_run first = *run;

	first.n_pages = n_pages;
	run->vaddr += n_pages * PAGE_BYTES;
	run->data += n_pages * PAGE_BYTES;
	run->n_pages -= n_pages;
	return first;
}

static int add_unequal(struct restore_ctx *ctx, struct fill *f, struct page_run run,
		       const uint8_t *theirs)
{
	int r = 0;

	for (; run.n_pages && r >= 0; theirs += PAGE_BYTES) {
		struct page_run page = take_pages(&run, 1);

		ctx->stats.pages_compared++;
		if (memcmp(theirs, page.data, PAGE_BYTES))
			r = add_span(f, &page);
		else
			ctx->stats.pages_skipped_cow++;
	}
	return r;
}

/* A part of an area that the parent has too: what differs. */
static int add_differing(struct restore_ctx *ctx, struct fill *f, struct page_run run)
{
	while (run.n_pages) {
		struct page_run theirs, part;
		int r = pages_at(f->p->mem_from->pages, run.vaddr, run.n_pages, &theirs);

		if (r < 0)
			return r;
		part = take_pages(&run, theirs.n_pages);
		if (!r || !theirs.data)
			r = add_span(f, &part);
		else if (theirs.data == part.data)
			ctx->stats.pages_skipped_cow += part.n_pages;
		else
			r = add_unequal(ctx, f, part, theirs.data);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_run(struct restore_ctx *ctx, struct fill *f, struct page_run run)
{
	uint32_t pid = f->p->pst->pid;

	if (!run.data)
		return log_fail(-EOPNOTSUPP, "pagemap-%u.img: page at 0x%lx has no contents (lazy dump)",
				pid, run.vaddr);
	while (run.n_pages) {
		const VmaEntry *e = area_at(f->p->mm, run.vaddr);
		struct page_run part;
		int r;

		if (!e || !vma_status_has_pages(e->status) || area_is_kernels(e))
			return log_fail(-EBADMSG, "pagemap-%u.img: page at 0x%lx lies in no private area",
					pid, run.vaddr);
		part = take_pages(&run, MIN(run.n_pages, (e->end - run.vaddr) / PAGE_BYTES));
		r = area_inherited(f->p, e) ? add_differing(ctx, f, part) : add_span(f, &part);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The span that page `at` of all is in. */
static const struct span *span_of(const struct fill *f, uint64_t at)
{
	size_t lo = 0, hi = f->n;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (f->spans[mid].first <= at)
			lo = mid;
		else
			hi = mid;
	}
	return &f->spans[lo];
}

static int fill_pages(struct fill *f, const struct span *s, uint64_t skip, uint64_t n, void **room)
{
	const uint8_t *data;
	int r = image_bytes(s->file, s->data + skip, n, room, &data);
	struct iovec from = { (void *)data, n }, to = { (void *)(s->t_addr + skip), n };

	/* One copy, where /proc/PID/mem makes two; but not where the process itself may not write. */
	if (r >= 0 && process_vm_writev((pid_t)f->p->pid, &from, 1, &to, 1, 0) != (ssize_t)n)
		r = pwrite_full(f->p->remote->mem_fd, data, n, (off_t)(s->t_addr + skip));
	if (r < 0)
		f->failed_at = s->t_addr + skip;
	return r;
}

/* Several threads at once: see piece_fn. */
static int fill_piece(void *arg, unsigned int worker, uint64_t off, size_t n)
{
	struct fill *f = arg;
	uint64_t at = off / PAGE_BYTES, left = n / PAGE_BYTES;
	const struct span *s = span_of(f, at);

	while (left) {
		uint64_t end = s + 1 < f->spans + f->n ? s[1].first : f->n_pages;
		uint64_t pages = MIN(MIN(left, end - at), (uint64_t)(FILL_PIECE_BYTES / PAGE_BYTES));
		int r = fill_pages(f, s, (at - s->first) * PAGE_BYTES, pages * PAGE_BYTES,
				   &f->copies[worker]);

		if (r < 0)
			return r;
		at += pages;
		left -= pages;
		s += at == end;
	}
	return 0;
}

static int fill_by_all(struct restore_ctx *ctx, struct fill *f, uint64_t bytes)
{
	int r;

	cpus_unpin(ctx);
	r = parallel(bytes, FILL_PIECE_BYTES, fill_piece, f);
	return r < 0 ? r : cpus_repin(ctx);
}

int contents_fill(struct restore_ctx *ctx, struct restore_process *p)
{
	struct fill f = { .p = p };
	struct page_run run;
	uint64_t bytes;
	int r;

	pages_rewind(p->pages);
	while ((r = pages_next(p->pages, &run)) > 0) {
		r = add_run(ctx, &f, run);
		if (r < 0)
			break;
	}
	bytes = f.n_pages * PAGE_BYTES;
	if (r >= 0 && bytes)
		r = bytes < FILL_BYTES_MIN ? fill_piece(&f, 0, 0, bytes) : fill_by_all(ctx, &f, bytes);
	if (r < 0 && f.failed_at)
		log_err(r, "process %u: cannot fill memory at 0x%lx", p->pst->pid, f.failed_at);
	ctx->stats.pages_restored += f.n_pages;
	for (unsigned int i = 0; i < PARALLEL_WORKERS_MAX; i++)
		free(f.copies[i]);
	free(f.spans);
	return r;
}

/* The parts of [at, end) that are in areas of both. A huge page is there, or not, as a whole. */
static int drop_range(struct restore_process *p, struct batch *b, uint64_t at, uint64_t end)
{
	while (at < end) {
		const VmaEntry *e = area_at(p->mm, at);
		uint64_t to = e ? MIN(end, e->end) : at + PAGE_BYTES;
		int r;

		if (e && area_inherited(p, e) && !((at | to) % vma_entry_page_bytes(e))) {
			r = batch_make_room(b, 1, 0);
			if (r < 0)
				return r;
			batch_call(b, SYS_madvise, at, to - at, MADV_DONTNEED);
		}
		at = to;
	}
	return 0;
}

/* Theirs may come in pieces smaller than a huge page, as CRIU writes them: dropped as one range. */
int contents_drop(struct restore_process *p, struct batch *b)
{
	struct pages_reader *theirs = p->mem_from->pages;
	uint64_t from = 0, to = 0;
	struct page_run run, mine;
	int r;

	pages_rewind(theirs);
	while ((r = pages_next(theirs, &run)) > 0) {
		for (; run.n_pages; run.n_pages -= mine.n_pages) {
			bool kept;

			r = pages_at(p->pages, run.vaddr, run.n_pages, &mine);
			if (r < 0)
				return r;
			kept = r > 0;
			if (kept || run.vaddr != to) {
				r = drop_range(p, b, from, to);
				from = run.vaddr;
			}
			run.vaddr += mine.n_pages * PAGE_BYTES;
			to = run.vaddr;
			if (kept)
				from = to;
			if (r < 0)
				return r;
		}
	}
	return r < 0 ? r : drop_range(p, b, from, to);
}
