/*
 * Reading page images.
 *
 * The count of pages has two fields: CRIU up to 4.1 writes a 32-bit one, 4.2 a 64-bit one
 * and 0 in the old. An entry without flags is PE_PRESENT, or PE_PARENT if in_parent is set.
 *
 * PE_PARENT pages are found in the map of the same object in the parent directory, whose
 * pages may in turn be its parent's. The links are an operator's: a chain that never ends
 * (parent -> .) is cut off.
 */
#include <inttypes.h>

#include "image/pages.h"
#include "image/proto.h"
#include "image/store.h"
#include "util/log.h"

#define PARENTS_MAX 256

struct entry {
	uint64_t vaddr, n_pages, file_page;
	uint32_t flags;
};

struct pages_reader {
	struct image_store *store, *own_store;
	const struct image_type *map_type;
	uint64_t id;
	struct entry *e;
	size_t n, room;
	uint64_t n_present, n_total;
	struct image_reader pages;
	struct pages_reader *parent;	/* opened when first needed */
	int depth;
	size_t at;			/* position of pages_next(): entry, */
	uint64_t page;			/* page within it */
};

static uint64_t entry_end(const struct entry *e)
{
	return e->vaddr + e->n_pages * PAGE_BYTES;
}

static int decode(const PagemapEntry *m, struct entry *ret)
{
	ret->vaddr = m->vaddr;
	ret->n_pages = m->has_nr_pages ? m->nr_pages : m->compat_nr_pages;
	if (m->has_flags)
		ret->flags = m->flags;
	else
		ret->flags = m->has_in_parent && m->in_parent ? PE_PARENT : PE_PRESENT;
	if (ret->flags & ~(PE_PARENT | PE_LAZY | PE_PRESENT) ||
	    (ret->flags & PE_PARENT && ret->flags & PE_PRESENT))
		return -EBADMSG;
	if (ret->vaddr % PAGE_BYTES || !ret->n_pages ||
	    ret->n_pages > (UINT64_MAX - ret->vaddr) / PAGE_BYTES)
		return -EBADMSG;
	return 0;
}

