/*
 * Page images of what has a descriptor: shared memory.
 *
 * SEEK_DATA finds what is present or swapped; holes are not stored.
 */
#include <string.h>
#include <unistd.h>

#include "image/pages.h"
#include "util/io.h"
#include "util/log.h"

static int put_run(struct pagemap_writer *w, int fd, uint64_t off, uint64_t end)
{
	int r;

	while (off < end) {
		uint64_t n = MIN((end - off + PAGE_BYTES - 1) / PAGE_BYTES,
				 (uint64_t)PAGEMAP_RUN_MAX);
		size_t bytes = (size_t)MIN(n * PAGE_BYTES, end - off);
		void *room;

		r = pagemap_put(w, off, n, PE_PRESENT, &room);
		if (r < 0)
			return r;
		memset((char *)room + bytes, 0, n * PAGE_BYTES - bytes);
		r = pread_full(fd, room, bytes, (off_t)off);
		if (r < 0)
			return r;
		off += n * PAGE_BYTES;
	}
	return 0;
}

int pages_put_file(struct pagemap_writer *w, int fd, uint64_t size)
{
	uint64_t off = 0;

	while (off < size) {
		off_t data = lseek(fd, (off_t)off, SEEK_DATA), hole;
		int r;

		if (data < 0)
			return errno == ENXIO ? 0 : neg_errno();
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return neg_errno();
		/* Never across the end of a page, whatever the file system says. */
		off = (uint64_t)data / PAGE_BYTES * PAGE_BYTES;
		hole = (off_t)MIN(ROUND_UP((uint64_t)hole, PAGE_BYTES), size);
		r = put_run(w, fd, off, (uint64_t)hole);
		if (r < 0)
			return r;
		off = ROUND_UP((uint64_t)hole, PAGE_BYTES);
	}
	return 0;
}

int pages_fill_file(struct pages_reader *p, int fd, uint64_t size, uint64_t *pages)
{
	struct page_run run;
	int r;

	while ((r = pages_next(p, &run)) > 0) {
		uint64_t bytes = run.n_pages * PAGE_BYTES;

		if (run.vaddr >= size)
			return 0;
		if (!run.data)
			continue;
		/* The last page may be saved whole, the file ends inside. */
		r = pwrite_full(fd, run.data, (size_t)MIN(bytes, size - run.vaddr), (off_t)run.vaddr);
		if (r < 0)
			return log_err(r, "cannot write at %llu", (unsigned long long)run.vaddr);
		*pages += run.n_pages;
	}
	return r;
}
