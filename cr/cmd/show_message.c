/*
 * Any protobuf message as a JSON tree: one walk over protobuf-c's descriptors, guided by the
 * display hints. Messages come from files that nobody vouches for, so text is escaped.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "cmd/show.h"

/* Length of the UTF-8 sequence at s, 0 when it is not one that belongs on a terminal. */
static size_t utf8_len(const uint8_t *s, size_t left)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = *s < 0x80 ? 1 : (*s & 0xe0) == 0xc0 ? 2 : (*s & 0xf0) == 0xe0 ? 3 :
		   (*s & 0xf8) == 0xf0 ? 4 : 0;
	uint32_t c;

	if (!n || n > left)
		return 0;
	c = n == 1 ? *s : *s & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	/* Over-long forms, surrogates, control characters (C0, DEL, C1). */
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	return c < 0x20 || (c >= 0x7f && c < 0xa0) ? 0 : n;
}

struct json_object *show_string(const char *s, size_t bytes)
{
	const uint8_t *p = (const uint8_t *)s, *end = p + bytes;
	char *text = malloc(bytes * 4 + 1), *to = text;
	struct json_object *o;

	if (!text)
		return NULL;
	while (p < end) {
		size_t n = utf8_len(p, (size_t)(end - p));

		if (n) {
			memcpy(to, p, n);
			to += n;
			p += n;
		} else {
			to += sprintf(to, "\\x%02x", *p++);
		}
	}
	o = json_object_new_string_len(text, (int)(to - text));
	free(text);
	return o;
}

static char *base64(const uint8_t *p, size_t bytes)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc((bytes + 2) / 3 * 4 + 1), *to = text;

	if (!text)
		return NULL;
	for (size_t i = 0; i < bytes; i += 3) {
		size_t left = bytes - i;
		uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
			     (left > 2 ? p[i + 2] : 0);

		*to++ = digits[v >> 18];
		*to++ = digits[v >> 12 & 63];
		*to++ = left > 1 ? digits[v >> 6 & 63] : '=';
		*to++ = left > 2 ? digits[v & 63] : '=';
	}
	*to = '\0';
	return text;
}

static bool mostly_text(const uint8_t *p, size_t bytes)
{
	size_t odd = 0;

	for (size_t i = 0; i < bytes; i++)
		odd += (p[i] < 0x20 && p[i] != '\n' && p[i] != '\t' && p[i] != '\r') ||
		       p[i] >= 0x7f;
	return odd * 8 <= bytes;
}

struct json_object *show_bytes(const struct show_style *style, const void *p, size_t bytes,
			       size_t limit)
{
	size_t n = MIN(bytes, limit);
	_cleanup_free_ char *text = NULL;

	if (style->json) {
		text = base64(p, n);
		return text ? json_object_new_string(text) : NULL;
	}
	if (mostly_text(p, n))
		return show_string(p, n);
	text = malloc(n * 3 + 1);
	if (!text)
		return NULL;
	*text = '\0';
	for (size_t i = 0; i < n; i++)
		sprintf(text + i * 3, "%02x ", ((const uint8_t *)p)[i]);
	if (n)
		text[n * 3 - 1] = '\0';
	return json_object_new_string(text);
}

static struct json_object *show_flags(const struct hint *h, uint64_t v)
{
	char text[512];
	size_t at = 0;

	for (const struct hint_value *f = h->values; f->name; f++) {
		if (!(v & f->value))
			continue;
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", at ? " | " : "",
				       f->name);
		v &= ~f->value;
	}
	if (v || !at)
		snprintf(text + at, sizeof(text) - at, "%s0x%" PRIx64, at ? " | " : "", v);
	return json_object_new_string(text);
}

static struct json_object *show_number(const struct hint *h, uint64_t v)
{
	char text[64];

	switch (h ? h->kind : HINT_NONE) {
	case HINT_HEX:
		snprintf(text, sizeof(text), "0x%" PRIx64, v);
		return json_object_new_string(text);
	case HINT_DEV:		/* the kernel's own encoding */
		snprintf(text, sizeof(text), "%" PRIu64 ":%" PRIu64, v >> 20, v & 0xfffff);
		return json_object_new_string(text);
	case HINT_ODEV:
		snprintf(text, sizeof(text), "%u:%u", major(v), minor(v));
		return json_object_new_string(text);
	case HINT_FLAGS:
		return show_flags(h, v);
	case HINT_DICT:
		for (const struct hint_value *d = h->values; d->name; d++)
			if (d->value == v)
				return json_object_new_string(d->name);
		return json_object_new_uint64(v);
	default:
		return json_object_new_uint64(v);
	}
}

