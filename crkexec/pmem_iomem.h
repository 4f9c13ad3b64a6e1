/*
 * /proc/iomem: which physical memory the running kernel uses for what. Needs root: others see
 * zeroes.
 */
#ifndef CRKEXEC_PMEM_IOMEM_H
#define CRKEXEC_PMEM_IOMEM_H

#include "crkexec/manifest.h"
#include "util/macro.h"

#define IOMEM_RAM	"System RAM"
#define IOMEM_PMEM	"Persistent Memory (legacy)"	/* memmap=SIZE!ADDR */
#define IOMEM_SOFT	"Soft Reserved"
#define IOMEM_KMEM	"System RAM (kmem)"		/* given back */

struct iomem_entry {
	uint64_t addr, bytes;
	unsigned int depth;
	char name[64];			/* cut if longer */
};

struct iomem {
	struct iomem_entry *v;
	size_t n;
};

/* -EBADMSG for text that is not such a table, -EACCES when all addresses are zero. */
int iomem_parse(const char *text, struct iomem *ret) _must_check_;
int iomem_read(struct iomem *ret) _must_check_;
void iomem_done(struct iomem *m);

/* How many bytes of the range belong to entries of this name, at any depth. */
uint64_t iomem_overlap(const struct iomem *m, const struct manifest_range *range,
		       const char *name);
/* The outermost entry that the range's first byte lies in; NULL: none. */
const struct iomem_entry *iomem_find(const struct iomem *m, uint64_t addr);
/*
 * The first entry below the outermost one that touches the range: its driver; NULL: none. Soft-reserved memory is
 * an entry itself, below "hmem.0" before Linux 6.3.
 */
const struct iomem_entry *iomem_claim(const struct iomem *m, const struct manifest_range *range);

#endif
