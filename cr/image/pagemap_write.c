/* Writing page images. Entries carry the page count in both of its fields (see pages.c). */
#include <inttypes.h>

#include "image/pages.h"
#include "image/proto.h"
#include "image/store.h"
#include "util/log.h"

int pagemap_create_map(struct image_store *s, const struct image_type *map_type, uint64_t id,
		       uint32_t pages_id, struct pagemap_writer *w)
{
	PagemapHead head = PAGEMAP_HEAD__INIT;
	int r;

	*w = (struct pagemap_writer){ 0 };
	head.pages_id = pages_id;
	head.has_shared = head.shared = s->of != NULL;
	r = image_create(s, map_type, &w->map, id);
	if (!r)
		r = image_put(w->map, &head.base);
	if (r < 0)
		pagemap_abandonp(w);
	return r;
}

int pagemap_create(struct image_store *s, const struct image_type *map_type, uint64_t id,
		   uint32_t pages_id, struct pagemap_writer *w)
{
	int r = pagemap_create_map(s, map_type, id, pages_id, w);

	if (!r)
		r = image_create(s, &image_pages, &w->pages, pages_id);
	if (r < 0)
		pagemap_abandonp(w);
	return r;
}

static int flush_run(struct pagemap_writer *w)
{
	PagemapEntry e = PAGEMAP_ENTRY__INIT;

	if (!w->n_pages)
		return 0;
	e.vaddr = w->vaddr;
	e.compat_nr_pages = (uint32_t)w->n_pages;
	e.has_nr_pages = true;
	e.nr_pages = w->n_pages;
	e.has_flags = true;
	e.flags = w->flags;
	/* What readers before the flags looked at. */
	if (w->flags & PE_PARENT) {
		e.has_in_parent = true;
		e.in_parent = true;
	}
	return image_put(w->map, &e.base);
}

int pagemap_add(struct pagemap_writer *w, uint64_t vaddr, uint64_t n_pages, uint32_t flags)
{
	uint64_t end = w->vaddr + w->n_pages * PAGE_BYTES;
	int r;

	if (vaddr % PAGE_BYTES || !n_pages || n_pages > UINT32_MAX ||
	    vaddr > UINT64_MAX - n_pages * PAGE_BYTES || (w->n_pages && vaddr < end))
		return log_fail(-EINVAL, "bad run of pages: 0x%" PRIx64 ", %" PRIu64 " pages, "
				"after 0x%" PRIx64, vaddr, n_pages, end);
	if (w->n_pages && vaddr == end && flags == w->flags &&
	    w->n_pages + n_pages <= UINT32_MAX) {
		w->n_pages += n_pages;
	} else {
		r = flush_run(w);
		if (r < 0)
			return r;
		w->vaddr = vaddr;
		w->n_pages = n_pages;
		w->flags = flags;
	}
	if (flags & PE_PRESENT)
		w->pages_written += n_pages;
	return 0;
}

int pagemap_put(struct pagemap_writer *w, uint64_t vaddr, uint64_t n_pages, uint32_t flags,
		void **ret_room)
{
	int r;

	*ret_room = NULL;
	if (flags & PE_PRESENT && n_pages > PAGEMAP_RUN_MAX)
		return log_fail(-EINVAL, "too long a run of pages: 0x%" PRIx64 ", %" PRIu64
				" pages", vaddr, n_pages);
	r = pagemap_add(w, vaddr, n_pages, flags);
	if (r < 0 || !(flags & PE_PRESENT))
		return r;
	return image_reserve(w->pages, n_pages * PAGE_BYTES, ret_room);
}

int pagemap_fill(struct pagemap_writer *w, uint64_t n_pages, image_fill_fn fn, void *arg)
{
	return n_pages ? image_fill(w->pages, n_pages * PAGE_BYTES, fn, arg) : 0;
}

int pagemap_close(struct pagemap_writer *w)
{
	int r = flush_run(w), k;

	if (r < 0) {
		pagemap_abandonp(w);
		return r;
	}
	k = image_close(take_ptr(w->pages));
	r = image_close(take_ptr(w->map));
	return k < 0 ? k : r;
}

void pagemap_abandonp(struct pagemap_writer *w)
{
	image_abandonp(&w->map);
	image_abandonp(&w->pages);
}
