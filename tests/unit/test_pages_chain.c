/* Chains of page images: what may be referred to, what may be given back, what is nonsense. */
#define _GNU_SOURCE
#include <sys/socket.h>

#include "cr.h"
#include "image_fixture.h"

static struct image_store *make(const char *name, const char *parent, int *ret_fd)
{
	char *path = str_fmt("%s/%s", unit_tmpdir(), name);
	struct image_store *s;

	log_init(LOGLEVEL_NONE, -1);
	ASSERT_OK(mkdir(path, 0700));
	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(*ret_fd);
	ASSERT_OK(image_store_open_dir(*ret_fd, &s));
	if (parent)
		ASSERT_OK(image_store_link_parent(s, parent));
	free(path);
	return s;
}

/* Page i of a run is filled with salt + i. */
static void put(struct pagemap_writer *w, uint64_t vaddr, uint64_t n, uint32_t flags, int salt)
{
	uint8_t *room;

	ASSERT_OK(pagemap_put(w, vaddr, n, flags, (void **)&room));
	for (uint64_t i = 0; flags & PE_PRESENT && i < n; i++)
		memset(room + i * PAGE_BYTES, salt + (int)i, PAGE_BYTES);
}

static int page_value(struct image_store *s, uint64_t id, uint64_t vaddr)
{
	struct pages_reader *p;
	struct page_run run;
	int r;

	ASSERT_OK(pages_open(s, &image_pagemap, id, &p));
	r = pages_at(p, vaddr, 1, &run);
	if (r > 0)
		r = run.data[PAGE_BYTES - 1];
	pages_close(p);
	return r;
}

struct chain {
	struct image_store *s[3];	/* oldest first */
	int fd[3];
};

/* Oldest: 8 pages. Middle: the second half anew. Newest: page 1 and page 5 anew. */
static struct chain make_chain(void)
{
	struct chain c;
	struct pagemap_writer w;

	c.s[0] = make("0", NULL, &c.fd[0]);
	c.s[1] = make("1", "../0", &c.fd[1]);
	c.s[2] = make("2", "../1", &c.fd[2]);
	ASSERT_OK(pagemap_create(c.s[0], &image_pagemap, 7, 1, &w));
	put(&w, 0x10000, 8, PE_PRESENT, 10);
	ASSERT_OK(pagemap_close(&w));
	ASSERT_OK(pagemap_create(c.s[1], &image_pagemap, 7, 1, &w));
	put(&w, 0x10000, 4, PE_PARENT, 0);
	put(&w, 0x14000, 4, PE_PRESENT, 20);
	ASSERT_OK(pagemap_close(&w));
	ASSERT_OK(pagemap_create(c.s[2], &image_pagemap, 7, 1, &w));
	put(&w, 0x10000, 1, PE_PARENT, 0);
	put(&w, 0x11000, 1, PE_PRESENT, 30);
	put(&w, 0x12000, 3, PE_PARENT, 0);
	put(&w, 0x15000, 1, PE_PRESENT, 40);
	put(&w, 0x16000, 2, PE_PARENT, 0);
	ASSERT_OK(pagemap_close(&w));
	return c;
}

static void end_chain(struct chain *c)
{
	for (int i = 0; i < 3; i++) {
		image_store_close(c->s[i]);
		close(c->fd[i]);
	}
}

TEST("what newer images have is given back by all older ones, and nothing else")
{
	static const int newest[8] = { 10, 30, 12, 13, 20, 40, 22, 23 };
	struct chain c = make_chain();
	uint64_t pages = 0;

	ASSERT_OK(pages_dedup(c.s[2], &image_pagemap, 7, &pages));
	/* Page 1 in the oldest, through the middle one; page 5 in the middle one. */
	ASSERT_EQ(pages, 2);
	for (uint64_t i = 0; i < 8; i++)
		ASSERT_EQ(page_value(c.s[2], 7, 0x10000 + i * PAGE_BYTES), newest[i]);
	ASSERT_EQ(page_value(c.s[0], 7, 0x11000), 0);
	ASSERT_EQ(page_value(c.s[1], 7, 0x15000), 0);
	ASSERT_EQ(page_value(c.s[0], 7, 0x15000), 15);
	ASSERT_OK(pages_dedup(c.s[1], &image_pagemap, 7, &pages));
	ASSERT_EQ(pages, 2 + 4);
	ASSERT_EQ(page_value(c.s[2], 7, 0x10000), 10);
	/* Without parents, without that object: nothing to do. */
	ASSERT_OK(pages_dedup(c.s[0], &image_pagemap, 7, &pages));
	ASSERT_OK(pages_dedup(c.s[2], &image_pagemap, 8, &pages));
	ASSERT_EQ(pages, 6);
	end_chain(&c);
}

