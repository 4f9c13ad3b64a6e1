/*
 * Which of the pages we hold make up the store: few long ranges, because the command line has
 * little room; whole memory blocks if possible, because the new kernel takes memory back by
 * blocks only. Pure.
 *
 * In two rounds: runs of whole blocks; if they do not suffice and the caller agrees, what is
 * left over in runs of single pages. Within a round, the smallest run that suffices, else the
 * longest one, and so on.
 */
#include <string.h>

#include "crkexec/hugepages.h"

struct runs {
	struct manifest_range *v;
	size_t n;
};

struct chosen {
	struct runs runs;
	uint64_t bytes;
	size_t max;
};

static int u64_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x != y ? (x < y ? -1 : 1) : 0;
}

static int range_compare(const void *a, const void *b)
{
	return u64_compare(&((const struct manifest_range *)a)->addr,
			   &((const struct manifest_range *)b)->addr);
}

static bool touches(const struct manifest_range *r, size_t n, uint64_t addr, uint64_t bytes)
{
	for (size_t i = 0; i < n; i++)
		if (addr < r[i].addr + r[i].bytes && r[i].addr < addr + bytes)
			return true;
	return false;
}

static int runs_add(struct runs *l, uint64_t addr, uint64_t bytes)
{
	struct manifest_range *v;

	if (l->n && l->v[l->n - 1].addr + l->v[l->n - 1].bytes == addr) {
		l->v[l->n - 1].bytes += bytes;
		return 0;
	}
	v = reallocarray(l->v, l->n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	l->v = v;
	v[l->n++] = (struct manifest_range){ addr, bytes };
	return 0;
}

/* Runs of pages that may be used. sorted: ascending, without zeroes. */
static int find_runs(const uint64_t *sorted, size_t n, const struct choose_spec *spec,
		     const struct chosen *without, struct runs *ret)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		if (sorted[i] >= spec->low &&
		    !touches(spec->avoid, spec->n_avoid, sorted[i], HUGEPAGE_BYTES) &&
		    /* With a page right below it a run of blocks would lose its alignment. */
		    !touches(without->runs.v, without->runs.n, sorted[i], 2 * HUGEPAGE_BYTES))
			r = runs_add(ret, sorted[i], HUGEPAGE_BYTES);
	return r;
}

/* Cuts each run down to its whole blocks; what has none is left with 0 bytes. */
static void cut_to_blocks(struct runs *l, uint64_t block)
{
	for (size_t i = 0; i < l->n; i++) {
		uint64_t from = ROUND_UP(l->v[i].addr, block);
		uint64_t to = (l->v[i].addr + l->v[i].bytes) / block * block;

		l->v[i] = (struct manifest_range){ from, to > from ? to - from : 0 };
	}
}

/* The smallest run of at least this many bytes, else the longest; NULL: all are empty. */
static struct manifest_range *best_run(struct runs *l, uint64_t bytes)
{
	struct manifest_range *best = NULL;

	for (struct manifest_range *r = l->v; r < l->v + l->n; r++) {
		bool enough = r->bytes >= bytes;

		if (!r->bytes)
			continue;
		/* Of equals the highest: drivers need low memory. */
		if (!best || (enough && best->bytes < bytes) ||
		    (enough ? r->bytes <= best->bytes : r->bytes >= best->bytes))
			best = r;
	}
	return best;
}

static int choose_from(struct runs *l, uint64_t want, uint64_t unit, struct chosen *c)
{
	while (c->bytes < want && c->runs.n < c->max) {
		uint64_t left = ROUND_UP(want - c->bytes, unit), take;
		struct manifest_range *best = best_run(l, left);
		struct manifest_range *v;

		if (!best)
			return 0;
		v = reallocarray(c->runs.v, c->runs.n + 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		c->runs.v = v;
		take = MIN(best->bytes, left);
		/* The upper end, for the same reason. */
		v[c->runs.n++] = (struct manifest_range){ best->addr + best->bytes - take, take };
		best->bytes -= take;
		c->bytes += take;
	}
	return 0;
}

static int round_of(const uint64_t *sorted, size_t n, const struct choose_spec *spec,
		    uint64_t unit, struct chosen *c)
{
	struct runs l = { 0 };
	int r = find_runs(sorted, n, spec, c, &l);

	if (r == 0 && unit > HUGEPAGE_BYTES)
		cut_to_blocks(&l, unit);
	if (r == 0)
		r = choose_from(&l, spec->bytes, unit, c);
	free(l.v);
	return r;
}

static void merge(struct runs *l)
{
	size_t to = 0;

	qsort(l->v, l->n, sizeof(*l->v), range_compare);
	for (size_t i = 1; i < l->n; i++) {
		if (l->v[to].addr + l->v[to].bytes == l->v[i].addr)
			l->v[to].bytes += l->v[i].bytes;
		else
			l->v[++to] = l->v[i];
	}
	l->n = l->n ? to + 1 : 0;
}

int hugepages_choose(const uint64_t *frames, size_t n, const struct choose_spec *spec,
		     struct manifest_range **ret, size_t *ret_n, uint64_t *ret_bytes)
{
	_cleanup_free_ uint64_t *sorted = reallocarray(NULL, n + 1, sizeof(*sorted));
	struct chosen c = { .max = spec->max_ranges };
	size_t used = 0;
	int r = 0;

	*ret_bytes = 0;
	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (frames[i])
			sorted[used++] = frames[i];
	qsort(sorted, used, sizeof(*sorted), u64_compare);
	if (spec->block_bytes)
		r = round_of(sorted, used, spec, spec->block_bytes, &c);
	if (r == 0 && c.bytes < spec->bytes && !spec->only_blocks)
		r = round_of(sorted, used, spec, HUGEPAGE_BYTES, &c);
	*ret_bytes = c.bytes;
	if (r == 0 && c.bytes < spec->bytes)
		r = c.runs.n < c.max ? -ENOMEM : -E2BIG;
	if (r < 0) {
		free(c.runs.v);
		return r;
	}
	if (c.runs.n)
		merge(&c.runs);
	*ret = c.runs.v;
	*ret_n = c.runs.n;
	return 0;
}
