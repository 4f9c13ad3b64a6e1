/*
 * Taking the memory: more and more huge pages until some of them make good ranges, then all
 * the others are given back. Everybody else keeps a reserve all the time.
 *
 * First only whole memory blocks count, because they can be given back in the new kernel. When
 * the kernel has no more to offer, single pages do as well.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "crkexec/memory.h"
#include "crkexec/store_pmem.h"
#include "util/io.h"
#include "util/log.h"

/* Low memory: the first kernel code that runs, and drivers that need it. */
#define LOW_BYTES	(64ull << 20)
/* A step is at least so many pages, lest it takes forever. */
#define STEP_PAGES	64u

struct taking {
	struct pmem_state *p;
	struct choose_spec spec;
	size_t limit;			/* pages */
	bool compacted;
	struct manifest_range *ranges;
	size_t n;
	uint64_t best;			/* bytes that could be chosen */
};

static int choose(struct taking *t, bool only_blocks)
{
	t->spec.only_blocks = only_blocks;
	return hugepages_choose(t->p->pages.frames, t->p->pages.n, &t->spec, &t->ranges, &t->n,
				&t->best);
}

/* Up to the wanted number; 0 when there is nothing more to get. */
static int take_step(struct taking *t, size_t pages, size_t *ret_got)
{
	size_t left = t->limit > t->p->pages.n ? t->limit - t->p->pages.n : 0;
	int r;

	*ret_got = 0;
	pages = MIN(pages, left);
	if (!pages)
		return 0;
	r = hugepages_grow(&t->p->pages, pages, ret_got);
	if (r < 0 || *ret_got == pages || t->compacted)
		return r;
	/* The kernel compacts as far as it needs for one page; once, all of it. */
	t->compacted = true;
	if (write_file_at(AT_FDCWD, "/proc/sys/vm/compact_memory", "1") == 0) {
		size_t more = 0;

		r = hugepages_grow(&t->p->pages, pages - *ret_got, &more);
		*ret_got += more;
	}
	return r;
}

static int take_until_good(struct taking *t)
{
	size_t step = ROUND_UP(t->spec.bytes, MAX(t->spec.block_bytes, HUGEPAGE_BYTES)) /
		      HUGEPAGE_BYTES;
	bool blocks = t->spec.block_bytes != 0;
	int r;

	step = MAX(step, (size_t)STEP_PAGES);
	for (;;) {
		size_t got;

		r = take_step(t, step, &got);
		if (r < 0)
			return r;
		r = choose(t, blocks);
		if (r == 0 || (r != -ENOMEM && r != -E2BIG))
			return r;
		if (!got)
			break;
	}
	return blocks ? choose(t, false) : r;
}

static int report_failure(const struct taking *t, int r)
{
	uint64_t held = (uint64_t)t->p->pages.n * HUGEPAGE_BYTES >> 20;

	if (r == -E2BIG)
		return log_fail(r, "the store needs %" PRIu64 " MiB, but free memory is so fragmented "
				"that the %zu ranges which fit on the command line hold %" PRIu64
				" MiB of %" PRIu64 " MiB taken", t->spec.bytes >> 20,
				t->spec.max_ranges, t->best >> 20, held);
	if (r == -ENOMEM)
		return log_fail(r, "the store needs %" PRIu64 " MiB of huge pages; of %" PRIu64
				" MiB that may be taken the kernel could give %" PRIu64 " MiB, and %"
				PRIu64 " MiB of these are in the right place", t->spec.bytes >> 20,
				(uint64_t)t->limit * HUGEPAGE_BYTES >> 20, held, t->best >> 20);
	return log_err(r, "cannot choose pages for the store");
}

int pmem_take(struct pmem_state *p, uint64_t need, const struct manifest_range *avoid,
	      size_t n_avoid, struct undo_log *undo, struct manifest_range **ret, size_t *ret_n)
{
	struct taking t = {
		.p = p,
		.spec = {
			.bytes = need, .block_bytes = p->block_bytes, .low = LOW_BYTES,
			.avoid = avoid, .n_avoid = n_avoid, .max_ranges = p->max_ranges,
		},
	};
	uint64_t have, reserve;
	int r = memory_available(&have);

	if (r < 0)
		return r;
	reserve = pmem_reserve_bytes(have);
	t.limit = have > reserve ? (have - reserve) / HUGEPAGE_BYTES : 0;
	if (t.limit * HUGEPAGE_BYTES < need)
		return log_fail(-ENOMEM, "the store needs %" PRIu64 " MiB, %" PRIu64 " MiB are "
				"available and %" PRIu64 " MiB of them must stay free", need >> 20,
				have >> 20, reserve >> 20);
	r = hugepages_open(&p->pages, undo);
	if (r < 0)
		return r;
	r = take_until_good(&t);
	if (r < 0)
		return report_failure(&t, r);
	r = hugepages_keep(&p->pages, t.ranges, t.n);
	if (r < 0) {
		free(t.ranges);
		return r;
	}
	if (!pmem_may_convert(t.ranges, t.n))
		p->block_bytes = 0;	/* one conversion for all: rather lost memory than images */
	p->give_back = pmem_returnable_bytes(t.ranges, t.n, p->block_bytes) != 0;
	*ret = t.ranges;
	*ret_n = t.n;
	return 0;
}
