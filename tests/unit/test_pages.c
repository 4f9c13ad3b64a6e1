/* Page images: runs as written come back in order, parents are followed, nonsense is refused. */
#define _GNU_SOURCE
#include "image_fixture.h"
#include "image/store.h"

static void fill(void *room, uint64_t vaddr, uint64_t n_pages)
{
	uint64_t *p = room;

	for (uint64_t i = 0; i < n_pages; i++)
		for (size_t k = 0; k < PAGE_BYTES / 8; k++)
			*p++ = vaddr + i * PAGE_BYTES + k;
}

static void check_filled(const struct page_run *run, uint64_t salt)
{
	const uint64_t *p = (const uint64_t *)(const void *)run->data;

	for (uint64_t i = 0; i < run->n_pages; i++, p += PAGE_BYTES / 8)
		ASSERT(p[0] == run->vaddr + i * PAGE_BYTES + salt &&
		       p[511] == run->vaddr + i * PAGE_BYTES + 511 + salt);
}

static void put_run(struct pagemap_writer *w, uint64_t vaddr, uint64_t n, uint32_t flags,
		    uint64_t salt)
{
	void *room;

	ASSERT_OK(pagemap_put(w, vaddr, n, flags, &room));
	if (flags & PE_PRESENT)
		fill(room, vaddr + salt, n);
	else
		ASSERT(!room);
}

#define ASSERT_RUN(p, va, n, fl)					\
	({								\
		struct page_run _run;					\
		ASSERT_EQ(pages_next(p, &_run), 1);			\
		ASSERT_EQ(_run.vaddr, va);				\
		ASSERT_EQ(_run.n_pages, n);				\
		ASSERT_EQ(_run.flags, fl);				\
		_run;							\
	})

TEST("runs come back in order with their contents, adjacent equal ones as one")
{
	FOR_EACH_CARRIER(c) {
		struct fixture f = fixture_begin(c, 32 << 20);
		struct pages_reader *p;
		struct pagemap_writer w;
		struct page_run run;

		ASSERT_OK(pagemap_create(f.store, &image_pagemap, 7, 3, &w));
		put_run(&w, 0x400000, 2, PE_PRESENT, 0);
		put_run(&w, 0x402000, 1, PE_PRESENT, 0);
		put_run(&w, 0x403000, 4, PE_PRESENT | PE_LAZY, 0);
		put_run(&w, 0x500000, 3, PE_LAZY, 0);
		put_run(&w, 0x7ffff0000000, PAGEMAP_RUN_MAX, PE_PRESENT, 0);
		put_run(&w, 0x7ffff0000000 + IMAGE_SPAN_MAX, PAGEMAP_RUN_MAX, PE_PRESENT, 0);
		ASSERT_EQ(w.pages_written, 7 + 2 * PAGEMAP_RUN_MAX);
		ASSERT_OK(pagemap_close(&w));
		fixture_reopen(&f);
		ASSERT_OK(pages_open(f.store, &image_pagemap, 7, &p));
		ASSERT_EQ(pages_total(p), 10 + 2 * PAGEMAP_RUN_MAX);
		run = ASSERT_RUN(p, 0x400000, 3, PE_PRESENT);
		check_filled(&run, 0);
		run = ASSERT_RUN(p, 0x403000, 4, PE_PRESENT | PE_LAZY);
		check_filled(&run, 0);
		run = ASSERT_RUN(p, 0x500000, 3, PE_LAZY);
		ASSERT(!run.data);
		run = ASSERT_RUN(p, 0x7ffff0000000, 2 * PAGEMAP_RUN_MAX, PE_PRESENT);
		check_filled(&run, 0);
		ASSERT_EQ(pages_next(p, &run), 0);
		ASSERT_EQ(pages_next(p, &run), 0);
		pages_close(p);
		fixture_end(&f);
	}
}

