/*
 * Page images: pagemap-P (a process) or pagemap-shmem-N (a shared object) says which pages
 * are saved; pages-M has their contents, or an earlier dump's images (`parent`) do.
 *
 * vaddr is an address in the target or, for a shared object, a byte offset; always a multiple
 * of PAGE_BYTES, ascending, never overlapping.
 */
#ifndef CR_IMAGE_PAGES_H
#define CR_IMAGE_PAGES_H

#include <asm-generic/hugetlb_encode.h>

#include "image/image.h"

#define PE_PARENT	1u	/* contents are in the parent images */
#define PE_LAZY		2u	/* may be filled in later */
#define PE_PRESENT	4u	/* contents are in pages-M */

/* By flags of mmap(2), memfd_create(2) or shmget(2): they have it in the same bits, x86's usual one has none. */
static inline uint64_t huge_page_bytes(uint32_t flags)
{
	uint32_t shift = flags >> HUGETLB_FLAG_ENCODE_SHIFT & HUGETLB_FLAG_ENCODE_MASK;

	return shift ? 1ull << shift : 2u << 20;
}

/* Reading. */
struct page_run {
	uint64_t vaddr, n_pages;
	uint32_t flags;		/* as stored; of the image that has the data, for PE_PARENT runs */
	/*
	 * n_pages * PAGE_BYTES; NULL: PE_LAZY without contents. Equal pointers are the same page of
	 * the same image.
	 */
	const uint8_t *data;
	const struct image_reader *file;	/* that data lies in */
	/* PE_PRESENT: where that is. shared: other maps have it too. */
	struct image_store *store;
	uint64_t pages_id, file_page;
	bool shared;
};

struct pages_reader;
/*
 * map_type: &image_pagemap or &image_pagemap_shmem. Reads and checks the whole map.
 * A missing pagemap is -ENOENT, silent; everything else is logged. s must outlive the reader.
 */
int pages_open(struct image_store *s, const struct image_type *map_type, uint64_t id,
	       struct pages_reader **ret) _must_check_;
/*
 * Next run in ascending order, 1; 0 at the end; negative errors are logged. Data stays valid
 * until pages_close(). Runs from parent images may be shorter than the map's entries.
 */
int pages_next(struct pages_reader *p, struct page_run *ret) _must_check_;
/*
 * What is saved at vaddr: 1 and the run from there on, of at most max pages; 0 if nothing is,
 * with the number of pages, again at most max, for which that holds. Independent of pages_next().
 */
int pages_at(struct pages_reader *p, uint64_t vaddr, uint64_t max, struct page_run *ret)
	_must_check_;
/* Gives a run's room in its pages file back to the file system; shared ones are left alone. */
int pages_punch(const struct page_run *run, uint64_t *pages) _must_check_;
/*
 * Punches out of the parent images what the map of s has itself: they will not be looked at for it
 * any more. Adds to *pages.
 */
int pages_dedup(struct image_store *s, const struct image_type *map_type, uint64_t id,
		uint64_t *pages) _must_check_;
/* pages_next() begins anew. */
void pages_rewind(struct pages_reader *p);
/* Pages that pages_next() will hand out in total. */
uint64_t pages_total(const struct pages_reader *p);
void pages_close(struct pages_reader *p);
static inline void pages_closep(struct pages_reader **p)
{
	if (*p)
		pages_close(*p);
}
#define _cleanup_pages_ _cleanup_(pages_closep)

/* Writing. */
struct pagemap_writer {
	struct image_writer *map, *pages;
	uint64_t vaddr, n_pages;	/* the run that may still grow */
	uint32_t flags;
	uint64_t pages_written;
};
/* Most pages of one pagemap_put() with contents. */
#define PAGEMAP_RUN_MAX	(IMAGE_SPAN_MAX / PAGE_BYTES)

/* The pagemap exists afterwards even if nothing is put; pages-PAGES_ID only with contents. */
int pagemap_create(struct image_store *s, const struct image_type *map_type, uint64_t id,
		   uint32_t pages_id, struct pagemap_writer *w) _must_check_;
/* The map alone: its pages are written by another's writer, or are elsewhere (PE_PARENT). */
int pagemap_create_map(struct image_store *s, const struct image_type *map_type, uint64_t id,
		       uint32_t pages_id, struct pagemap_writer *w) _must_check_;
/*
 * Appends a run; adjacent ones of equal flags become one entry. With PE_PRESENT, *ret_room is
 * memory for the contents, to be filled before the next call on w; otherwise it is NULL.
 * -EINVAL for a run that is empty, unaligned, not ascending or too long.
 */
int pagemap_put(struct pagemap_writer *w, uint64_t vaddr, uint64_t n_pages, uint32_t flags,
		void **ret_room) _must_check_;
/* Idem, but the contents of PE_PRESENT runs come later, in order, by pagemap_fill(). */
int pagemap_add(struct pagemap_writer *w, uint64_t vaddr, uint64_t n_pages, uint32_t flags)
	_must_check_;
/* Contents of the next n_pages; fn's off counts from the first of them. See image_fill(). */
int pagemap_fill(struct pagemap_writer *w, uint64_t n_pages, image_fill_fn fn, void *arg)
	_must_check_;
/* The file's first size bytes (read at their offsets), without its holes. Silent. */
int pages_put_file(struct pagemap_writer *w, int fd, uint64_t size) _must_check_;
/* A file of hugetlbfs: size is a multiple of huge_bytes. Silent. */
int pages_put_huge_file(struct pagemap_writer *w, int fd, uint64_t size, uint64_t huge_bytes) _must_check_;
/* The other way, into a shared mapping of it. Adds to *pages. */
int pages_fill_huge(struct pages_reader *p, void *map, uint64_t size, uint64_t huge_bytes, uint64_t *pages)
	_must_check_;
/* The other way, into a file of size bytes; what lies behind them is left out. Adds to *pages. */
int pages_fill_file(struct pages_reader *p, int fd, uint64_t size, uint64_t *pages) _must_check_;
int pagemap_close(struct pagemap_writer *w) _must_check_;
/* For error paths; also after pagemap_close(). */
void pagemap_abandonp(struct pagemap_writer *w);
#define _cleanup_pagemap_writer_ _cleanup_(pagemap_abandonp)

#endif
