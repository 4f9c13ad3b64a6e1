#include "util/map.h"

static size_t map_home(uint64_t key, size_t room)
{
	/* splitmix64's finaliser: inode numbers and ids are sequential */
	key ^= key >> 30;
	key *= 0xbf58476d1ce4e5b9ull;
	key ^= key >> 27;
	key *= 0x94d049bb133111ebull;
	key ^= key >> 31;
	return key & (room - 1);
}

static struct map_slot *map_find(struct map_slot *slots, size_t room, uint64_t key)
{
	size_t i = map_home(key, room);

	while (slots[i].val && slots[i].key != key)
		i = (i + 1) & (room - 1);
	return &slots[i];
}

void map_done(struct map *m)
{
	free(m->slots);
	*m = (struct map){ 0 };
}

void *map_get(const struct map *m, uint64_t key)
{
	return m->room ? map_find(m->slots, m->room, key)->val : NULL;
}

static int map_grow(struct map *m)
{
	size_t room = m->room ? m->room * 2 : 16;
	struct map_slot *slots = calloc(room, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->room; i++)
		if (m->slots[i].val)
			*map_find(slots, room, m->slots[i].key) = m->slots[i];
	free(m->slots);
	m->slots = slots;
	m->room = room;
	return 0;
}

int map_put(struct map *m, uint64_t key, void *val)
{
	struct map_slot *s;

	if (m->n * 4 >= m->room * 3) {
		int r = map_grow(m);

		if (r < 0)
			return r;
	}
	s = map_find(m->slots, m->room, key);
	if (!s->val)
		m->n++;
	*s = (struct map_slot){ key, val };
	return 0;
}

uint64_t hash_bytes(uint64_t h, const void *p, size_t n)
{
	const uint8_t *s = p;

	while (n--)
		h = (h ^ *s++) * 0x100000001b3ull;
	return h;
}