TEST("a pagemap without pages exists, its pages file does not")
{
	FOR_EACH_CARRIER(c) {
		struct fixture f = fixture_begin(c, 1 << 16);
		struct pages_reader *p;
		struct pagemap_writer w;
		struct image_reader rd;
		struct page_run run;

		ASSERT_OK(pagemap_create(f.store, &image_pagemap_shmem, 1234567890123, 1, &w));
		ASSERT_OK(pagemap_close(&w));
		fixture_reopen(&f);
		ASSERT_EQ(image_open(f.store, &image_pages, &rd, 1), -ENOENT);
		image_reader_done(&rd);
		ASSERT_OK(pages_open(f.store, &image_pagemap_shmem, 1234567890123, &p));
		ASSERT_EQ(pages_next(p, &run), 0);
		pages_close(p);
		ASSERT_EQ(pages_open(f.store, &image_pagemap_shmem, 1, &p), -ENOENT);
		ASSERT_STREQ(log_first_error(), "");
		fixture_end(&f);
	}
}

TEST("both count fields are written equal, and the old in_parent mark with PE_PARENT")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct pagemap_writer w;
	struct image_reader rd;
	PagemapEntry *e;
	PagemapHead *h;
	struct arena a;

	arena_init(&a);
	ASSERT_OK(pagemap_create(f.store, &image_pagemap, 7, 3, &w));
	put_run(&w, 0x1000, 2, PE_PRESENT, 0);
	put_run(&w, 0x3000, 5, PE_PARENT, 0);
	ASSERT_OK(pagemap_close(&w));
	ASSERT_OK(image_open(f.store, &image_pagemap, &rd, 7));
	ASSERT_EQ(image_get(&rd, &a, pagemap_head, &h), 1);
	ASSERT_EQ(h->pages_id, 3);
	ASSERT_EQ(image_get(&rd, &a, pagemap_entry, &e), 1);
	ASSERT_EQ(e->compat_nr_pages, 2);
	ASSERT_EQ(e->nr_pages, 2);
	ASSERT_EQ(e->flags, PE_PRESENT);
	ASSERT(!e->has_in_parent);
	ASSERT_EQ(image_get(&rd, &a, pagemap_entry, &e), 1);
	ASSERT_EQ(e->compat_nr_pages, 5);
	ASSERT_EQ(e->nr_pages, 5);
	ASSERT(e->in_parent);
	image_reader_done(&rd);
	arena_done(&a);
	fixture_end(&f);
}

TEST("runs that are unaligned, empty, descending or too long are not written")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct pagemap_writer w;
	void *room;

	ASSERT_OK(pagemap_create(f.store, &image_pagemap, 7, 3, &w));
	put_run(&w, 0x5000, 2, PE_PRESENT, 0);
	ASSERT_EQ(pagemap_put(&w, 0x8001, 1, PE_PRESENT, &room), -EINVAL);
	ASSERT_EQ(pagemap_put(&w, 0x8000, 0, PE_PRESENT, &room), -EINVAL);
	ASSERT_EQ(pagemap_put(&w, 0x6000, 1, PE_PRESENT, &room), -EINVAL);
	ASSERT_EQ(pagemap_put(&w, 0x4000, 1, PE_PRESENT, &room), -EINVAL);
	ASSERT_EQ(pagemap_put(&w, 0x8000, PAGEMAP_RUN_MAX + 1, PE_PRESENT, &room), -EINVAL);
	ASSERT_EQ(pagemap_put(&w, -4096ull, 2, PE_LAZY, &room), -EINVAL);
	pagemap_abandonp(&w);
	fixture_end(&f);
}

/* An entry in whatever form, as other programs or nobody at all would write it. */
struct raw_entry {
	uint64_t vaddr;
	uint32_t compat;
	uint64_t nr;		/* 0: field absent */
	int flags;		/* -1: absent */
	int in_parent;		/* -1: absent */
};

