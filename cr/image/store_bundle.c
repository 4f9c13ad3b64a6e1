/*
 * Images in one region of memory: the form that is kept across a kexec and read in place.
 *
 *	header | files, each contiguous | table of contents, by name
 *
 * Files are contiguous so that a reader gets a span, yet several writers may be open at once
 * (pages-N and pagemap-N are written in turns): at most one writer, of a type with much data,
 * owns the tail of the region and writes in place; the others collect on the heap and are
 * copied behind it when it is done.
 *
 * Hashes (XXH3-64) form a tree: each file's is in the table, the table's in the header, the
 * header's own comes last. Gaps between files are zero and checked to be. So the header's hash
 * depends on every byte up to the used size, each file can be blamed by name, and everything
 * is hashed once.
 *
 * Opening trusts nothing: the region may be whatever the old kernel left there.
 */
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "image/store.h"
#include "util/io.h"
#include "util/log.h"
#include "util/parallel.h"

#define BUNDLE_MAGIC	"CRBUNDLE"
#define BUNDLE_VERSION	1u
/* From this size on, bulk data is written in place and begins at a page. */
#define INPLACE_BYTES	(64u << 10)
#define ALIGN_BYTES	16u

struct header {
	char magic[8];
	uint32_t version, header_bytes;
	uint64_t used_bytes;		/* from the header's first byte to the table's last */
	uint64_t toc_offset;		/* the table runs to the end of what is used */
	uint64_t n_files;
	uint64_t toc_hash;
	uint64_t reserved;
	uint64_t hash;			/* of all fields above */
};

struct entry {
	char name[IMAGE_NAME_MAX];
	uint64_t offset, bytes, hash;
};

struct bundle_writer {
	struct image_writer w;
	struct bundle_writer *next;	/* in bundle->waiting */
	uint8_t *p;			/* heap, or in the region for the owner of the tail */
	size_t used, room;
};

struct bundle {
	struct image_store store;
	uint8_t *base;			/* header; const when opened */
	size_t bytes;
	size_t used;
	bool sealed;
	int error;			/* a complete file was lost: never seal */
	struct bundle_writer *tail;	/* writes in place from base + used */
	struct bundle_writer *waiting;	/* complete, to be copied when the tail is free */
	size_t n_open;
	struct entry *toc;		/* heap while writing, in the region once sealed */
	size_t n, toc_room;
};

static struct bundle *bundle_of(struct image_store *s)
{
	return (struct bundle *)s;
}

static struct bundle_writer *bw_of(struct image_writer *w)
{
	return (struct bundle_writer *)w;
}

static uint64_t header_hash(const struct header *h)
{
	return XXH3_64bits(h, offsetof(struct header, hash));
}

/* Writing. */

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
	size_t toc = (b->n + b->n_open + 1) * sizeof(struct entry) + ALIGN_BYTES;

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
	struct entry *e;

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
		int r = bundle_align(b, d->used, ALIGN_BYTES);

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

static int entry_compare(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* The table in place, sorted; the room for it was set aside all along. */
static int write_toc(struct bundle *b)
{
	size_t bytes = b->n * sizeof(*b->toc), at = ROUND_UP(b->used, ALIGN_BYTES);

	if (b->n)
		qsort(b->toc, b->n, sizeof(*b->toc), entry_compare);
	for (size_t i = 1; i < b->n; i++)
		if (!entry_compare(&b->toc[i - 1], &b->toc[i]))
			return log_fail(-EEXIST, "image %s was written twice", b->toc[i].name);
	if (at > b->bytes || bytes > b->bytes - at)
		return -ENOSPC;
	memset(b->base + b->used, 0, at - b->used);
	b->used = at;
	if (b->n)
		memcpy(b->base + at, b->toc, bytes);
	free(b->toc);
	b->toc = (struct entry *)(b->base + at);
	b->sealed = true;
	return 0;
}

static int bundle_seal(struct image_store *s, uint64_t *ret_bytes, uint64_t *ret_hash)
{
	struct bundle *b = bundle_of(s);
	struct header *h = (struct header *)b->base;
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
		*h = (struct header){
			.magic = BUNDLE_MAGIC, .version = BUNDLE_VERSION,
			.header_bytes = sizeof(*h), .toc_offset = b->used, .n_files = b->n,
			.used_bytes = b->used + b->n * sizeof(*b->toc),
			.toc_hash = XXH3_64bits(b->toc, b->n * sizeof(*b->toc)),
		};
		h->hash = header_hash(h);
		b->used = h->used_bytes;
	}
	*ret_bytes = h->used_bytes;
	*ret_hash = h->hash;
	return 0;
}

