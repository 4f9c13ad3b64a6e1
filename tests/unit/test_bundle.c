/* What only a bundle does: several writers in one region, a table of contents, hashes. */
#define _GNU_SOURCE
#include "image_fixture.h"

TEST("files written in turns are each contiguous, the bulk one in place")
{
	struct fixture f = fixture_begin(BUNDLE, 8 << 20);
	struct image_writer *pages, *map;
	struct image_reader rd;
	PagemapEntry e = PAGEMAP_ENTRY__INIT;
	PagemapEntry *got;
	struct arena a;
	void *room;

	arena_init(&a);
	ASSERT_OK(image_create(f.store, &image_pagemap, &map, 5));
	ASSERT_OK(image_create(f.store, &image_pages, &pages, 1));
	for (uint32_t i = 0; i < 100; i++) {
		e.vaddr = i * 65536;
		ASSERT_OK(image_put(map, &e.base));
		ASSERT_OK(image_reserve(pages, 5 * PAGE_BYTES, &room));
		memset(room, (int)i, 5 * PAGE_BYTES);
		if (i > 20)
			ASSERT((uint8_t *)room > f.region && (uint8_t *)room < f.region + f.bytes);
	}
	/* The small one is done first and has to wait. */
	ASSERT_OK(image_close(map));
	put_task(f.store, 1);
	ASSERT_OK(image_close(pages));
	fixture_reopen(&f);
	ASSERT_OK(image_store_verify(f.store));
	ASSERT_OK(image_open(f.store, &image_pages, &rd, 1));
	ASSERT_EQ((uintptr_t)rd.data % PAGE_BYTES, 0);
	ASSERT(rd.data > f.region && rd.data < f.region + f.bytes);
	for (size_t i = 0; i < 100 * 5 * PAGE_BYTES; i++)
		ASSERT_EQ(rd.data[i], i / (5 * PAGE_BYTES));
	image_reader_done(&rd);
	ASSERT_OK(image_open(f.store, &image_pagemap, &rd, 5));
	for (uint32_t i = 0; i < 100; i++) {
		ASSERT_EQ(image_get(&rd, &a, pagemap_entry, &got), 1);
		ASSERT_EQ(got->vaddr, i * 65536);
	}
	image_reader_done(&rd);
	arena_done(&a);
	fixture_end(&f);
}

TEST("a full region is -ENOSPC with the numbers, and what fitted can still be sealed")
{
	struct fixture f = fixture_begin(BUNDLE, 64 << 10);
	struct image_writer *w;
	void *room;
	int r;

	put_task(f.store, 1);
	ASSERT_OK(image_create(f.store, &image_pages, &w, 1));
	for (int i = 0; i < 100; i++) {
		r = image_reserve(w, PAGE_BYTES, &room);
		if (r < 0)
			break;
		memset(room, 1, PAGE_BYTES);
	}
	ASSERT_EQ(r, -ENOSPC);
	ASSERT_CONTAINS(log_first_error(), "of 65536 bytes");
	ASSERT_EQ(image_close(w), -ENOSPC);
	fixture_reopen(&f);
	ASSERT_OK(image_store_verify(f.store));
	fixture_end(&f);
}