static int read_raw(const struct raw_entry *e, size_t n, size_t data_pages, struct page_run *ret)
{
	struct fixture f = fixture_begin(BUNDLE, 1 << 20);
	PagemapHead head = PAGEMAP_HEAD__INIT;
	struct image_writer *w;
	struct pages_reader *p;
	void *room;
	int r;

	head.pages_id = 1;
	ASSERT_OK(image_create(f.store, &image_pagemap, &w, 1));
	ASSERT_OK(image_put(w, &head.base));
	for (size_t i = 0; i < n; i++) {
		PagemapEntry m = PAGEMAP_ENTRY__INIT;

		m.vaddr = e[i].vaddr;
		m.compat_nr_pages = e[i].compat;
		m.has_nr_pages = e[i].nr;
		m.nr_pages = e[i].nr;
		m.has_flags = e[i].flags >= 0;
		m.flags = (uint32_t)e[i].flags;
		m.has_in_parent = e[i].in_parent >= 0;
		m.in_parent = e[i].in_parent > 0;
		ASSERT_OK(image_put(w, &m.base));
	}
	ASSERT_OK(image_close(w));
	if (data_pages) {
		ASSERT_OK(image_create(f.store, &image_pages, &w, 1));
		ASSERT_OK(image_reserve(w, data_pages * PAGE_BYTES, &room));
		memset(room, 1, data_pages * PAGE_BYTES);
		ASSERT_OK(image_close(w));
	}
	fixture_reopen(&f);
	r = pages_open(f.store, &image_pagemap, 1, &p);
	if (!r) {
		r = pages_next(p, ret);
		pages_close(p);
	}
	fixture_end(&f);
	return r;
}
#define READ_RAW(pages, run, ...)						\
	({ struct raw_entry _e[] = { __VA_ARGS__ };				\
	   read_raw(_e, ARRAY_SIZE(_e), pages, run); })

TEST("page counts and flags of every CRIU generation are understood")
{
	struct page_run run;

	/* up to 4.1: only the old field; before flags: neither flags nor in_parent */
	ASSERT_EQ(READ_RAW(3, &run, { 0x1000, 3, 0, 4, -1 }), 1);
	ASSERT_EQ(run.n_pages, 3);
	ASSERT_EQ(READ_RAW(3, &run, { 0x1000, 3, 0, -1, -1 }), 1);
	ASSERT_EQ(run.flags, PE_PRESENT);
	ASSERT_EQ(READ_RAW(3, &run, { 0x1000, 3, 0, -1, 0 }), 1);
	ASSERT_EQ(run.flags, PE_PRESENT);
	/* 4.2: 0 in the old field */
	ASSERT_EQ(READ_RAW(3, &run, { 0x1000, 0, 3, 6, -1 }), 1);
	ASSERT_EQ(run.n_pages, 3);
	/* explicit absence of flags: zero pages, no run */
	ASSERT_EQ(READ_RAW(3, &run, { 0x1000, 0, 3, 0, -1 }, { 0x9000, 1, 0, 4, -1 }), 1);
	ASSERT_EQ(run.vaddr, 0x9000);
	/* in_parent without flags: there is no parent here */
	ASSERT_EQ(READ_RAW(3, &run, { 0x1000, 3, 0, -1, 1 }), -ENOENT);
	ASSERT_CONTAINS(log_first_error(), "parent");
}

TEST("maps that are unaligned, overlapping, descending, overlong or contradictory are refused")
{
	static const struct raw_entry bad[] = {
		{ 0x1001, 1, 0, 4, -1 }, { 0x1000, 0, 0, 4, -1 }, { 0x1000, 1, 0, 5, -1 },
		{ 0x1000, 1, 0, 8, -1 }, { 0x1000, 0, 1ull << 52, 2, -1 },
		{ 0x1000, 0, UINT64_MAX, 4, -1 }, { -4096ull, 2, 0, 2, -1 },
	};
	struct page_run run;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ASSERT_EQ(read_raw(&bad[i], 1, 4, &run), -EBADMSG);
		ASSERT_CONTAINS(log_first_error(), "pagemap-1.img");
	}
	ASSERT_EQ(READ_RAW(4, &run, { 0x1000, 2, 0, 4, -1 }, { 0x2000, 1, 0, 4, -1 }), -EBADMSG);
	ASSERT_EQ(READ_RAW(4, &run, { 0x4000, 2, 0, 4, -1 }, { 0x2000, 1, 0, 4, -1 }), -EBADMSG);
	ASSERT_EQ(READ_RAW(4, &run, { 0x1000, 2, 0, 4, -1 }, { 0x1000, 2, 0, 2, -1 }), -EBADMSG);
}