static struct json_object *show_enum(const ProtobufCEnumDescriptor *d, int v)
{
	const ProtobufCEnumValue *e = protobuf_c_enum_descriptor_get_value(d, v);

	return e ? json_object_new_string(e->name) : json_object_new_int(v);
}

/* An abstract name begins with NUL: "@", as ss(8) and /proc/net/unix write it. */
static struct json_object *show_unix_name(const ProtobufCBinaryData *b)
{
	_cleanup_free_ char *text = malloc(b->len + 1);

	if (!text)
		return NULL;
	if (b->len)
		memcpy(text, b->data, b->len);
	if (b->len && !text[0])
		text[0] = '@';
	return show_string(text, b->len);
}

static struct json_object *show_value(const struct show_style *style,
				      const ProtobufCFieldDescriptor *f, const struct hint *h,
				      const void *p)
{
	const ProtobufCBinaryData *b = p;
	const char *s;

	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		return json_object_new_int(*(const int32_t *)p);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return json_object_new_int64(*(const int64_t *)p);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return show_number(h, *(const uint32_t *)p);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return show_number(h, *(const uint64_t *)p);
	case PROTOBUF_C_TYPE_FLOAT:
		return json_object_new_double(*(const float *)p);
	case PROTOBUF_C_TYPE_DOUBLE:
		return json_object_new_double(*(const double *)p);
	case PROTOBUF_C_TYPE_BOOL:
		return json_object_new_boolean(*(const protobuf_c_boolean *)p);
	case PROTOBUF_C_TYPE_ENUM:
		return show_enum(f->descriptor, *(const int *)p);
	case PROTOBUF_C_TYPE_STRING:
		s = *(char *const *)p;
		return s ? show_string(s, strlen(s)) : NULL;
	case PROTOBUF_C_TYPE_BYTES:
		if (h && h->kind == HINT_UNIX_NAME)
			return show_unix_name(b);
		return show_bytes(style, b->data, b->len, SIZE_MAX);
	case PROTOBUF_C_TYPE_MESSAGE:
		return show_message(style, *(ProtobufCMessage *const *)p);
	}
	return NULL;
}

static size_t value_size(ProtobufCType t)
{
	switch (t) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_ENUM:
		return 4;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	}
	return 0;
}

/* One or four words of network order: an address. NULL when they are neither. */
static struct json_object *show_ip(const uint32_t *words, size_t n)
{
	char text[INET6_ADDRSTRLEN];
	int family = n == 1 ? AF_INET : AF_INET6;

	if ((n != 1 && n != 4) || !inet_ntop(family, words, text, sizeof(text)))
		return NULL;
	return json_object_new_string(text);
}

static struct json_object *show_repeated(const struct show_style *style,
					 const ProtobufCFieldDescriptor *f, const struct hint *h,
					 const uint8_t *p, size_t n)
{
	struct json_object *list = json_object_new_array();

	if (!list)
		return NULL;
	if (h && h->kind == HINT_IP && f->type == PROTOBUF_C_TYPE_UINT32) {
		struct json_object *ip = show_ip((const uint32_t *)p, n);

		if (ip) {
			json_object_array_add(list, ip);
			return list;
		}
	}
	for (size_t i = 0; i < n; i++)
		json_object_array_add(list, show_value(style, f, h, p + i * value_size(f->type)));
	return list;
}

static bool is_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	const uint8_t *at = (const uint8_t *)m + f->offset;

	if (f->type == PROTOBUF_C_TYPE_MESSAGE || f->type == PROTOBUF_C_TYPE_STRING)
		return *(void *const *)at;
	if (f->label == PROTOBUF_C_LABEL_REQUIRED)
		return true;
	return *(const protobuf_c_boolean *)((const uint8_t *)m + f->quantifier_offset);
}

struct json_object *show_message(const struct show_style *style, const ProtobufCMessage *m)
{
	struct json_object *o = json_object_new_object();

	for (unsigned int i = 0; o && i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		const struct hint *h = show_hint(m->descriptor->name, f->name);
		const uint8_t *at = (const uint8_t *)m + f->offset;

		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n = *(const size_t *)((const uint8_t *)m + f->quantifier_offset);

			if (n)
				json_object_object_add(o, f->name, show_repeated(style, f, h,
						       *(const uint8_t *const *)at, n));
		} else if (is_set(m, f)) {
			json_object_object_add(o, f->name, show_value(style, f, h, at));
		}
	}
	if (o && m->n_unknown_fields) {
		struct json_object *list = json_object_new_array();

		for (unsigned int i = 0; list && i < m->n_unknown_fields; i++)
			json_object_array_add(list,
					      json_object_new_uint64(m->unknown_fields[i].tag));
		json_object_object_add(o, "unknown_fields", list);
	}
	return o;
}