TEST("pages that several maps share are never given back")
{
	struct image_store *shared, *s;
	struct pagemap_writer w;
	uint64_t pages = 0;
	int fd;

	s = make("s", NULL, &fd);
	ASSERT_OK(image_store_make_shared(s, &shared));
	ASSERT_OK(pagemap_create(shared, &image_pagemap, 1, 1, &w));
	put(&w, 0x10000, 4, PE_PRESENT, 10);
	ASSERT_OK(pagemap_close(&w));
	ASSERT_OK(pagemap_create_map(shared, &image_pagemap, 2, 1, &w));
	ASSERT_OK(pagemap_add(&w, 0x10000, 4, PE_PRESENT));
	ASSERT_OK(pagemap_close(&w));
	ASSERT_OK(pagemap_create(s, &image_pagemap, 1, 2, &w));
	put(&w, 0x10000, 4, PE_PARENT, 0);
	ASSERT_OK(pagemap_close(&w));
	ASSERT_OK(pagemap_create(s, &image_pagemap, 2, 3, &w));
	put(&w, 0x10000, 4, PE_PRESENT, 20);
	ASSERT_OK(pagemap_close(&w));
	ASSERT_OK(pages_dedup(s, &image_pagemap, 2, &pages));
	ASSERT_EQ(pages, 0);
	ASSERT_EQ(page_value(s, 1, 0x11000), 11);
	image_store_close(s);
	close(fd);
}

TEST("a chain that leads to itself, to nothing or to no directory is refused by name")
{
	struct image_store *s, *shared;
	char to[16];
	int fd, file;

	s = make("a", NULL, &fd);
	ASSERT_EQ(image_store_link_parent(s, "."), -ELOOP);
	ASSERT_CONTAINS(log_first_error(), "previous images");
	ASSERT_EQ(image_store_link_parent(s, "../absent"), -ENOENT);
	file = openat(fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_OK(file);
	close(file);
	ASSERT_EQ(image_store_link_parent(s, "file"), -ENOTDIR);
	/* Nothing of that stays; one that leads elsewhere is replaced. */
	ASSERT_EQ(readlinkat(fd, "parent", to, sizeof(to)), -1);
	ASSERT_OK(symlinkat("../older", fd, "parent"));
	ASSERT_OK(image_store_link_parent(s, ".."));
	ASSERT_EQ(readlinkat(fd, "parent", to, sizeof(to)), 2);
	ASSERT_EQ(image_store_make_shared(s, &shared), -EEXIST);
	image_store_close(s);
	close(fd);
}

TEST("parents without the object, with overlapping runs or without their pages are refused by name")
{
	struct chain c = make_chain();
	PagemapHead head = PAGEMAP_HEAD__INIT;
	PagemapEntry e = PAGEMAP_ENTRY__INIT;
	struct image_writer *w;

	ASSERT_OK(unlinkat(c.fd[1], "pagemap-7.img", 0));
	ASSERT_EQ(page_value(c.s[2], 7, 0x10000), -ENOENT);
	ASSERT_CONTAINS(log_first_error(), "parent images have no pagemap for 7");
	/* Overlapping: two runs of 4 pages, a page apart. */
	log_init(LOGLEVEL_NONE, -1);
	head.pages_id = 1;
	ASSERT_OK(image_create(c.s[1], &image_pagemap, &w, 7));
	ASSERT_OK(image_put(w, &head.base));
	e.has_flags = true;
	e.flags = PE_PARENT;
	e.compat_nr_pages = 4;
	for (e.vaddr = 0x10000; e.vaddr <= 0x11000; e.vaddr += PAGE_BYTES)
		ASSERT_OK(image_put(w, &e.base));
	ASSERT_OK(image_close(w));
	ASSERT_EQ(page_value(c.s[2], 7, 0x10000), -EBADMSG);
	ASSERT_CONTAINS(log_first_error(), "overlaps");
	/* The oldest one's contents are gone. */
	log_init(LOGLEVEL_NONE, -1);
	ASSERT_OK(image_create(c.s[1], &image_pagemap, &w, 7));
	ASSERT_OK(image_put(w, &head.base));
	e.vaddr = 0x10000;
	ASSERT_OK(image_put(w, &e.base));
	ASSERT_OK(image_close(w));
	ASSERT_OK(unlinkat(c.fd[0], "pages-1.img", 0));
	ASSERT_EQ(page_value(c.s[2], 7, 0x10000), -EBADMSG);
	ASSERT_CONTAINS(log_first_error(), "pages-1.img is missing");
	end_chain(&c);
}

TEST("tracking is taken over whole, or not at all")
{
	struct {
		int32_t pid;
		uint64_t start_ticks;
		char since[40];
	} m = { .pid = 5 };
	struct cr_track *t, *got;
	int sock[2];

	ASSERT_OK(cr_track_new(&t));
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	ASSERT_OK(cr_track_send(t, sock[0]));
	ASSERT_OK(cr_track_receive(sock[1], &got));
	cr_track_free(got);
	cr_track_free(t);
	/* A process without its descriptor; then an end in the middle of a message. */
	ASSERT_EQ(write(sock[0], &m, sizeof(m)), (ssize_t)sizeof(m));
	ASSERT_EQ(cr_track_receive(sock[1], &got), -EBADMSG);
	ASSERT_EQ(write(sock[0], &m, 9), 9);
	ASSERT_OK(shutdown(sock[0], SHUT_WR));
	ASSERT_EQ(cr_track_receive(sock[1], &got), -EBADMSG);
	close(sock[0]);
	close(sock[1]);
}