TEST("a pages file that is shorter than its map, or missing, is refused by name")
{
	struct page_run run;

	ASSERT_EQ(READ_RAW(2, &run, { 0x1000, 3, 0, 4, -1 }), -EBADMSG);
	ASSERT_CONTAINS(log_first_error(), "pages-1.img is truncated");
	ASSERT_EQ(READ_RAW(0, &run, { 0x1000, 3, 0, 4, -1 }), -EBADMSG);
	ASSERT_CONTAINS(log_first_error(), "pages-1.img is missing");
	ASSERT_EQ(READ_RAW(1, &run, { 0x1000, 0, 1ull << 51, 4, -1 }), -EBADMSG);
	ASSERT_EQ(READ_RAW(3, &run, { 0x1000, 3, 0, 4, -1 }), 1);
	ASSERT_EQ(READ_RAW(4, &run, { 0x1000, 3, 0, 4, -1 }), 1);
}

TEST("a pagemap without its head is refused")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct pages_reader *p;
	struct image_writer *w;

	ASSERT_OK(image_create(f.store, &image_pagemap, &w, 1));
	ASSERT_OK(image_put_raw(w, "", 0));
	ASSERT_OK(image_close(w));
	ASSERT_EQ(pages_open(f.store, &image_pagemap, 1, &p), -EBADMSG);
	ASSERT_CONTAINS(log_first_error(), "pagemap-1.img has no head");
	fixture_end(&f);
}

/* Directory NAME below the test's one, with `parent` pointing to where. */
static struct image_store *make_generation(const char *name, const char *parent)
{
	char *path = str_fmt("%s/%s", unit_tmpdir(), name);
	struct image_store *s;
	int fd;

	ASSERT_OK(mkdir(path, 0700));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(fd);
	if (parent)
		ASSERT_OK(symlinkat(parent, fd, "parent"));
	ASSERT_OK(image_store_open_dir(fd, &s));
	close(fd);
	free(path);
	return s;
}

static void put_runs(struct image_store *s, const uint64_t (*runs)[3], size_t n, uint64_t salt)
{
	struct pagemap_writer w;

	ASSERT_OK(pagemap_create(s, &image_pagemap, 1, 1, &w));
	for (size_t i = 0; i < n; i++)
		put_run(&w, runs[i][0], runs[i][1], (uint32_t)runs[i][2], salt);
	ASSERT_OK(pagemap_close(&w));
}

TEST("pages of earlier dumps are found through the chain of parents, split where they are")
{
	static const uint64_t oldest[][3] = { { 0x10000, 16, PE_PRESENT } };
	static const uint64_t middle[][3] = { { 0x10000, 4, PE_PARENT }, { 0x14000, 2, PE_PRESENT },
					      { 0x16000, 10, PE_PARENT } };
	static const uint64_t newest[][3] = { { 0x10000, 1, PE_PRESENT },
					      { 0x11000, 15, PE_PARENT } };
	struct image_store *c, *b, *a;
	struct pages_reader *p;
	struct page_run run;

	log_init(LOGLEVEL_NONE, -1);
	c = make_generation("c", NULL);
	b = make_generation("b", "../c");
	a = make_generation("a", "../b");
	put_runs(c, oldest, 1, 0xc0);
	put_runs(b, middle, 3, 0xb0);
	put_runs(a, newest, 2, 0xa0);
	ASSERT_OK(pages_open(a, &image_pagemap, 1, &p));
	ASSERT_EQ(pages_total(p), 16);
	run = ASSERT_RUN(p, 0x10000, 1, PE_PRESENT);
	check_filled(&run, 0xa0);
	run = ASSERT_RUN(p, 0x11000, 3, PE_PRESENT);
	check_filled(&run, 0xc0);
	run = ASSERT_RUN(p, 0x14000, 2, PE_PRESENT);
	check_filled(&run, 0xb0);
	run = ASSERT_RUN(p, 0x16000, 10, PE_PRESENT);
	check_filled(&run, 0xc0);
	ASSERT_EQ(pages_next(p, &run), 0);
	pages_close(p);
	image_store_close(a);
	image_store_close(b);
	image_store_close(c);
}