/* Reading. */

static int bundle_open_file(struct image_store *s, const char *name, struct image_reader *r)
{
	const struct bundle *b = bundle_of(s);
	struct entry key;
	const struct entry *e;

	if (!b->sealed)
		return -EBUSY;
	snprintf(key.name, sizeof(key.name), "%s", name);
	e = b->n ? bsearch(&key, b->toc, b->n, sizeof(key), entry_compare) : NULL;
	if (!e)
		return -ENOENT;
	if (e->bytes) {
		r->data = b->base + e->offset;
		r->bytes = e->bytes;
	}
	return 0;
}

/* Its table is in order of names: the first that is not before is one, or there is none. */
static int bundle_open_parent(struct image_store *s, struct image_store **ret)
{
	static const char shared[] = IMAGE_SHARED "/";
	const struct bundle *b = bundle_of(s);
	size_t lo = 0, hi = b->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(b->toc[mid].name, shared) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == b->n || !str_starts(b->toc[lo].name, shared))
		return -ENOENT;
	return image_store_open_part(s, ret);
}

static int bundle_make_shared(struct image_store *s)
{
	return bundle_of(s)->sealed ? -EROFS : 0;
}

static int bundle_each_file(struct image_store *s, image_file_fn fn, void *arg)
{
	const struct bundle *b = bundle_of(s);

	if (!b->sealed)
		return log_fail(-EBUSY, "the image store is still being written");
	for (size_t i = 0; i < b->n; i++) {
		int r = fn(arg, b->toc[i].name, b->toc[i].bytes, b->toc[i].hash);

		if (r < 0)
			return r;
	}
	return 0;
}

