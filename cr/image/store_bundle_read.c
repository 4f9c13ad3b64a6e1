/* The bundle carrier, reading: a region is judged, files are found in it. */
#include <inttypes.h>

#include "image/store_bundle.h"
#include "util/io.h"
#include "util/log.h"

static const struct bundle_entry *entry_find(const struct bundle *b, const char *name)
{
	struct bundle_entry key;

	snprintf(key.name, sizeof(key.name), "%s", name);
	return b->n ? bsearch(&key, b->toc, b->n, sizeof(key), bundle_entry_compare) : NULL;
}

int bundle_find(struct image_store *s, const char *name)
{
	const struct bundle *b = bundle_of(s);

	if (!b->sealed)
		return -EBUSY;
	return entry_find(b, name) ? 0 : -ENOENT;
}

int bundle_open_file(struct image_store *s, const char *name, struct image_reader *r)
{
	const struct bundle *b = bundle_of(s);
	const struct bundle_entry *e;

	if (!b->sealed)
		return -EBUSY;
	e = entry_find(b, name);
	if (!e)
		return -ENOENT;
	if (e->bytes) {
		r->data = b->base + e->offset;
		r->bytes = e->bytes;
	}
	return 0;
}

/* Its table is in order of names: the first that is not before is one, or there is none. */
int bundle_open_parent(struct image_store *s, struct image_store **ret)
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

int bundle_each_file(struct image_store *s, image_file_fn fn, void *arg)
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
	const struct bundle_entry *x = *(const struct bundle_entry *const *)a;
	const struct bundle_entry *y = *(const struct bundle_entry *const *)b;

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

int bundle_verify(struct image_store *s)
{
	const struct bundle *b = bundle_of(s);
	_cleanup_free_ const struct bundle_entry **order = NULL;
	uint64_t end = sizeof(struct bundle_header);
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
		const struct bundle_entry *e = order[i];

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

static int check_header(const struct bundle_header *h, size_t bytes)
{
	if (bytes < sizeof(*h) || memcmp(h->magic, BUNDLE_MAGIC, sizeof(h->magic)))
		return log_fail(-EBADMSG, "no image store here (magic)");
	if (h->version != BUNDLE_VERSION || h->header_bytes != sizeof(*h))
		return log_fail(-EBADMSG, "the image store has version %u, this program reads %u",
				h->version, BUNDLE_VERSION);
	if (h->hash != bundle_header_hash(h))
		return log_fail(-EBADMSG, "the image store's header is damaged (checksum)");
	if (h->used_bytes > bytes || h->toc_offset > h->used_bytes ||
	    h->toc_offset < sizeof(*h) || h->toc_offset % BUNDLE_ALIGN_BYTES ||
	    (h->used_bytes - h->toc_offset) / sizeof(struct bundle_entry) != h->n_files ||
	    (h->used_bytes - h->toc_offset) % sizeof(struct bundle_entry))
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

static int check_entry(const struct bundle_header *h, const struct bundle_entry *e,
		       const struct bundle_entry *before)
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
	const struct bundle_header *h = base;
	const struct bundle_entry *toc;
	struct bundle *b;
	int r;

	if ((uintptr_t)base % PAGE_BYTES)
		return -EINVAL;
	r = check_header(h, bytes);
	if (r < 0)
		return r;
	toc = (const struct bundle_entry *)((const uint8_t *)base + h->toc_offset);
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
	b->toc = (struct bundle_entry *)(uintptr_t)toc;
	b->n = h->n_files;
	*ret = &b->store;
	return 0;
}