TEST("a bundle's parent pages come from the store it is told")
{
	static const uint64_t parent[][3] = { { 0x10000, 2, PE_PRESENT } };
	static const uint64_t child[][3] = { { 0x11000, 1, PE_PARENT } };
	struct fixture f = fixture_begin(BUNDLE, 1 << 20), g = fixture_begin(BUNDLE, 1 << 20);
	struct pages_reader *p;
	struct page_run run;

	put_runs(f.store, parent, 1, 0xf0);
	put_runs(g.store, child, 1, 0);
	fixture_reopen(&f);
	fixture_reopen(&g);
	image_store_set_parent(g.store, f.store);
	ASSERT_OK(pages_open(g.store, &image_pagemap, 1, &p));
	run = ASSERT_RUN(p, 0x11000, 1, PE_PRESENT);
	check_filled(&run, 0xf0);
	pages_close(p);
	fixture_end(&g);
	fixture_end(&f);
}

TEST("parents that lack the page, or go in circles, are errors")
{
	static const uint64_t all_parent[][3] = { { 0x10000, 4, PE_PARENT } };
	static const uint64_t too_few[][3] = { { 0x10000, 2, PE_PRESENT } };
	struct image_store *a, *b, *loop;
	struct pages_reader *p;
	struct page_run run;

	log_init(LOGLEVEL_NONE, -1);
	b = make_generation("b", NULL);
	a = make_generation("a", "../b");
	put_runs(b, too_few, 1, 0);
	put_runs(a, all_parent, 1, 0);
	ASSERT_OK(pages_open(a, &image_pagemap, 1, &p));
	ASSERT_RUN(p, 0x10000, 2, PE_PRESENT);
	ASSERT_EQ(pages_next(p, &run), -EBADMSG);
	ASSERT_CONTAINS(log_first_error(), "0x12000");
	pages_close(p);

	log_init(LOGLEVEL_NONE, -1);
	loop = make_generation("loop", ".");
	put_runs(loop, all_parent, 1, 0);
	ASSERT_OK(pages_open(loop, &image_pagemap, 1, &p));
	ASSERT_EQ(pages_next(p, &run), -ELOOP);
	ASSERT_CONTAINS(log_first_error(), "too long");
	pages_close(p);
	image_store_close(loop);
	image_store_close(a);
	image_store_close(b);
}

TEST("what is saved at an address, and for how many pages that or its absence holds")
{
	static const uint64_t runs[][3] = { { 0x10000, 4, PE_PRESENT }, { 0x20000, 2, PE_LAZY } };
	struct fixture f = fixture_begin(BUNDLE, 1 << 20);
	struct pages_reader *p;
	struct page_run run;

	put_runs(f.store, runs, 2, 0);
	fixture_reopen(&f);
	ASSERT_OK(pages_open(f.store, &image_pagemap, 1, &p));
	ASSERT_EQ(pages_at(p, 0x12000, 100, &run), 1);
	ASSERT_EQ(run.n_pages, 2);
	check_filled(&run, 0);
	ASSERT_EQ(pages_at(p, 0x12000, 1, &run), 1);
	ASSERT_EQ(run.n_pages, 1);
	ASSERT_EQ(pages_at(p, 0x1000, 100, &run), 0);
	ASSERT_EQ(run.n_pages, 15);
	ASSERT_EQ(pages_at(p, 0x14000, 100, &run), 0);
	ASSERT_EQ(run.n_pages, 12);
	ASSERT_EQ(pages_at(p, 0x20000, 100, &run), 1);
	ASSERT_EQ(run.n_pages, 2);
	ASSERT(!run.data);
	ASSERT_EQ(pages_at(p, 0x22000, 7, &run), 0);
	ASSERT_EQ(run.n_pages, 7);
	/* It does not move pages_next(). */
	ASSERT_RUN(p, 0x10000, 4, PE_PRESENT);
	pages_rewind(p);
	ASSERT_RUN(p, 0x10000, 4, PE_PRESENT);
	pages_close(p);
	fixture_end(&f);
}