TEST("the region is never overrun, whatever its size")
{
	for (size_t pages = 1; pages < 6; pages++) {
		size_t bytes = pages * PAGE_BYTES;
		uint8_t *all = mmap(NULL, bytes + PAGE_BYTES, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct image_store *s;
		uint64_t used;
		uint32_t n = 0;
		FsEntry e = FS_ENTRY__INIT;

		log_init(LOGLEVEL_NONE, -1);
		ASSERT_OK(mprotect(all + bytes, PAGE_BYTES, PROT_NONE));
		ASSERT_OK(image_bundle_create(all, bytes, &s));
		while (!image_write_one(s, &image_fs, &e.base, n))
			n++;
		ASSERT(n > 20 * pages && n < bytes / 16);
		/* The last one failed: a bundle with a hole in it must not be sealed. */
		ASSERT_EQ(image_store_seal(s, &used, NULL), -ENOSPC);
		image_store_close(s);
		/* What did fit has room for its table of contents, too. */
		ASSERT_OK(image_bundle_create(all, bytes, &s));
		for (uint32_t i = 0; i < n; i++)
			ASSERT_OK(image_write_one(s, &image_fs, &e.base, i));
		ASSERT_OK(image_store_seal(s, &used, NULL));
		ASSERT(used <= bytes);
		image_store_close(s);
		munmap(all, bytes + PAGE_BYTES);
	}
}

TEST("a bundle is not sealed while a file is open, nor with two files of one name")
{
	struct fixture f = fixture_begin(BUNDLE, 1 << 16);
	struct image_writer *w;

	ASSERT_OK(image_create(f.store, &image_files, &w));
	ASSERT_OK(image_put_raw(w, "x", 1));
	ASSERT_EQ(image_store_seal(f.store, NULL, NULL), -EBUSY);
	ASSERT_OK(image_close(w));
	put_task(f.store, 1);
	put_task(f.store, 2);
	ASSERT_EQ(image_store_seal(f.store, NULL, NULL), -EEXIST);
	ASSERT_CONTAINS(log_first_error(), "complete the images");
	fixture_end(&f);
}

TEST("an abandoned file leaves no trace")
{
	struct fixture f = fixture_begin(BUNDLE, 4 << 20);
	struct image_writer *w;
	struct image_reader rd;
	void *room;

	ASSERT_OK(image_create(f.store, &image_pages, &w, 1));
	ASSERT_OK(image_reserve(w, 1 << 20, &room));
	memset(room, 1, 1 << 20);
	image_abandonp(&w);
	put_task(f.store, 1);
	fixture_reopen(&f);
	ASSERT_OK(image_store_verify(f.store));
	ASSERT_EQ(image_open(f.store, &image_pages, &rd, 1), -ENOENT);
	image_reader_done(&rd);
	fixture_end(&f);
}

/* A small bundle with files in place, on the heap, empty gaps and a table; its used size. */
static uint64_t make_bundle(struct fixture *f)
{
	struct pagemap_writer w;
	uint64_t used, hash;
	void *room;

	*f = fixture_begin(BUNDLE, 256 << 10);
	put_task(f->store, 1);
	ASSERT_OK(pagemap_create(f->store, &image_pagemap, 1, 1, &w));
	ASSERT_OK(pagemap_put(&w, 0x1000, 17, PE_PRESENT, &room));
	memset(room, 7, 17 * PAGE_BYTES);
	ASSERT_OK(pagemap_close(&w));
	ASSERT_OK(image_store_seal(f->store, &used, &hash));
	image_store_close(f->store);
	return used;
}

static int open_and_verify(const void *region, size_t bytes, uint64_t *ret_hash)
{
	_cleanup_image_store_ struct image_store *s = NULL;
	int r = image_bundle_open(region, bytes, &s);

	if (r < 0)
		return r;
	r = image_store_seal(s, NULL, ret_hash);
	return r < 0 ? r : image_store_verify(s);
}

TEST("any flipped bit of what is used is noticed, what is not used does not matter")
{
	struct fixture f;
	uint64_t used = make_bundle(&f), hash, again;

	ASSERT_OK(open_and_verify(f.region, f.bytes, &hash));
	for (size_t i = 0; i < used; i += i > 1000 && i + 1200 < used ? 211 : 1) {
		f.region[i] ^= (uint8_t)(1u << (i % 8));
		ASSERT_EQ(open_and_verify(f.region, f.bytes, &again), -EBADMSG);
		f.region[i] ^= (uint8_t)(1u << (i % 8));
	}
	f.region[used] ^= 1;
	ASSERT_OK(open_and_verify(f.region, f.bytes, &again));
	ASSERT(hash == again);
	munmap(f.region, f.bytes);
}

TEST("a damaged file is named")
{
	struct fixture f;
	struct image_store *s;

	make_bundle(&f);
	f.region[2 * PAGE_BYTES] ^= 1;
	log_init(LOGLEVEL_NONE, -1);
	ASSERT_OK(image_bundle_open(f.region, f.bytes, &s));
	ASSERT_EQ(image_store_verify(s), -EBADMSG);
	ASSERT_CONTAINS(log_first_error(), "pages-1.img is damaged");
	image_store_close(s);
	munmap(f.region, f.bytes);
}

TEST("a bundle cut off anywhere is refused")
{
	struct fixture f;
	uint64_t used = make_bundle(&f), hash;

	for (size_t cut = 0; cut < used; cut += 97)
		ASSERT_EQ(open_and_verify(f.region, cut, &hash), -EBADMSG);
	ASSERT_EQ(open_and_verify(f.region, used - 1, &hash), -EBADMSG);
	ASSERT_OK(open_and_verify(f.region, used, &hash));
	munmap(f.region, f.bytes);
}

TEST("memory that never was a bundle is refused")
{
	struct fixture f = { 0 };
	uint64_t hash;

	log_init(LOGLEVEL_NONE, -1);
	fixture_region(&f, 1 << 16);
	ASSERT_EQ(open_and_verify(f.region, f.bytes, &hash), -EBADMSG);
	memset(f.region, 0, f.bytes);
	ASSERT_EQ(open_and_verify(f.region, f.bytes, &hash), -EBADMSG);
	munmap(f.region, f.bytes);
}

TEST("a bundle that is begun anew is no bundle until it is sealed")
{
	struct fixture f;
	struct image_store *s;
	uint64_t hash;

	make_bundle(&f);
	ASSERT_OK(image_bundle_create(f.region, f.bytes, &s));
	image_store_close(s);
	ASSERT_EQ(open_and_verify(f.region, f.bytes, &hash), -EBADMSG);
	munmap(f.region, f.bytes);
}
