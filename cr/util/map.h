/* Hash table from a 64-bit key to a pointer; open addressing, no removal. */
#ifndef CR_UTIL_MAP_H
#define CR_UTIL_MAP_H

#include "util/macro.h"

struct map_slot {
	uint64_t key;
	void *val;
};

struct map {
	struct map_slot *slots;
	size_t n, room;
};

void map_done(struct map *m);
void *map_get(const struct map *m, uint64_t key);
/* Replaces an existing value. val must not be NULL. -ENOMEM. */
int map_put(struct map *m, uint64_t key, void *val) _must_check_;

/* FNV-1a: a key for bytes. h: HASH_BEGIN, or of the bytes before. Others may have the same. */
#define HASH_BEGIN 0xcbf29ce484222325ull
uint64_t hash_bytes(uint64_t h, const void *p, size_t n);

#endif
