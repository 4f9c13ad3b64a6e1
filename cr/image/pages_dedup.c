/*
 * Pages that are not needed any more, given back to the file system: holes in the pages file, whose
 * offsets stay as they are.
 */
#include <inttypes.h>

#include "image/pages.h"
#include "image/store.h"
#include "util/log.h"

int pages_punch(const struct page_run *run, uint64_t *pages)
{
	char name[IMAGE_NAME_MAX];
	int r;

	if (!(run->flags & PE_PRESENT) || run->shared)
		return 0;
	image_name(run->store, &image_pages, run->pages_id, name);
	r = run->store->ops->punch ?
		    run->store->ops->punch(run->store, name, run->file_page * PAGE_BYTES,
					   run->n_pages * PAGE_BYTES) : -EOPNOTSUPP;
	if (r < 0)
		return log_err(r, "cannot punch %" PRIu64 " pages out of image %s", run->n_pages, name);
	*pages += run->n_pages;
	return 0;
}

/* run: what the newer images have themselves, in any of their generations. */
static int punch_older(struct pages_reader *older, struct page_run run, uint64_t *pages)
{
	while (run.n_pages) {
		struct page_run old;
		int r = pages_at(older, run.vaddr, run.n_pages, &old);

		if (r > 0)
			r = pages_punch(&old, pages);
		if (r < 0)
			return r;
		run.vaddr += old.n_pages * PAGE_BYTES;
		run.n_pages -= old.n_pages;
	}
	return 0;
}

int pages_dedup(struct image_store *s, const struct image_type *map_type, uint64_t id,
		uint64_t *pages)
{
	_cleanup_pages_ struct pages_reader *own = NULL, *older = NULL;
	struct image_store *parent;
	struct page_run run;
	int r;

	r = image_store_parent(s, &parent);
	if (r < 0)
		return r == -ENOENT ? 0 : log_err(r, "cannot open the parent images");
	r = pages_open(s, map_type, id, &own);
	if (r >= 0)
		r = pages_open(parent, map_type, id, &older);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	while ((r = pages_next(own, &run)) > 0) {
		if (run.store == s)
			r = punch_older(older, run, pages);
		if (r < 0)
			return r;
	}
	return r;
}
