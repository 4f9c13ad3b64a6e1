/*
 * A message of any kind with something in every field, made from its descriptor: for tests
 * that should reach all messages without naming their fields.
 */
#ifndef TESTS_FUZZ_SAMPLE_MESSAGE_H
#define TESTS_FUZZ_SAMPLE_MESSAGE_H

#include <string.h>

#include "util/arena.h"

#define SAMPLE_DEPTH 6

static inline ProtobufCMessage *sample_message(struct arena *a,
					       const ProtobufCMessageDescriptor *d, int depth);

static inline size_t sample_value(struct arena *a, const ProtobufCFieldDescriptor *f,
				  uint32_t n, int depth, void *to)
{
	const ProtobufCEnumDescriptor *e = f->descriptor;

	switch (f->type) {
	case PROTOBUF_C_TYPE_ENUM:
		*(int *)to = e->values[n % e->n_values].value;
		return sizeof(int);
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)to = 1;
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
		*(char **)to = arena_printf(a, "text-%u", n);
		return sizeof(char *);
	case PROTOBUF_C_TYPE_BYTES:
		*(ProtobufCBinaryData *)to = (ProtobufCBinaryData){
			.len = 5, .data = arena_memdup(a, "\0ab\xff\x01", 5),
		};
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_MESSAGE:
		*(ProtobufCMessage **)to = sample_message(a, f->descriptor, depth + 1);
		return sizeof(void *);
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
		*(int32_t *)to = -(int32_t)n;
		return 4;
	case PROTOBUF_C_TYPE_UINT32:
		/* Small: lengths of payload are among these. */
		*(uint32_t *)to = n;
		return 4;
	default:
		*(uint64_t *)to = 0x1000ull * n;
		return 8;
	}
}

static inline ProtobufCMessage *sample_message(struct arena *a,
					       const ProtobufCMessageDescriptor *d, int depth)
{
	ProtobufCMessage *m = arena_alloc(a, d->sizeof_message);

	if (!m)
		abort();
	protobuf_c_message_init(d, m);
	for (unsigned int i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		uint8_t *at = (uint8_t *)m + f->offset, *many;
		size_t size = 0;

		if (f->type == PROTOBUF_C_TYPE_MESSAGE && depth >= SAMPLE_DEPTH)
			continue;
		if (f->label != PROTOBUF_C_LABEL_REPEATED) {
			sample_value(a, f, f->id, depth, at);
			if (f->label == PROTOBUF_C_LABEL_OPTIONAL &&
			    f->type != PROTOBUF_C_TYPE_MESSAGE && f->type != PROTOBUF_C_TYPE_STRING)
				*(protobuf_c_boolean *)((uint8_t *)m + f->quantifier_offset) = 1;
			continue;
		}
		many = arena_alloc(a, 2 * sizeof(ProtobufCBinaryData));
		if (!many)
			abort();
		for (uint32_t k = 0; k < 2; k++)
			size = sample_value(a, f, f->id + k, depth, many + k * size);
		*(void **)at = many;
		*(size_t *)((uint8_t *)m + f->quantifier_offset) = 2;
	}
	return m;
}

#endif