static int add_entry(struct pages_reader *p, const char *name, const PagemapEntry *m)
{
	const struct entry *last = p->n ? &p->e[p->n - 1] : NULL;
	struct entry e = { .file_page = p->n_present };

	if (decode(m, &e) < 0)
		return log_fail(-EBADMSG, "image %s: bad entry: 0x%" PRIx64 ", %" PRIu64 " pages, "
				"flags 0x%x", name, e.vaddr, e.n_pages, e.flags);
	if (last && e.vaddr < entry_end(last))
		return log_fail(-EBADMSG, "image %s: the entry for 0x%" PRIx64 " is out of order "
				"or overlaps the one before", name, e.vaddr);
	/* No data anywhere: pages of zeroes. Not worth a run. */
	if (!e.flags)
		return 0;
	if (p->n == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		struct entry *more = reallocarray(p->e, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		p->e = more;
		p->room = room;
	}
	p->e[p->n++] = e;
	p->n_total += e.n_pages;
	/* Cannot wrap: entries do not overlap. */
	if (e.flags & PE_PRESENT)
		p->n_present += e.n_pages;
	return 0;
}

static int read_map(struct pages_reader *p, struct image_reader *map, uint32_t *ret_pages_id)
{
	struct arena a;
	PagemapHead *head;
	PagemapEntry *m;
	unsigned int n = 0;
	int r;

	arena_init(&a);
	r = image_get(map, &a, pagemap_head, &head);
	if (r <= 0) {
		arena_done(&a);
		return r < 0 ? r : log_fail(-EBADMSG, "image %s has no head", map->name);
	}
	*ret_pages_id = head->pages_id;
	while ((r = image_get(map, &a, pagemap_entry, &m)) > 0) {
		r = add_entry(p, map->name, m);
		if (r < 0)
			break;
		/* Entries are copied: a large map needs no large arena. */
		if (++n % 1024 == 0) {
			arena_done(&a);
			arena_init(&a);
		}
	}
	arena_done(&a);
	return r;
}

static int open_pages(struct pages_reader *p, const char *map_name, uint32_t pages_id)
{
	int r;

	if (!p->n_present)
		return 0;
	r = image_open(p->store, &image_pages, &p->pages, pages_id);
	if (r == -ENOENT)
		return log_fail(-EBADMSG, "image %s is missing: %s needs it", p->pages.name,
				map_name);
	if (r < 0)
		return r;
	if (p->pages.bytes / PAGE_BYTES < p->n_present)
		return log_fail(-EBADMSG, "image %s is truncated: %zu bytes instead of %" PRIu64
				" pages", p->pages.name, p->pages.bytes, p->n_present);
	if (p->pages.bytes != p->n_present * PAGE_BYTES)
		log_warn("image %s is longer than %s says (%zu bytes instead of %" PRIu64 " pages)",
			 p->pages.name, map_name, p->pages.bytes, p->n_present);
	return 0;
}

static int open_at(struct image_store *s, const struct image_type *map_type, uint64_t id,
		   int depth, struct pages_reader **ret)
{
	_cleanup_image_reader_ struct image_reader map;
	_cleanup_pages_ struct pages_reader *p = NULL;
	uint32_t pages_id = 0;
	int r;

	r = image_open(s, map_type, &map, id);
	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return log_err(-ENOMEM, "cannot read image %s", map.name);
	p->store = s;
	p->map_type = map_type;
	p->id = id;
	p->depth = depth;
	r = read_map(p, &map, &pages_id);
	if (r < 0)
		return r;
	r = open_pages(p, map.name, pages_id);
	if (r < 0)
		return r;
	*ret = take_ptr(p);
	return 0;
}

int pages_open(struct image_store *s, const struct image_type *map_type, uint64_t id,
	       struct pages_reader **ret)
{
	return open_at(s, map_type, id, 0, ret);
}

uint64_t pages_total(const struct pages_reader *p)
{
	return p->n_total;
}

void pages_close(struct pages_reader *p)
{
	while (p) {
		struct pages_reader *parent = p->parent;

		image_reader_done(&p->pages);
		image_store_close(p->own_store);
		free(p->e);
		free(p);
		p = parent;
	}
}

static int open_parent(struct pages_reader *p)
{
	const struct image_store_ops *ops = p->store->ops;
	struct image_store *own = NULL, *from = p->store->parent;
	int r = 0;

	if (p->depth >= PARENTS_MAX)
		return log_fail(-ELOOP, "the chain of parent images is too long");
	if (!from) {
		r = ops->open_parent ? ops->open_parent(p->store, &own) : -ENOENT;
		if (r < 0)
			return log_err(r, "cannot open the parent images");
		from = own;
	}
	r = open_at(from, p->map_type, p->id, p->depth + 1, &p->parent);
	if (r < 0) {
		image_store_close(own);
		if (r == -ENOENT)
			log_fail(r, "the parent images have no %s for %" PRIu64, p->map_type->name,
				 p->id);
		return r;
	}
	p->parent->own_store = own;
	return 0;
}

/* The entry that has vaddr, or NULL. */
static const struct entry *find_entry(const struct pages_reader *p, uint64_t vaddr)
{
	size_t lo = 0, hi = p->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (entry_end(&p->e[mid]) <= vaddr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->n && p->e[lo].vaddr <= vaddr ? &p->e[lo] : NULL;
}

/* Cuts run to what one image has, going back through the parents. */
static int resolve(struct pages_reader *p, const struct entry *e, struct page_run *run)
{
	while (e->flags & PE_PARENT) {
		int r = p->parent ? 0 : open_parent(p);

		if (r < 0)
			return r;
		p = p->parent;
		e = find_entry(p, run->vaddr);
		if (!e)
			return log_fail(-EBADMSG, "page 0x%" PRIx64 " of %s %" PRIu64 " should be "
					"in the parent images but is not", run->vaddr,
					p->map_type->name, p->id);
		run->n_pages = MIN(run->n_pages, (entry_end(e) - run->vaddr) / PAGE_BYTES);
	}
	run->flags = e->flags;
	run->data = NULL;
	if (e->flags & PE_PRESENT)
		run->data = p->pages.data + (e->file_page +
				(run->vaddr - e->vaddr) / PAGE_BYTES) * PAGE_BYTES;
	return 0;
}

int pages_next(struct pages_reader *p, struct page_run *ret)
{
	const struct entry *e;
	struct page_run run;
	int r;

	if (p->at == p->n)
		return 0;
	e = &p->e[p->at];
	run.vaddr = e->vaddr + p->page * PAGE_BYTES;
	run.n_pages = e->n_pages - p->page;
	r = resolve(p, e, &run);
	if (r < 0)
		return r;
	p->page += run.n_pages;
	if (p->page == e->n_pages) {
		p->at++;
		p->page = 0;
	}
	*ret = run;
	return 1;
}
