/* What both sides of the store's test agree on: see store_probe.c. */
#ifndef TESTS_VM_STORE_PROBE_H
#define TESTS_VM_STORE_PROBE_H

#include <stdint.h>
#include <string.h>

#define PROBE_ID	"00c0ffee00c0ffee"
#define PROBE_CHUNK	(1u << 20)

/* The bytes of one MiB: different for every tree and every MiB. */
static inline void probe_pattern(uint8_t *to, uint64_t tree, uint64_t mib)
{
	uint64_t x = 88172645463325252ull ^ (tree << 56) ^ (mib << 8);

	for (size_t i = 0; i < PROBE_CHUNK; i += sizeof(x)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(to + i, &x, sizeof(x));
	}
}

#endif
