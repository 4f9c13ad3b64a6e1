/* A store of either carrier to write to and to read back, for the image tests. */
#ifndef TESTS_UNIT_IMAGE_FIXTURE_H
#define TESTS_UNIT_IMAGE_FIXTURE_H

#include <fcntl.h>
#include <sys/stat.h>

#include "image/image.h"
#include "image/pages.h"
#include "image/proto.h"
#include "unit.h"
#include "util/io.h"
#include "util/log.h"

enum carrier { DIRECTORY, BUNDLE };

struct fixture {
	enum carrier carrier;
	int dirfd;
	uint8_t *region;
	size_t bytes;
	struct image_store *store;
};

static inline void fixture_region(struct fixture *f, size_t bytes)
{
	f->region = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(f->region != MAP_FAILED);
	/* As memory that was something else before. */
	memset(f->region, 0xa5, bytes);
	f->bytes = bytes;
}

static inline struct fixture fixture_begin(enum carrier carrier, size_t bytes)
{
	struct fixture f = { .carrier = carrier, .dirfd = -1 };

	log_init(LOGLEVEL_NONE, -1);
	if (carrier == DIRECTORY) {
		f.dirfd = open(unit_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ASSERT_OK(f.dirfd);
		ASSERT_OK(image_store_open_dir(f.dirfd, &f.store));
	} else {
		fixture_region(&f, bytes);
		ASSERT_OK(image_bundle_create(f.region, bytes, &f.store));
	}
	return f;
}

/* From writing to reading. */
static inline void fixture_reopen(struct fixture *f)
{
	uint64_t bytes, hash;

	ASSERT_OK(image_store_seal(f->store, &bytes, &hash));
	image_store_close(f->store);
	if (f->carrier == DIRECTORY) {
		ASSERT_OK(image_store_open_dir(f->dirfd, &f->store));
		return;
	}
	/* Readers must not write: a store that does dies here. */
	ASSERT_OK(mprotect(f->region, f->bytes, PROT_READ));
	ASSERT_OK(image_bundle_open(f->region, f->bytes, &f->store));
}

static inline void fixture_end(struct fixture *f)
{
	image_store_close(f->store);
	if (f->carrier == DIRECTORY)
		close(f->dirfd);
	else
		munmap(f->region, f->bytes);
}

#define FOR_EACH_CARRIER(c) for (enum carrier c = DIRECTORY; c <= BUNDLE; c++)

static inline void put_task(struct image_store *s, uint32_t pid)
{
	uint32_t threads[2] = { pid, pid + 1 };
	PstreeEntry e = PSTREE_ENTRY__INIT;

	e.pid = pid;
	e.pgid = e.sid = 1;
	e.threads = threads;
	e.n_threads = 2;
	ASSERT_OK(image_write_one(s, &image_pstree, &e.base));
}

#endif
