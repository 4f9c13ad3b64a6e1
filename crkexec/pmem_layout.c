#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "crkexec/pmem_layout.h"
#include "util/io.h"
#include "util/log.h"

#define RAM_BUFFER_BYTES	(64ull << 20)	/* arch/x86: what System RAM is filled up to */

_Static_assert(sizeof(struct pmem_header) <= PMEM_MANIFEST_OFF, "the header has a page");

static uint64_t header_hash(const struct pmem_header *h)
{
	return XXH3_64bits(h, offsetof(struct pmem_header, hash));
}

void pmem_header_seal(struct pmem_header *h)
{
	memcpy(h->magic, PMEM_MAGIC, sizeof(h->magic));
	h->version = PMEM_VERSION;
	h->header_bytes = sizeof(*h);
	h->hash = header_hash(h);
}

static int check_ranges(const struct pmem_header *h)
{
	uint64_t total = 0, end = 0;

	if (!h->n_ranges || h->n_ranges > PMEM_RANGES_MAX)
		return log_fail(-EBADMSG, "the kept memory has %" PRIu64 " ranges", h->n_ranges);
	for (size_t i = 0; i < h->n_ranges; i++) {
		uint64_t a = h->ranges[i].addr, n = h->ranges[i].bytes;

		if (!n || a % PMEM_PAGE_BYTES || n % PMEM_PAGE_BYTES || a < end ||
		    a >= PMEM_ADDR_MAX || n > PMEM_ADDR_MAX - a)
			return log_fail(-EBADMSG, "the kept memory has a bad range: %#" PRIx64
					"+%#" PRIx64, a, n);
		end = a + n;
		total += n;
	}
	if (total != h->total_bytes)
		return log_fail(-EBADMSG, "the kept memory has %" PRIu64 " bytes in its ranges, %"
				PRIu64 " in its header", total, h->total_bytes);
	return 0;
}

int pmem_header_check(const void *head, const char *id, uint64_t salt, uint64_t addr,
		      uint64_t bytes)
{
	const struct pmem_header *h = head;
	int r;

	if (memcmp(h->magic, PMEM_MAGIC, sizeof(h->magic)))
		return log_fail(-EBADMSG, "no images at %#" PRIx64 ": what the old kernel left there "
				"was overwritten, or the memory lost its contents", addr);
	if (h->version != PMEM_VERSION || h->header_bytes != sizeof(*h))
		return log_fail(-EBADMSG, "the kept memory has version %u, this program reads %u",
				h->version, PMEM_VERSION);
	if (h->hash != header_hash(h))
		return log_fail(-EBADMSG, "the header of the kept memory at %#" PRIx64
				" is damaged (checksum)", addr);
	if (id && (strlen(id) != sizeof(h->id) || memcmp(h->id, id, sizeof(h->id))))
		return log_fail(-EBADMSG, "the kept memory at %#" PRIx64 " is of upgrade %.16s, this "
				"boot is %s's", addr, h->id, id);
	if (h->salt != salt)
		return log_fail(-EBADMSG, "the kept memory at %#" PRIx64 " is of an earlier try: its "
				"salt is not the command line's", addr);
	r = check_ranges(h);
	if (r < 0)
		return r;
	if (h->ranges[0].addr != addr || h->ranges[0].bytes != bytes)
		return log_fail(-EBADMSG, "the kept memory's first range is not the command line's");
	if (!h->manifest_bytes || h->manifest_bytes > PMEM_MANIFEST_MAX)
		return log_fail(-EBADMSG, "the manifest in the kept memory has %" PRIu64 " bytes",
				h->manifest_bytes);
	if (XXH3_64bits((const char *)head + PMEM_MANIFEST_OFF, h->manifest_bytes) !=
	    h->manifest_hash)
		return log_fail(-EBADMSG, "the manifest in the kept memory is damaged (checksum)");
	return 0;
}

char *pmem_spec_format(const struct pmem_spec *spec)
{
	return str_fmt("pmem:%#" PRIx64 "+%#" PRIx64 ":%016" PRIx64, spec->addr, spec->bytes,
		       spec->salt);
}

/* The number up to the character end (0: the string's end); -EINVAL. */
static int take_hex(const char **s, char end, uint64_t *ret)
{
	const char *stop = end ? strchr(*s, end) : *s + strlen(*s);
	char digits[24];

	if (!stop || (size_t)(stop - *s) >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, *s, stop - *s);
	digits[stop - *s] = '\0';
	*s = stop + (end != 0);
	return parse_u64(digits, 16, ret) < 0 ? -EINVAL : 0;
}

int pmem_spec_parse(const char *text, struct pmem_spec *ret)
{
	struct pmem_spec spec;
	int r;

	if (!str_starts(text, "pmem:"))
		return -EINVAL;
	text += strlen("pmem:");
	r = take_hex(&text, '+', &spec.addr);
	if (r == 0)
		r = take_hex(&text, ':', &spec.bytes);
	if (r == 0)
		r = take_hex(&text, 0, &spec.salt);
	if (r < 0)
		return r;
	if (spec.addr % PMEM_PAGE_BYTES || spec.bytes % PMEM_PAGE_BYTES || !spec.bytes ||
	    spec.addr >= PMEM_ADDR_MAX || spec.bytes > PMEM_ADDR_MAX - spec.addr)
		return -EINVAL;
	*ret = spec;
	return 0;
}

uint64_t pmem_returnable_bytes(const struct manifest_range *ranges, size_t n,
			       uint64_t block_bytes)
{
	uint64_t total = 0;

	for (size_t i = 0; i < n && block_bytes; i++)
		if (ranges[i].addr % block_bytes == 0)
			total += ranges[i].bytes / block_bytes * block_bytes;
	return total;
}

bool pmem_may_convert(const struct manifest_range *ranges, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ranges[i].addr % RAM_BUFFER_BYTES)
			return false;
	return true;
}

/*
 * One parameter, commas between the ranges: KASLR keeps away from four ranges, and gives up
 * randomizing the place when one parameter has more; it would ignore a fifth parameter.
 *
 * The last item turns type 12 (what "!" makes) into soft-reserved memory. The kernel could be
 * told so for each range by "%", but KASLR's parser takes the size of such an item for the
 * end of memory: 64T is above all.
 */
char *pmem_memmap_format(const struct manifest_range *ranges, size_t n, bool give_back)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);

	if (!f)
		return NULL;
	fputs("memmap=", f);
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s%" PRIu64 "M!%#" PRIx64, i ? "," : "", ranges[i].bytes >> 20,
			ranges[i].addr);
	if (give_back)
		fputs(PMEM_CONVERSION, f);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}
