/*
 * In the new kernel, when all is over: is the memory of the store back? Nothing has to be done
 * for it: udev finds the soft-reserved memory and loads dax_hmem and kmem.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "crkexec/store_pmem.h"
#include "util/io.h"
#include "util/log.h"

#define POLL_MSEC	200u

/* What the conversion on the command line promised. */
static uint64_t promised(const struct manifest *m)
{
	_cleanup_free_ char *text = NULL;

	if (m->store != STORE_PMEM || read_file_at(AT_FDCWD, "/proc/cmdline", 1u << 20, &text, NULL) < 0 ||
	    !strstr(text, PMEM_CONVERSION))
		return 0;
	return pmem_returnable_bytes(m->ranges, m->n_ranges, pmem_block_bytes());
}

static uint64_t is_back(const struct manifest *m)
{
	struct iomem io = { 0 };
	uint64_t bytes = 0;

	if (iomem_read(&io) < 0)
		return 0;
	for (size_t i = 0; i < m->n_ranges; i++)
		bytes += iomem_overlap(&io, &m->ranges[i], IOMEM_KMEM);
	iomem_done(&io);
	return bytes;
}

uint64_t pmem_wait_returned(const struct manifest *m, unsigned int timeout_msec)
{
	uint64_t want = promised(m), have = 0;

	for (unsigned int waited = 0; want; waited += POLL_MSEC) {
		have = is_back(m);
		if (have >= want || waited >= timeout_msec)
			break;
		usleep(POLL_MSEC * 1000);
	}
	return have < want ? want - have : 0;
}
