/*
 * The pmem store as it lies in memory, and how the new kernel is told of it. Written by
 * crkexec (store_pmem.c), read by the early program (initramfs/early_pmem.c).
 *
 *	header | manifest text |	the first PMEM_HEAD_BYTES of the first range
 *	region of a tree: a bundle	one after the other
 *
 * All offsets are into the ranges taken as one, in the order of the header (ascending
 * addresses), which is also how both sides map them.
 *
 * The trap: what is found there after a failed jump or a panic may be of another upgrade, or
 * anything. The salt on the command line and in the header ties them together; hashes decide
 * whether a byte is believed.
 */
#ifndef CRKEXEC_PMEM_LAYOUT_H
#define CRKEXEC_PMEM_LAYOUT_H

#include "crkexec/manifest.h"
#include "util/macro.h"

#define PMEM_MAGIC		"CRKPMEM"
#define PMEM_VERSION		1u
#define PMEM_PAGE_BYTES		(2ull << 20)	/* all ranges are multiples of it */
#define PMEM_HEAD_BYTES		PMEM_PAGE_BYTES
#define PMEM_MANIFEST_OFF	((uint64_t)PAGE_BYTES)
#define PMEM_MANIFEST_MAX	(PMEM_HEAD_BYTES - PMEM_MANIFEST_OFF)
#define PMEM_RANGES_MAX		60u
/* x86-64 has at most 52 bits of physical address. */
#define PMEM_ADDR_MAX		(1ull << 52)

struct pmem_header {
	char magic[8];
	uint32_t version, header_bytes;
	char id[16];			/* of the upgrade; not terminated */
	uint64_t salt;			/* of this store; also on the command line */
	uint64_t total_bytes;		/* of all ranges */
	uint64_t manifest_bytes, manifest_hash;
	uint64_t n_ranges;
	struct {
		uint64_t addr, bytes;
	} ranges[PMEM_RANGES_MAX];
	uint64_t hash;			/* XXH3-64 of all fields above */
};

/* Fills in the constant fields and the hash. The others must be set. */
void pmem_header_seal(struct pmem_header *h);
/*
 * head: PMEM_HEAD_BYTES as found. Believes nothing; logs what is wrong, -EBADMSG. addr and
 * bytes: of the first range, as the command line has it.
 */
int pmem_header_check(const void *head, const char *id, uint64_t salt, uint64_t addr,
		      uint64_t bytes) _must_check_;

/* "pmem:0xADDR+0xBYTES:SALT": where the first range is. */
struct pmem_spec {
	uint64_t addr, bytes, salt;
};
char *pmem_spec_format(const struct pmem_spec *spec);
/* -EINVAL. */
int pmem_spec_parse(const char *text, struct pmem_spec *ret) _must_check_;

/*
 * What can be given back of the ranges: whole memory blocks of those that begin at a block's
 * border (7.2's dax_hmem refuses others). 0 for block_bytes 0.
 */
uint64_t pmem_returnable_bytes(const struct manifest_range *ranges, size_t n,
			       uint64_t block_bytes);
/*
 * May the ranges be soft-reserved? Where System RAM ends, the kernel fills up to the next 64 MiB
 * with a "RAM buffer", and 7.2 does not yet list soft-reserved memory then: the buffer covers it
 * and /dev/mem refuses it (IO_STRICT_DEVMEM). Persistent memory is listed before.
 */
bool pmem_may_convert(const struct manifest_range *ranges, size_t n);

/*
 * In the distribution's initramfs, in front of memmap=: udev must not bind nd_pmem, which takes
 * /dev/mem's mappings away even from a running restore. This driver finds such memory for it,
 * and nothing else needs it.
 */
#define PMEM_KEEP_OFF	"modprobe.blacklist=nd_e820"
#define PMEM_CONVERSION	",64T%0-12+0xefffffff"
/*
 * The words for the new kernel's command line: one memmap= with all ranges. With give_back they
 * are made soft-reserved memory, which the dax drivers can add to the system later on.
 */
char *pmem_memmap_format(const struct manifest_range *ranges, size_t n, bool give_back);

#endif
