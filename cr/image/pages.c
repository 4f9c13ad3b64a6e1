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
	struct image_store *store;
	const struct image_type *map_type;
	uint64_t id, pages_id;
	bool shared;			/* its pages file is others' too */
	struct entry *e;
	size_t n, room;
	uint64_t n_present, n_total;
	struct pages_file *file;
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

static int read_map(struct pages_reader *p, struct image_reader *map)
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
	p->pages_id = head->pages_id;
	p->shared = head->shared;
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

/* Maps that share a pages file read the same bytes of ours. */
static int file_get(struct image_store *s, uint64_t id, const char *map_name,
		    struct pages_file **ret)
{
	struct pages_file *f;
	int r;

	for (f = s->pages_files; f; f = f->next)
		if (f->id == id) {
			f->n_users++;
			*ret = f;
			return 0;
		}
	f = calloc(1, sizeof(*f));
	if (!f)
		return log_err(-ENOMEM, "image %s", map_name);
	r = image_open(s, &image_pages, &f->reader, id);
	if (r == -ENOENT)
		r = log_fail(-EBADMSG, "image %s is missing: %s needs it", f->reader.name, map_name);
	if (r < 0) {
		free(f);
		return r;
	}
	f->id = id;
	f->n_users = 1;
	f->next = s->pages_files;
	s->pages_files = f;
	*ret = f;
	return 0;
}

static void file_put(struct image_store *s, struct pages_file *f)
{
	struct pages_file **at = &s->pages_files;

	if (!f || --f->n_users)
		return;
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	image_reader_done(&f->reader);
	free(f);
}

static int open_pages(struct pages_reader *p, const char *map_name)
{
	const struct image_reader *rd;
	int r;

	if (!p->n_present)
		return 0;
	r = file_get(p->store, p->pages_id, map_name, &p->file);
	if (r < 0)
		return r;
	rd = &p->file->reader;
	if (rd->bytes / PAGE_BYTES < p->n_present)
		return log_fail(-EBADMSG, "image %s is truncated: %zu bytes instead of %" PRIu64
				" pages", rd->name, rd->bytes, p->n_present);
	if (rd->bytes != p->n_present * PAGE_BYTES)
		log_warn("image %s is longer than %s says (%zu bytes instead of %" PRIu64 " pages)",
			 rd->name, map_name, rd->bytes, p->n_present);
	return 0;
}

static int open_at(struct image_store *s, const struct image_type *map_type, uint64_t id,
		   int depth, struct pages_reader **ret)
{
	_cleanup_image_reader_ struct image_reader map;
	_cleanup_pages_ struct pages_reader *p = NULL;
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
	r = read_map(p, &map);
	if (r < 0)
		return r;
	r = open_pages(p, map.name);
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

		file_put(p->store, p->file);
		free(p->e);
		free(p);
		p = parent;
	}
}

static int open_parent(struct pages_reader *p)
{
	struct image_store *from;
	int r;

	if (p->depth >= PARENTS_MAX)
		return log_fail(-ELOOP, "the chain of parent images is too long");
	r = image_store_parent(p->store, &from);
	if (r < 0)
		return log_err(r, "cannot open the parent images");
	r = open_at(from, p->map_type, p->id, p->depth + 1, &p->parent);
	if (r == -ENOENT)
		log_fail(r, "the parent images have no %s for %" PRIu64, p->map_type->name, p->id);
	return r;
}

/* The entry that has vaddr, or the first behind it, or NULL. */
static const struct entry *first_ending_after(const struct pages_reader *p, uint64_t vaddr)
{
	size_t lo = 0, hi = p->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (entry_end(&p->e[mid]) <= vaddr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->n ? &p->e[lo] : NULL;
}

/* Cuts run to what one image has, going back through the parents. */
static int resolve(struct pages_reader *p, const struct entry *e, struct page_run *run)
{
	while (e->flags & PE_PARENT) {
		int r = p->parent ? 0 : open_parent(p);

		if (r < 0)
			return r;
		p = p->parent;
		e = first_ending_after(p, run->vaddr);
		if (!e || e->vaddr > run->vaddr)
			return log_fail(-EBADMSG, "page 0x%" PRIx64 " of %s %" PRIu64 " should be "
					"in the parent images but is not", run->vaddr,
					p->map_type->name, p->id);
		run->n_pages = MIN(run->n_pages, (entry_end(e) - run->vaddr) / PAGE_BYTES);
	}
	run->flags = e->flags;
	run->data = NULL;
	if (e->flags & PE_PRESENT) {
		run->store = p->store;
		run->pages_id = p->pages_id;
		run->shared = p->shared;
		run->file_page = e->file_page + (run->vaddr - e->vaddr) / PAGE_BYTES;
		run->file = &p->file->reader;
		run->data = run->file->data + run->file_page * PAGE_BYTES;
	}
	return 0;
}

int pages_next(struct pages_reader *p, struct page_run *ret)
{
	const struct entry *e;
	struct page_run run = { 0 };
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

void pages_rewind(struct pages_reader *p)
{
	p->at = 0;
	p->page = 0;
}

int pages_at(struct pages_reader *p, uint64_t vaddr, uint64_t max, struct page_run *ret)
{
	const struct entry *e = first_ending_after(p, vaddr);
	int r;

	*ret = (struct page_run){ .vaddr = vaddr, .n_pages = max };
	if (e && e->vaddr > vaddr)
		ret->n_pages = MIN(max, (e->vaddr - vaddr) / PAGE_BYTES);
	if (!e || e->vaddr > vaddr)
		return 0;
	ret->n_pages = MIN(max, (entry_end(e) - vaddr) / PAGE_BYTES);
	r = resolve(p, e, ret);
	return r < 0 ? r : 1;
}
