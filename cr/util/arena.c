#define _GNU_SOURCE
#include <stdarg.h>
#include <string.h>

#include "util/arena.h"

struct arena_block {
	struct arena_block *next;
	size_t used, room;
	_Alignas(16) char data[];
};

#define ARENA_BLOCK_BYTES (64u << 10)

static void *pb_alloc(void *arg, size_t n)
{
	return arena_alloc(arg, n);
}

static void pb_free(void *arg _unused_, void *p _unused_)
{
}

void arena_init(struct arena *a)
{
	a->head = NULL;
	a->pb = (ProtobufCAllocator){ .alloc = pb_alloc, .free = pb_free, .allocator_data = a };
}

void arena_done(struct arena *a)
{
	while (a->head) {
		struct arena_block *b = a->head;

		a->head = b->next;
		free(b);
	}
}

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->head;
	void *p;

	if (n > SIZE_MAX / 2)
		return NULL;
	n = ROUND_UP(n, 16);
	if (!b || b->room - b->used < n) {
		size_t room = MAX(n, ARENA_BLOCK_BYTES);

		/* calloc: a fresh block of the kernel is zero already. */
		b = calloc(1, sizeof(*b) + room);
		if (!b)
			return NULL;
		b->room = room;
		b->next = a->head;
		a->head = b;
	}
	p = b->data + b->used;
	b->used += n;
	return p;
}

void *arena_memdup(struct arena *a, const void *p, size_t n)
{
	void *q = arena_alloc(a, n);

	if (q && n)
		memcpy(q, p, n);
	return q;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	char *q = arena_alloc(a, n + 1);

	if (q)
		memcpy(q, s, n);
	return q;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *s, *q;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	q = arena_strndup(a, s, (size_t)n);
	free(s);
	return q;
}

void *arena_grow(struct arena *a, void *ptr, size_t count, size_t size)
{
	void *p;

	/* Room is the next power of two of count: grow exactly when count reaches it. */
	if (count & (count - 1) || (!count && ptr))
		return ptr;
	if (count > SIZE_MAX / 4 / size)
		return NULL;
	p = arena_alloc(a, size * (count ? count * 2 : 1));
	if (p && count)
		memcpy(p, ptr, count * size);
	return p;
}
