/*
 * Memory that lives as long as one dump or restore: allocated piecewise, freed at once.
 * Protobuf messages are built and unpacked in it, so no kind frees anything.
 */
#ifndef CR_UTIL_ARENA_H
#define CR_UTIL_ARENA_H

#include <protobuf-c/protobuf-c.h>

#include "util/macro.h"

struct arena_block;

struct arena {
	struct arena_block *head;
	ProtobufCAllocator pb;	/* for *__unpack(); set by arena_init() */
};

void arena_init(struct arena *a);
void arena_done(struct arena *a);

/* Zeroed, 16-byte aligned; NULL when out of memory. */
void *arena_alloc(struct arena *a, size_t n) _must_check_;
char *arena_strdup(struct arena *a, const char *s) _must_check_;
char *arena_strndup(struct arena *a, const char *s, size_t n) _must_check_;
void *arena_memdup(struct arena *a, const void *p, size_t n) _must_check_;
char *arena_printf(struct arena *a, const char *fmt, ...) _printf_(2, 3) _must_check_;

#define ARENA_NEW(a, type)	((type *)arena_alloc(a, sizeof(type)))
/* A protobuf message with its defaults: ARENA_MSG(a, EventfdFileEntry, eventfd_file_entry). */
#define ARENA_MSG(a, type, snake)				\
	({ type *_m = ARENA_NEW(a, type); if (_m) snake##__init(_m); _m; })

/*
 * Appends to an array in the arena: doubles its room, copies, returns the new element's
 * address or NULL. ptr and count are lvalues; the capacity is derived from count.
 */
#define ARENA_PUSH(a, ptr, count)							\
	({										\
		void *_p = arena_grow(a, (ptr), (count), sizeof(*(ptr)));		\
		if (_p)									\
			(ptr) = _p;							\
		_p ? &(ptr)[(count)++] : NULL;						\
	})
void *arena_grow(struct arena *a, void *ptr, size_t count, size_t size) _must_check_;

#endif
