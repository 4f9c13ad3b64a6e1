/*
 * Images in physical memory that the next kernel leaves alone: huge pages of this kernel,
 * which the next one's command line calls persistent memory (memmap=SIZE!ADDR). Taken for one
 * jump, nothing reserved beforehand, nothing copied at the jump.
 *
 * The parts of the store, for store_pmem.c and the tests. Layout: pmem_layout.h.
 */
#ifndef CRKEXEC_STORE_PMEM_H
#define CRKEXEC_STORE_PMEM_H

#include "crkexec/hugepages.h"
#include "crkexec/pmem_iomem.h"
#include "crkexec/pmem_layout.h"
#include "crkexec/store.h"
#include "crkexec/upgrade.h"

struct pmem_region {
	size_t unit;
	enum store_room room;
	uint64_t off, bytes;		/* in the store */
	struct image_store *images;	/* being written, by this process */
};

struct pmem_state {
	struct hugepages pages;
	uint8_t *map;			/* all ranges (manifest.ranges), behind one another */
	uint64_t bytes;
	struct pmem_region *regions;
	size_t n_regions;
	uint64_t salt;
	uint64_t block_bytes;		/* unit in which memory is given back; 0: not at all */
	bool give_back;
	bool pre_dump;			/* there is memory for it */
	size_t max_ranges;		/* that fit on the command line */
};

/* Unit of memory that can be given back; 0: not known. */
uint64_t pmem_block_bytes(void);
/* After the upgrade: waits until memory is back. What is not although it should be. */
uint64_t pmem_wait_returned(const struct manifest *m, unsigned int timeout_msec);

/*
 * store_pmem_plan.c. Fills in block_bytes and max_ranges; changes nothing. swapped: struct store_need's,
 * of all.
 */
int pmem_plan(struct store *s, struct pmem_state *p, uint64_t need, uint64_t swapped, char **ret_why)
	_must_check_;
/* Memory that must stay free: for the loader, and for everybody else meanwhile. */
uint64_t pmem_reserve_bytes(uint64_t available);
/* Ranges that a command line's memmap= words keep from the kernel already. */
size_t pmem_count_memmap(const char *cmdline);

/*
 * store_pmem_take.c: huge pages in good places, in p->pages, and the ranges. need: bytes.
 * Logs, with numbers.
 */
int pmem_take(struct pmem_state *p, uint64_t need, const struct manifest_range *avoid,
	      size_t n_avoid, struct undo_log *undo, struct manifest_range **ret, size_t *ret_n)
	_must_check_;

/* store_pmem_loader.c: where kexec_file_load(2) puts what it loads. */
/*
 * Before loading: the ranges that it is going to use for so many bytes: it fills System RAM
 * from the top, older kernels (before 6.8) each range of it. *ret is heap.
 */
int pmem_avoid_loader(const struct iomem *m, uint64_t bytes, struct manifest_range **ret,
		      size_t *ret_n) _must_check_;
/* What a load of this kernel image and an initramfs of this size takes. */
uint64_t pmem_loader_bytes(const char *image, uint64_t initramfs_bytes);
/*
 * After loading: what it says in the kernel's log (KEXEC_FILE_DEBUG, Linux 6.8). begin:
 * /dev/kmsg as opened before the load, by pmem_kmsg_open(). No segments: an older kernel.
 */
int pmem_kmsg_open(void);
int pmem_kmsg_segments(int kmsg, struct manifest_range **ret, size_t *ret_n) _must_check_;
/* "segment[1]: buf=... bufsz=... mem=0x... memsz=0x...": 1; another line: 0. Pure. */
int pmem_parse_segment(const char *line, struct manifest_range *ret);
/* Refuses an overlap, naming both: -EADDRINUSE. */
int pmem_check_segments(const struct manifest_range *ranges, size_t n,
			const struct manifest_range *segments, size_t n_segments) _must_check_;

#endif
