/*
 * Images in one region of memory: the form that is kept across a kexec and read in place.
 *
 *	header | files, each contiguous | table of contents, by name
 *
 * Files are contiguous so that a reader gets a span, yet several writers may be open at once
 * (pages-N and pagemap-N are written in turns): at most one writer, of a type with much data,
 * owns the tail of the region and writes in place; the others collect on the heap and are
 * copied behind it when it is done (store_bundle.c).
 *
 * Hashes (XXH3-64) form a tree: each file's is in the table, the table's in the header, the
 * header's own comes last. Gaps between files are zero and checked to be. So the header's hash
 * depends on every byte up to the used size, each file can be blamed by name, and everything
 * is hashed once.
 *
 * Opening trusts nothing: the region may be whatever the old kernel left there
 * (store_bundle_read.c).
 */
#ifndef CR_IMAGE_STORE_BUNDLE_H
#define CR_IMAGE_STORE_BUNDLE_H

#include <string.h>
#include <xxhash.h>

#include "image/store.h"

#define BUNDLE_MAGIC	"CRBUNDLE"
#define BUNDLE_VERSION	1u
/* Of files and of the table. */
#define BUNDLE_ALIGN_BYTES	16u

struct bundle_header {
	char magic[8];
	uint32_t version, header_bytes;
	uint64_t used_bytes;		/* from the header's first byte to the table's last */
	uint64_t toc_offset;		/* the table runs to the end of what is used */
	uint64_t n_files;
	uint64_t toc_hash;
	uint64_t reserved;
	uint64_t hash;			/* of all fields above */
};

struct bundle_entry {
	char name[IMAGE_NAME_MAX];
	uint64_t offset, bytes, hash;
};

struct bundle_writer;

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
	struct bundle_entry *toc;		/* heap while writing, in the region once sealed */
	size_t n, toc_room;
};

static inline struct bundle *bundle_of(struct image_store *s)
{
	return (struct bundle *)s;
}

static inline uint64_t bundle_header_hash(const struct bundle_header *h)
{
	return XXH3_64bits(h, offsetof(struct bundle_header, hash));
}

/* The table is in order of names. */
static inline int bundle_entry_compare(const void *a, const void *b)
{
	return strcmp(((const struct bundle_entry *)a)->name, ((const struct bundle_entry *)b)->name);
}

extern const struct image_store_ops bundle_ops;

/* store_bundle_read.c: of a sealed bundle, whoever sealed it; see struct image_store_ops. */
int bundle_open_file(struct image_store *s, const char *name, struct image_reader *r) _must_check_;
int bundle_find(struct image_store *s, const char *name) _must_check_;
int bundle_open_parent(struct image_store *s, struct image_store **ret) _must_check_;
int bundle_each_file(struct image_store *s, image_file_fn fn, void *arg) _must_check_;
int bundle_verify(struct image_store *s) _must_check_;

#endif
