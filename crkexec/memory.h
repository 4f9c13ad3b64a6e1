/* How much memory there is, and how much images will take. */
#ifndef CRKEXEC_MEMORY_H
#define CRKEXEC_MEMORY_H

#include <stdint.h>

#include "crkexec/unit.h"

/* MemAvailable. */
int memory_available(uint64_t *ret_bytes) _must_check_;
/* A "Key:   123 kB" line of a /proc text; -ENOENT. */
int meminfo_value(const char *text, const char *key, uint64_t *ret_bytes) _must_check_;
struct memory_estimate {
	/*
	 * Images of one tree: anonymous and shared memory, swap, and what every process needs, with
	 * some air. Shared memory is saved once, pages shared by copy-on-write with each process.
	 */
	uint64_t bytes;
	uint64_t private_bytes;		/* of it what can be copied while the tree runs */
	uint64_t swapped_bytes;		/* of it what is not in memory now, but will be when it is restored */
};
int memory_estimate_tree(const struct unit_tree *t, struct memory_estimate *ret) _must_check_;

#endif