/* Process 1 is the source, 2 and 3 refer to it; 3 has changed a page. */
static void put_family(struct image_store *s)
{
	struct image_store *shared;
	struct pagemap_writer w;

	ASSERT_OK(image_store_make_shared(s, &shared));
	ASSERT_OK(pagemap_create(shared, &image_pagemap, 1, 1, &w));
	put_run(&w, 0x10000, 64, PE_PRESENT, 0xf0);
	ASSERT_OK(pagemap_close(&w));
	for (uint64_t pid = 1; pid <= 3; pid++) {
		if (pid > 1) {
			ASSERT_OK(pagemap_create_map(shared, &image_pagemap, pid, 1, &w));
			ASSERT_OK(pagemap_add(&w, 0x10000, 64, PE_PRESENT));
			ASSERT_OK(pagemap_close(&w));
		}
		ASSERT_OK(pagemap_create(s, &image_pagemap, pid, (uint32_t)pid + 1, &w));
		put_run(&w, 0x10000, 1, PE_PARENT, 0);
		put_run(&w, 0x11000, 1, pid == 3 ? PE_PRESENT : PE_PARENT, 0xb0);
		put_run(&w, 0x12000, 62, PE_PARENT, 0);
		ASSERT_OK(pagemap_close(&w));
	}
}

static int note_name(void *arg, const char *name, uint64_t bytes, uint64_t hash)
{
	(void)bytes;
	(void)hash;
	strcat(strcat(arg, name), " ");
	return 0;
}

TEST("pages several processes have are read from one file, and known to be the same")
{
	FOR_EACH_CARRIER(c) {
		struct fixture f = fixture_begin(c, 4 << 20);
		struct pages_reader *p[4];
		struct page_run source, run;
		char names[1024] = "";

		put_family(f.store);
		fixture_reopen(&f);
		for (uint64_t pid = 1; pid <= 3; pid++)
			ASSERT_OK(pages_open(f.store, &image_pagemap, pid, &p[pid]));
		source = ASSERT_RUN(p[1], 0x10000, 64, PE_PRESENT);
		check_filled(&source, 0xf0);
		run = ASSERT_RUN(p[2], 0x10000, 64, PE_PRESENT);
		ASSERT(run.data == source.data);
		run = ASSERT_RUN(p[3], 0x10000, 1, PE_PRESENT);
		ASSERT(run.data == source.data);
		run = ASSERT_RUN(p[3], 0x11000, 1, PE_PRESENT);
		check_filled(&run, 0xb0);
		run = ASSERT_RUN(p[3], 0x12000, 62, PE_PRESENT);
		ASSERT(run.data == source.data + 2 * PAGE_BYTES);
		for (uint64_t pid = 1; pid <= 3; pid++)
			pages_close(p[pid]);
		ASSERT_OK(image_store_each_file(f.store, note_name, names));
		ASSERT_CONTAINS(names, " shared/pagemap-2.img ");
		ASSERT_CONTAINS(names, " shared/pages-1.img ");
		ASSERT_OK(image_store_verify(f.store));
		fixture_end(&f);
	}
}

