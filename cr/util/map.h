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

#endif
