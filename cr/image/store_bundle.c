/* The bundle carrier, writing: files into the region as they come, and its table at the end. */
#include "image/store_bundle.h"
#include "util/log.h"
#include "util/parallel.h"

/* From this size on, bulk data is written in place and begins at a page. */
#define INPLACE_BYTES	(64u << 10)

struct bundle_writer {
	struct image_writer w;
	struct bundle_writer *next;	/* in bundle->waiting */
	uint8_t *p;			/* heap, or in the region for the owner of the tail */
	size_t used, room;
};

static struct bundle_writer *bw_of(struct image_writer *w)
{
	return (struct bundle_writer *)w;
}

static int bundle_writer_new(struct image_store *s, struct image_writer **ret)
{
	struct bundle *b = bundle_of(s);
	struct bundle_writer *d;

	if (b->sealed)
		return -EROFS;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	b->n_open++;
	*ret = &d->w;
	return 0;
}

/* Room left, with the table of contents set aside: it must always fit. */
static size_t bundle_left(const struct bundle *b)
{
	size_t toc = (b->n + b->n_open + 1) * sizeof(struct bundle_entry) + BUNDLE_ALIGN_BYTES;

	return b->bytes - b->used > toc ? b->bytes - b->used - toc : 0;
}

/* The next file starts here; what is skipped is zeroed. -ENOSPC. */
static int bundle_align(struct bundle *b, size_t bytes, size_t align)
{
	size_t to = ROUND_UP(b->used, align);

	if (to - b->used > bundle_left(b) || bytes > bundle_left(b) - (to - b->used))
		return log_fail(-ENOSPC, "the image store is full: %zu of %zu bytes used, %zu more "
				"needed; make it larger", b->used, b->bytes, bytes);
	memset(b->base + b->used, 0, to - b->used);
	b->used = to;
	return 0;
}

/*
 * Types whose files are large and are closed before the next one begins. A file that stays
 * open through a dump must not keep the tail from the pages.
 */
static bool is_bulk(const struct image_type *t)
{
	return t == &image_pages || t == &image_ghost_file || t == &image_tmpfs_dev;
}

static int become_tail(struct bundle *b, struct bundle_writer *d)
{
	uint8_t *heap = d->p;
	int r;

	r = bundle_align(b, d->used, PAGE_BYTES);
	if (r < 0)
		return r;
	d->p = b->base + b->used;
	if (d->used)
		memcpy(d->p, heap, d->used);
	d->room = SIZE_MAX;
	b->tail = d;
	free(heap);
	return 0;
}

static int bundle_reserve(struct image_writer *w, size_t bytes, void **ret)
{
	struct bundle *b = bundle_of(w->store);
	struct bundle_writer *d = bw_of(w);
	int r;

	if (!b->tail && is_bulk(w->type) && bytes + d->used >= INPLACE_BYTES) {
		r = become_tail(b, d);
		if (r < 0)
			return r;
	}
	if (b->tail == d) {
		if (d->used > bundle_left(b) || bytes > bundle_left(b) - d->used)
			return log_fail(-ENOSPC, "the image store is full: %zu of %zu bytes used, "
					"%zu more needed; make it larger", b->used + d->used,
					b->bytes, bytes);
	} else if (bytes > d->room - d->used) {
		size_t room = d->room ? d->room : 1024;
		uint8_t *p;

		while (room - d->used < bytes)
			room *= 2;
		p = realloc(d->p, room);
		if (!p)
			return -ENOMEM;
		d->p = p;
		d->room = room;
	}
	*ret = d->p + d->used;
	d->used += bytes;
	return 0;
}

static int bundle_append(struct image_writer *w, const void *p, size_t bytes)
{
	void *to;
	int r = bundle_reserve(w, bytes, &to);

	if (r < 0)
		return r;
	if (bytes)
		memcpy(to, p, bytes);
	return 0;
}

struct bundle_fill {
	uint8_t *to;
	image_fill_fn fn;
	void *arg;
};

static int bundle_fill_piece(void *arg, unsigned int worker, uint64_t off, size_t n)
{
	struct bundle_fill *f = arg;

	return f->fn(f->arg, worker, off, f->to + off, n);
}

static int bundle_fill(struct image_writer *w, uint64_t bytes, image_fill_fn fn, void *arg)
{
	struct bundle_fill f = { .fn = fn, .arg = arg };
	void *to;
	int r = bundle_reserve(w, bytes, &to);

	if (r < 0)
		return r;
	f.to = to;
	return parallel(bytes, FILL_PIECE_BYTES, bundle_fill_piece, &f);
}

/* An entry for bytes that lie at base + used. */
static int toc_add(struct bundle *b, const char *name, size_t bytes)
{
	struct bundle_entry *e;

	if (b->n == b->toc_room) {
		size_t room = b->toc_room ? b->toc_room * 2 : 64;

		e = reallocarray(b->toc, room, sizeof(*e));
		if (!e)
			return -ENOMEM;
		b->toc = e;
		b->toc_room = room;
	}
	e = &b->toc[b->n++];
	memset(e, 0, sizeof(*e));
	memcpy(e->name, name, strlen(name));
	e->offset = b->used;
	e->bytes = bytes;
	e->hash = XXH3_64bits(b->base + b->used, bytes);
	b->used += bytes;
	return 0;
}