TEST("an earlier dump's images and shared pages go, an operator's parent and other files stay")
{
	static const char *const images[] = { "inventory.img", "fdinfo-2.img", "ipcns-shm-3.img" };
	static const char *const others[] = { "disk.img", "fdinfo-x.img", "stats-dump" };
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct stat st;

	ASSERT_OK(image_store_forget(f.store));
	put_family(f.store);
	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		close(openat(f.dirfd, images[i], O_WRONLY | O_CREAT, 0600));
		close(openat(f.dirfd, others[i], O_WRONLY | O_CREAT, 0600));
	}
	ASSERT_OK(image_store_forget(f.store));
	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		ASSERT_EQ(fstatat(f.dirfd, images[i], &st, 0), -1);
		ASSERT_OK(fstatat(f.dirfd, others[i], &st, 0));
	}
	ASSERT_EQ(fstatat(f.dirfd, "shared", &st, AT_SYMLINK_NOFOLLOW), -1);
	ASSERT_EQ(fstatat(f.dirfd, "parent", &st, AT_SYMLINK_NOFOLLOW), -1);
	ASSERT_OK(symlinkat("../before", f.dirfd, "parent"));
	ASSERT_OK(image_store_forget(f.store));
	ASSERT_OK(fstatat(f.dirfd, "parent", &st, AT_SYMLINK_NOFOLLOW));
	fixture_end(&f);
}

static struct pages_reader *write_pages(struct fixture *f, uint64_t id, uint64_t n_pages)
{
	struct pagemap_writer w;
	struct pages_reader *p;

	ASSERT_OK(pagemap_create(f->store, &image_pagemap, id, (uint32_t)id, &w));
	for (uint64_t at = 0; at < n_pages; at += PAGEMAP_RUN_MAX)
		put_run(&w, 0x400000 + at * PAGE_BYTES, MIN(n_pages - at, (uint64_t)PAGEMAP_RUN_MAX),
			PE_PRESENT, 0);
	ASSERT_OK(pagemap_close(&w));
	fixture_reopen(f);
	ASSERT_OK(pages_open(f->store, &image_pagemap, id, &p));
	return p;
}

TEST("bytes of a small pages file, or in a bundle, are used where they are")
{
	FOR_EACH_CARRIER(c) {
		struct fixture f = fixture_begin(c, 32 << 20);
		uint64_t n = c == DIRECTORY ? 1 : FILL_BYTES_MIN / PAGE_BYTES;
		struct pages_reader *p = write_pages(&f, 1, n);
		struct page_run run;
		const uint8_t *bytes;
		void *room = NULL;

		ASSERT_EQ(pages_at(p, 0x400000, 1, &run), 1);
		ASSERT_OK(image_bytes(run.file, run.data, PAGE_BYTES, &room, &bytes));
		ASSERT(bytes == run.data && !room);
		pages_close(p);
		fixture_end(&f);
	}
}

TEST("bytes of a large pages file are read; one cut off meanwhile is an error, not a signal")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	uint64_t n = FILL_BYTES_MIN / PAGE_BYTES;
	struct pages_reader *p = write_pages(&f, 2, n);
	struct page_run run;
	const uint8_t *bytes;
	void *room = NULL;
	int fd;

	ASSERT_EQ(pages_at(p, 0x400000 + (n - 1) * PAGE_BYTES, 1, &run), 1);
	ASSERT_OK(image_bytes(run.file, run.data, PAGE_BYTES, &room, &bytes));
	ASSERT(bytes == room && bytes != run.data);
	ASSERT(!memcmp(bytes, run.data, PAGE_BYTES));
	fd = openat(f.dirfd, "pages-2.img", O_WRONLY | O_CLOEXEC);
	ASSERT_OK(fd);
	ASSERT_OK(ftruncate(fd, PAGE_BYTES));
	close(fd);
	ASSERT_EQ(image_bytes(run.file, run.data, PAGE_BYTES, &room, &bytes), -ENODATA);
	free(room);
	pages_close(p);
	fixture_end(&f);
}