static int offset_compare(const void *a, const void *b)
{
	const struct entry *x = *(const struct entry *const *)a;
	const struct entry *y = *(const struct entry *const *)b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	/* An empty one ends where it begins: before the one that follows it. */
	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static bool is_zero(const uint8_t *p, size_t n)
{
	while (n--)
		if (*p++)
			return false;
	return true;
}

static int verify_gap(const struct bundle *b, uint64_t from, uint64_t to)
{
	if (from > to)
		return log_fail(-EBADMSG, "the image store has files that overlap at offset %"
				PRIu64, to);
	if (!is_zero(b->base + from, to - from))
		return log_fail(-EBADMSG, "the image store is damaged between files (offset %"
				PRIu64 " to %" PRIu64 ")", from, to);
	return 0;
}

static int bundle_verify(struct image_store *s)
{
	const struct bundle *b = bundle_of(s);
	_cleanup_free_ const struct entry **order = NULL;
	uint64_t end = sizeof(struct header);
	int r;

	if (!b->sealed)
		return log_fail(-EBUSY, "the image store is still being written");
	order = reallocarray(NULL, b->n + 1, sizeof(*order));
	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < b->n; i++)
		order[i] = &b->toc[i];
	qsort(order, b->n, sizeof(*order), offset_compare);
	for (size_t i = 0; i < b->n; i++) {
		const struct entry *e = order[i];

		r = verify_gap(b, end, e->offset);
		if (r < 0)
			return r;
		if (XXH3_64bits(b->base + e->offset, e->bytes) != e->hash)
			return log_fail(-EBADMSG, "image %s is damaged (checksum of %" PRIu64
					" bytes at offset %" PRIu64 " of the store)", e->name,
					e->bytes, e->offset);
		end = e->offset + e->bytes;
	}
	return verify_gap(b, end, (uint64_t)((uint8_t *)b->toc - b->base));
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

static const struct image_store_ops bundle_ops = {
	.writer_new	= bundle_writer_new,
	.append		= bundle_append,
	.reserve	= bundle_reserve,
	.fill		= bundle_fill,
	.commit		= bundle_commit,
	.abandon	= bundle_abandon,
	.open		= bundle_open_file,
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
	memset(base, 0, sizeof(struct header));
	b->used = sizeof(struct header);
	*ret = &b->store;
	return 0;
}

static int check_header(const struct header *h, size_t bytes)
{
	if (bytes < sizeof(*h) || memcmp(h->magic, BUNDLE_MAGIC, sizeof(h->magic)))
		return log_fail(-EBADMSG, "no image store here (magic)");
	if (h->version != BUNDLE_VERSION || h->header_bytes != sizeof(*h))
		return log_fail(-EBADMSG, "the image store has version %u, this program reads %u",
				h->version, BUNDLE_VERSION);
	if (h->hash != header_hash(h))
		return log_fail(-EBADMSG, "the image store's header is damaged (checksum)");
	if (h->used_bytes > bytes || h->toc_offset > h->used_bytes ||
	    h->toc_offset < sizeof(*h) || h->toc_offset % ALIGN_BYTES ||
	    (h->used_bytes - h->toc_offset) / sizeof(struct entry) != h->n_files ||
	    (h->used_bytes - h->toc_offset) % sizeof(struct entry))
		return log_fail(-EBADMSG, "the image store's sizes are wrong (%" PRIu64 " used of "
				"%zu, table at %" PRIu64 " of %" PRIu64 " files)", h->used_bytes, bytes,
				h->toc_offset, h->n_files);
	return 0;
}

static bool name_is_good(const char name[IMAGE_NAME_MAX])
{
	if (!memchr(name, '\0', IMAGE_NAME_MAX))
		return false;
	if (str_starts(name, IMAGE_SHARED "/"))
		name += sizeof(IMAGE_SHARED);
	return name[0] && !strchr(name, '/');
}

static int check_entry(const struct header *h, const struct entry *e, const struct entry *before)
{
	if (!name_is_good(e->name))
		return log_fail(-EBADMSG, "the image store's table has a bad file name");
	if (before && strcmp(before->name, e->name) >= 0)
		return log_fail(-EBADMSG, "the image store's table is not in order at %s", e->name);
	if (e->offset < sizeof(*h) || e->offset > h->toc_offset ||
	    e->bytes > h->toc_offset - e->offset)
		return log_fail(-EBADMSG, "image %s lies outside the image store (offset %" PRIu64
				", %" PRIu64 " bytes)", e->name, e->offset, e->bytes);
	return 0;
}

int image_bundle_open(const void *base, size_t bytes, struct image_store **ret)
{
	const struct header *h = base;
	const struct entry *toc;
	struct bundle *b;
	int r;

	if ((uintptr_t)base % PAGE_BYTES)
		return -EINVAL;
	r = check_header(h, bytes);
	if (r < 0)
		return r;
	toc = (const struct entry *)((const uint8_t *)base + h->toc_offset);
	if (XXH3_64bits(toc, h->n_files * sizeof(*toc)) != h->toc_hash)
		return log_fail(-EBADMSG, "the image store's table of contents is damaged "
				"(checksum)");
	for (size_t i = 0; i < h->n_files; i++) {
		r = check_entry(h, &toc[i], i ? &toc[i - 1] : NULL);
		if (r < 0)
			return r;
	}
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->store.ops = &bundle_ops;
	/* Never written through: sealed stores have no writers. */
	b->base = (uint8_t *)(uintptr_t)base;
	b->bytes = bytes;
	b->used = h->used_bytes;
	b->sealed = true;
	b->toc = (struct entry *)(uintptr_t)toc;
	b->n = h->n_files;
	*ret = &b->store;
	return 0;
}