static void bw_free(struct bundle *b, struct bundle_writer *d)
{
	if (b->tail == d)
		b->tail = NULL;
	else
		free(d->p);
	b->n_open--;
	free(d);
}

/* Copies the complete files of the heap behind what is there. */
static int bundle_settle(struct bundle *b)
{
	while (b->waiting && !b->tail) {
		struct bundle_writer *d = b->waiting;
		int r = bundle_align(b, d->used, BUNDLE_ALIGN_BYTES);

		if (!r) {
			memcpy(b->base + b->used, d->p, d->used);
			r = toc_add(b, d->w.name, d->used);
		}
		b->waiting = d->next;
		bw_free(b, d);
		if (r < 0)
			b->error = r;
	}
	return b->error;
}

static int bundle_commit(struct image_writer *w)
{
	struct bundle *b = bundle_of(w->store);
	struct bundle_writer *d = bw_of(w), **last = &b->waiting;
	int r;

	if (!w->begun) {
		bw_free(b, d);
		return 0;
	}
	if (b->tail == d) {
		r = toc_add(b, w->name, d->used);
		if (r < 0)
			b->error = r;
		bw_free(b, d);
		return bundle_settle(b);
	}
	while (*last)
		last = &(*last)->next;
	*last = d;
	return bundle_settle(b);
}

static void bundle_abandon(struct image_writer *w)
{
	bw_free(bundle_of(w->store), bw_of(w));
}

/* The table in place, sorted; the room for it was set aside all along. */
static int write_toc(struct bundle *b)
{
	size_t bytes = b->n * sizeof(*b->toc), at = ROUND_UP(b->used, BUNDLE_ALIGN_BYTES);

	if (b->n)
		qsort(b->toc, b->n, sizeof(*b->toc), bundle_entry_compare);
	for (size_t i = 1; i < b->n; i++)
		if (!bundle_entry_compare(&b->toc[i - 1], &b->toc[i]))
			return log_fail(-EEXIST, "image %s was written twice", b->toc[i].name);
	if (at > b->bytes || bytes > b->bytes - at)
		return -ENOSPC;
	memset(b->base + b->used, 0, at - b->used);
	b->used = at;
	if (b->n)
		memcpy(b->base + at, b->toc, bytes);
	free(b->toc);
	b->toc = (struct bundle_entry *)(b->base + at);
	b->sealed = true;
	return 0;
}

static int bundle_seal(struct image_store *s, uint64_t *ret_bytes, uint64_t *ret_hash)
{
	struct bundle *b = bundle_of(s);
	struct bundle_header *h = (struct bundle_header *)b->base;
	int r;

	if (!b->sealed) {
		r = bundle_settle(b);
		if (r < 0)
			return r;
		if (b->n_open)
			return -EBUSY;
		r = write_toc(b);
		if (r < 0)
			return r;
		*h = (struct bundle_header){
			.magic = BUNDLE_MAGIC, .version = BUNDLE_VERSION,
			.header_bytes = sizeof(*h), .toc_offset = b->used, .n_files = b->n,
			.used_bytes = b->used + b->n * sizeof(*b->toc),
			.toc_hash = XXH3_64bits(b->toc, b->n * sizeof(*b->toc)),
		};
		h->hash = bundle_header_hash(h);
		b->used = h->used_bytes;
	}
	*ret_bytes = h->used_bytes;
	*ret_hash = h->hash;
	return 0;
}

static int bundle_make_shared(struct image_store *s)
{
	return bundle_of(s)->sealed ? -EROFS : 0;
}

static void bundle_close(struct image_store *s)
{
	struct bundle *b = bundle_of(s);

	while (b->waiting) {
		struct bundle_writer *d = b->waiting;

		b->waiting = d->next;
		bw_free(b, d);
	}
	if (!b->sealed)
		free(b->toc);
	free(b);
}

const struct image_store_ops bundle_ops = {
	.writer_new	= bundle_writer_new,
	.append		= bundle_append,
	.reserve	= bundle_reserve,
	.fill		= bundle_fill,
	.commit		= bundle_commit,
	.abandon	= bundle_abandon,
	.open		= bundle_open_file,
	.find		= bundle_find,
	.open_parent	= bundle_open_parent,
	.make_shared	= bundle_make_shared,
	.each_file	= bundle_each_file,
	.seal		= bundle_seal,
	.verify		= bundle_verify,
	.close		= bundle_close,
};

int image_bundle_create(void *base, size_t bytes, struct image_store **ret)
{
	struct bundle *b;

	if (bytes < PAGE_BYTES || (uintptr_t)base % PAGE_BYTES)
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->store.ops = &bundle_ops;
	b->base = base;
	b->bytes = bytes;
	/* An older bundle of this region must not be taken for this one if we die. */
	memset(base, 0, sizeof(struct bundle_header));
	b->used = sizeof(struct bundle_header);
	*ret = &b->store;
	return 0;
}
