/* Payload that several threads supply: in place everywhere, and a file system that is full says so. */
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>

#include "image/store.h"
#include "image_fixture.h"

#define BYTES	((33u << 20) + 3 * PAGE_BYTES)

struct supply {
	_Atomic uint64_t bytes;
	uint64_t refused_at;		/* -EPERM there; 0: nowhere */
};

static uint32_t word_at(uint64_t off)
{
	return (uint32_t)(off / sizeof(uint32_t)) * 2654435761u;
}

static int supply(void *arg, unsigned int worker _unused_, uint64_t off, void *to, size_t n)
{
	struct supply *s = arg;

	if (s->refused_at && off >= s->refused_at)
		return -EPERM;
	for (size_t i = 0; i < n; i += sizeof(uint32_t))
		memcpy((uint8_t *)to + i, &(uint32_t){ word_at(off + i) }, sizeof(uint32_t));
	atomic_fetch_add(&s->bytes, n);
	return 0;
}

/* On unit_tmpdir() in a mount namespace of our own: gone with the test. */
static void mount_tmpfs(const char *options)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", unit_tmpdir(), "tmpfs", 0, options) < 0)
		unit_skip("no tmpfs of its own: %s", strerror(errno));
}

static void fill_and_read(struct fixture *f, uint64_t bytes)
{
	struct supply s = { 0 };
	struct image_writer *w;
	struct image_reader rd;
	uint32_t word;

	ASSERT_OK(image_create(f->store, &image_pages, &w, 1));
	/* What is there before stays, what comes after follows. */
	ASSERT_OK(image_fill(w, PAGE_BYTES, supply, &s));
	ASSERT_OK(image_fill(w, bytes, supply, &s));
	ASSERT_OK(image_put_raw(w, "end", 3));
	ASSERT_OK(image_close(w));
	ASSERT_EQ(s.bytes, bytes + PAGE_BYTES);
	fixture_reopen(f);
	ASSERT_OK(image_open(f->store, &image_pages, &rd, 1));
	ASSERT_EQ(rd.bytes, PAGE_BYTES + bytes + 3);
	for (uint64_t off = 0; off < PAGE_BYTES + bytes; off += sizeof(word)) {
		memcpy(&word, rd.data + off, sizeof(word));
		ASSERT_EQ(word, word_at(off < PAGE_BYTES ? off : off - PAGE_BYTES));
	}
	ASSERT(!memcmp(rd.data + PAGE_BYTES + bytes, "end", 3));
	image_reader_done(&rd);
	fixture_end(f);
}

TEST("what is supplied in pieces is read back in its place, from both carriers and from memory")
{
	struct fixture f = fixture_begin(BUNDLE, 64u << 20);

	fill_and_read(&f, BYTES);
	f = fixture_begin(DIRECTORY, 0);
	fill_and_read(&f, BYTES);
	mount_tmpfs("size=64m");
	f = fixture_begin(DIRECTORY, 0);
	fill_and_read(&f, BYTES);
}

TEST("memory that is full is an error of the file, not a signal")
{
	struct image_writer *w;
	struct supply s = { 0 };
	struct fixture f;

	mount_tmpfs("size=20m");
	f = fixture_begin(DIRECTORY, 0);
	ASSERT_OK(image_create(f.store, &image_pages, &w, 1));
	ASSERT_EQ(image_fill(w, BYTES, supply, &s), -ENOSPC);
	ASSERT_CONTAINS(log_first_error(), "pages-1.img");
	ASSERT_EQ(image_close(w), -ENOSPC);
	ASSERT_EQ(faccessat(f.dirfd, "pages-1.img", F_OK, 0), -1);
	fixture_end(&f);
}

TEST("an error of who supplies is the file's error")
{
	struct supply s = { .refused_at = BYTES / 2 };
	struct image_writer *w;
	struct fixture f;

	mount_tmpfs("size=64m");
	f = fixture_begin(DIRECTORY, 0);
	ASSERT_OK(image_create(f.store, &image_pages, &w, 1));
	ASSERT_EQ(image_fill(w, BYTES, supply, &s), -EPERM);
	ASSERT_EQ(image_close(w), -EPERM);
	ASSERT_EQ(faccessat(f.dirfd, "pages-1.img", F_OK, 0), -1);
	fixture_end(&f);
}
