/*
 * Page images of what has a descriptor: shared memory.
 *
 * Stored is what is present or swapped, not the holes.
 */
#include <string.h>

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
	uint64_t off = 0, end;
	int r;

	while ((r = file_next_data(fd, size, &off, &end)) > 0) {
		/* Never across the end of a page, whatever the file system says. */
		off = off / PAGE_BYTES * PAGE_BYTES;
		end = ROUND_UP(end, PAGE_BYTES);
		r = put_run(w, fd, off, MIN(end, size));
		if (r < 0)
			return r;
		off = end;
	}
	return r;
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
