/* Limits on hostile messages that protobuf-c does not set itself. */
#include "image/proto.h"
#include "image/store.h"

/* Control groups nest the deepest; the kernel's own limit on paths keeps them below this. */
#define NESTING_MAX 128

struct span {
	const uint8_t *p, *end;
};

/* -ENODATA when the varint does not end: the real parser will say so. */
static int get_varint(struct span *s, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned int shift = 0; shift < 64 && s->p < s->end; shift += 7) {
		uint8_t b = *s->p++;

		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80)) {
			*ret = v;
			return 0;
		}
	}
	return -ENODATA;
}

/* One field: its number, and its contents when it is length-delimited (else NULL). */
static int get_field(struct span *s, uint32_t *ret_id, struct span *ret_body)
{
	uint64_t tag, n;
	int r = get_varint(s, &tag);

	if (r < 0)
		return r;
	*ret_id = (uint32_t)(tag >> 3);
	*ret_body = (struct span){ 0 };
	switch (tag & 7) {
	case 0:
		return get_varint(s, &n);
	case 1:
		n = 8;
		break;
	case 2:
		r = get_varint(s, &n);
		if (r < 0 || n > (uint64_t)(s->end - s->p))
			return -ENODATA;
		*ret_body = (struct span){ s->p, s->p + n };
		break;
	case 5:
		n = 4;
		break;
	default:
		return -ENODATA;
	}
	if (n > (uint64_t)(s->end - s->p))
		return -ENODATA;
	s->p += n;
	return 0;
}

static int check(const ProtobufCMessageDescriptor *d, struct span s, int depth)
{
	if (depth > NESTING_MAX)
		return -ELOOP;
	while (s.p < s.end) {
		const ProtobufCFieldDescriptor *f;
		struct span body;
		uint32_t id;

		/* Malformed: nothing to recurse into; left to the parser to refuse. */
		if (get_field(&s, &id, &body) < 0)
			return 0;
		f = body.p ? protobuf_c_message_descriptor_get_field(d, id) : NULL;
		if (f && f->type == PROTOBUF_C_TYPE_MESSAGE) {
			int r = check(f->descriptor, body, depth + 1);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

int image_check_nesting(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t bytes)
{
	/* The only two images with messages that contain their own kind (a unit test looks). */
	if (d != &cgroup_entry__descriptor && d != &apparmor_entry__descriptor)
		return 0;
	return check(d, (struct span){ data, data + bytes }, 0);
}
