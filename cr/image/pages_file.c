/*
 * Page images of what has a descriptor: shared memory.
 *
 * Stored is what is present or swapped, not the holes. hugetlbfs knows no holes: there, huge pages that are all
 * zero are left out; nor has it write(2).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

int pages_put_huge_file(struct pagemap_writer *w, int fd, uint64_t size, uint64_t huge_bytes)
{
	_cleanup_free_ char *buf = malloc(huge_bytes);

	if (!buf)
		return -ENOMEM;
	for (uint64_t off = 0; off < size; off += huge_bytes) {
		int r = pread_full(fd, buf, (size_t)huge_bytes, (off_t)off);

		if (r < 0)
			return r;
		if (!buf[0] && !memcmp(buf, buf + 1, huge_bytes - 1))
			continue;
		for (uint64_t at = 0; at < huge_bytes; at += IMAGE_SPAN_MAX) {
			uint64_t bytes = MIN(huge_bytes - at, (uint64_t)IMAGE_SPAN_MAX);
			void *room;

			r = pagemap_put(w, off + at, bytes / PAGE_BYTES, PE_PRESENT, &room);
			if (r < 0)
				return r;
			memcpy(room, buf + at, bytes);
		}
	}
	return 0;
}

int pages_fill_huge(struct pages_reader *p, void *map, uint64_t size, uint64_t huge_bytes, uint64_t *pages)
{
	struct page_run run;
	int r;

	while ((r = pages_next(p, &run)) > 0) {
		uint64_t bytes = run.n_pages * PAGE_BYTES, in_page = run.vaddr % huge_bytes;
		char *to = (char *)map + run.vaddr;

		if (run.vaddr > size || bytes > size - run.vaddr)
			return log_fail(-EBADMSG, "pages at %llu lie behind its end",
					(unsigned long long)run.vaddr);
		if (!run.data)
			continue;
		/* Huge pages may be reserved by nobody: populated one by one, or SIGBUS. */
		if (madvise(to - in_page, ROUND_UP(in_page + bytes, huge_bytes), MADV_POPULATE_WRITE) < 0)
			return log_err(neg_errno(), "no huge pages are left for it");
		memcpy(to, run.data, bytes);
		*pages += run.n_pages;
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
