/*
 * The images that the old kernel left in memory, read through /dev/mem: the kernel gives no
 * other access as long as no driver has the memory. Layout: crkexec/pmem_layout.h.
 */
#ifndef INITRAMFS_EARLY_STORE_PMEM_H
#define INITRAMFS_EARLY_STORE_PMEM_H

#include "crkexec/pmem_iomem.h"
#include "crkexec/pmem_layout.h"

struct early_pmem {
	int mem_fd;
	struct pmem_header header;	/* a checked copy */
	char *manifest;			/* text, heap */
};

/*
 * spec: what follows "store=" on the command line. id: the upgrade's. Checks that the ranges
 * were left alone by this kernel, takes them from a driver that has them (nd_pmem), checks
 * header and manifest. Logs.
 */
int early_pmem_open(const char *spec, const char *id, struct early_pmem **ret) _must_check_;
/* Maps bytes of the store from off on (a multiple of the page size), read-only. */
int early_pmem_map(const struct early_pmem *p, uint64_t off, uint64_t bytes, const void **ret)
	_must_check_;
void early_pmem_unmap(const void *map, uint64_t bytes);
void early_pmem_close(struct early_pmem *p);
/* Makes the header invalid, so that no later boot takes these images for its own. */
int early_pmem_consume(struct early_pmem *p) _must_check_;

/*
 * Pure: may the range be read? 0, or -EBADMSG, -EBUSY (a driver has it: *ret_claim is its entry),
 * logged.
 */
int early_pmem_check_range(const struct iomem *m, const struct manifest_range *range,
			   const struct iomem_entry **ret_claim) _must_check_;

#endif
