/* Mutations of messages, the same for the same seed everywhere. */
#ifndef TESTS_FUZZ_MUTATE_H
#define TESTS_FUZZ_MUTATE_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "image/image.h"
#include "util/macro.h"

static uint64_t rng;

/* xorshift64*: the same sequence everywhere. */
static uint32_t rnd(uint32_t below)
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return (uint32_t)((rng * 0x2545f4914f6cdd1dull) >> 33) % below;
}

#define MUST(cond)									\
	do {										\
		if (!(cond)) {								\
			fprintf(stderr, "%d: %s: %s\n", __LINE__, #cond, strerror(errno));	\
			_exit(2);							\
		}									\
	} while (0)

/* A number near one of the edges, or a small one. */
static uint64_t odd(void)
{
	static const uint64_t v[] = { 0, 1, 2, 3, 7, 64, 65, 255, 4095, 4096, 4097, 65535, 65536,
		INT32_MAX, 1u << 31, UINT32_MAX, INT64_MAX, 1ull << 63, UINT64_MAX };

	return rnd(3) ? rnd(20) : v[rnd(ARRAY_SIZE(v))] + rnd(3) - 1;
}

static const char *odd_name(void)
{
	static const char *const v[] = { "", "/", "/dir", "/dir/file", "/dir/gone/deep/file", "..",
		"/dir/../dir/file", "/proc/self/mem", "/dir/fifo", "/dev/zero", "x", "/proc/1/fd/0",
		"/anon_hugepage", "/dir/link", "//", "/dir/", "/dev/pts/ptmx", "/dev/pts/0", "lo" };

	return v[rnd(ARRAY_SIZE(v))];
}

static void mutate_message(ProtobufCMessage *m);

static void mutate_value(const ProtobufCFieldDescriptor *f, void *p)
{
	ProtobufCBinaryData *bytes = p;

	switch (f->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		if (*(ProtobufCMessage **)p && (rnd(8) || f->label != PROTOBUF_C_LABEL_OPTIONAL))
			mutate_message(*(ProtobufCMessage **)p);
		else
			*(ProtobufCMessage **)p = NULL;
		break;
	case PROTOBUF_C_TYPE_STRING:
		*(const char **)p = rnd(4) || f->label != PROTOBUF_C_LABEL_OPTIONAL ? odd_name() : NULL;
		break;
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)p = rnd(2);
		break;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_SFIXED64:
		*(uint64_t *)p = odd();
		break;
	case PROTOBUF_C_TYPE_BYTES:
		bytes->len = rnd((uint32_t)bytes->len + 1);
		break;
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_DOUBLE:
		break;
	default:
		*(uint32_t *)p = (uint32_t)odd();
		break;
	}
}

static size_t value_size(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
	case PROTOBUF_C_TYPE_STRING:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	default:
		return 4;
	}
}

/* One of the values, or there are fewer of them. */
static void mutate_repeated(const ProtobufCFieldDescriptor *f, void *p, size_t *n)
{
	if (!*n)
		return;
	if (rnd(4))
		mutate_value(f, *(char **)p + rnd((uint32_t)*n) * value_size(f));
	else
		*n = rnd((uint32_t)*n);
}

/* One that is there: few of the many sorts of sub-messages are. */
static const ProtobufCFieldDescriptor *pick_field(const ProtobufCMessage *m)
{
	const ProtobufCFieldDescriptor *f = NULL;

	for (int tries = 0; tries < 32; tries++) {
		f = &m->descriptor->fields[rnd(m->descriptor->n_fields)];
		/* Damaged ids, and what sort of message it is, are noticed first and hide the rest. */
		if ((!strcmp(f->name, "id") || f->type == PROTOBUF_C_TYPE_ENUM) && rnd(10))
			continue;
		if (f->type != PROTOBUF_C_TYPE_MESSAGE || *(void *const *)((const char *)m + f->offset))
			return f;
	}
	return NULL;
}

/* One field of a message, anywhere below it. What its arrays and bytes are in must be ours to write to. */
static void mutate_message(ProtobufCMessage *m)
{
	const ProtobufCFieldDescriptor *f = m->descriptor->n_fields ? pick_field(m) : NULL;
	char *base = (char *)m;

	if (!f)
		return;
	if (f->label == PROTOBUF_C_LABEL_REPEATED) {
		mutate_repeated(f, base + f->offset, (size_t *)(base + f->quantifier_offset));
		return;
	}
	if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_MESSAGE &&
	    f->type != PROTOBUF_C_TYPE_STRING)
		*(protobuf_c_boolean *)(base + f->quantifier_offset) = rnd(4) != 0;
	mutate_value(f, base + f->offset);
}

#endif
