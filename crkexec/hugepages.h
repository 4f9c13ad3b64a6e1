/*
 * Huge pages (2 MiB) whose physical place is known: taken from the kernel's pool, which is
 * raised for that, held by a memory file, looked up in /proc/self/pagemap.
 *
 * The kernel moves such pages only on request (memory offlining, contiguous allocations):
 * hugepages_check() finds out before it matters.
 *
 * The trap: the pool is one for all. What is taken may be pages that were free before; so the
 * pool is always set to what it was plus what we hold, never to what we hold.
 */
#ifndef CRKEXEC_HUGEPAGES_H
#define CRKEXEC_HUGEPAGES_H

#include "crkexec/manifest.h"
#include "crkexec/undo.h"

#define HUGEPAGE_BYTES	(2ul << 20)

struct hugepages {
	int fd;				/* memory file; -EBADF */
	uint64_t pool;			/* pages of the pool before us */
	uint64_t *frames;		/* physical address of each page of the file; 0: given back */
	size_t n;
	size_t held;			/* those not given back */
};
#define HUGEPAGES_INIT	{ .fd = -EBADF }

/* The kernel has huge pages of this size at all. */
bool hugepages_exist(void);
/* Takes nothing yet; writes down how to undo. Logs. */
int hugepages_open(struct hugepages *h, struct undo_log *undo) _must_check_;
/*
 * Takes up to pages more; *ret_got may be less, down to 0, when the kernel finds no more
 * contiguous memory. Logs errors.
 */
int hugepages_grow(struct hugepages *h, size_t pages, size_t *ret_got) _must_check_;
/* Gives back all that lies outside of the ranges. */
int hugepages_keep(struct hugepages *h, const struct manifest_range *ranges, size_t n)
	_must_check_;
/*
 * Maps the ranges, which must be held entirely, behind one another. *ret belongs to the
 * caller: munmap(*ret, sum of the ranges).
 */
int hugepages_map(const struct hugepages *h, const struct manifest_range *ranges, size_t n,
		  void **ret) _must_check_;
/* Is every page of such a mapping where the ranges say? -ESTALE, logged with the address. */
int hugepages_check(const void *map, const struct manifest_range *ranges, size_t n)
	_must_check_;
/* Closes the memory file; the pool is the undo log's business. */
void hugepages_close(struct hugepages *h);
/* Undo: sets the pool to what it was, "12". */
int hugepages_undo(const char *arg);

/* hugepages_choose.c: which pages make the best ranges. */
struct choose_spec {
	uint64_t bytes;			/* wanted, at least */
	uint64_t block_bytes;		/* ranges of whole blocks can be given back; 0: no matter */
	bool only_blocks;		/* -ENOMEM rather than ranges that cannot */
	uint64_t low;			/* nothing below this address */
	const struct manifest_range *avoid;
	size_t n_avoid;
	size_t max_ranges;
};

/*
 * Few and long ranges, in order of address, adjacent ones merged. frames: physical addresses
 * in any order, 0 is skipped. -ENOMEM: together they are too small, -E2BIG: too many ranges
 * would be needed; *ret_bytes is then what max_ranges ranges hold.
 */
int hugepages_choose(const uint64_t *frames, size_t n, const struct choose_spec *spec,
		     struct manifest_range **ret, size_t *ret_n, uint64_t *ret_bytes)
	_must_check_;

#endif
