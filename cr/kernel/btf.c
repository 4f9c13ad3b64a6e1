#include <linux/btf.h>
#include <stdbool.h>
#include <string.h>

#include "kernel/btf.h"

#define NESTING_MAX 16	/* of anonymous structures */

/* linux/btf.h of the build machine may be older. */
enum { KIND_DECL_TAG = 17, KIND_TYPE_TAG = 18, KIND_ENUM64 = 19 };

static size_t type_bytes(const struct btf_type *t)
{
	size_t n = BTF_INFO_VLEN(t->info);

	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_INT:
	case BTF_KIND_VAR:
	case KIND_DECL_TAG:
		return sizeof(*t) + 4;
	case BTF_KIND_ARRAY:
		return sizeof(*t) + sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return sizeof(*t) + n * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
	case BTF_KIND_FUNC_PROTO:
		return sizeof(*t) + n * 8;
	case BTF_KIND_DATASEC:
	case KIND_ENUM64:
		return sizeof(*t) + n * 12;
	}
	return sizeof(*t);
}

static int types_index(struct btf *b, size_t bytes)
{
	size_t room = 0;

	b->n_types = 1;
	for (size_t at = 0; at < bytes; b->n_types++) {
		const struct btf_type *t = (const void *)(b->types + at);

		if (bytes - at < sizeof(*t) || type_bytes(t) > bytes - at ||
		    t->name_off >= b->strings_bytes || BTF_INFO_KIND(t->info) > KIND_ENUM64)
			return -EBADMSG;
		if (b->n_types >= room) {
			uint32_t *more = reallocarray(b->at, room = room * 2 + 64, sizeof(*more));

			if (!more)
				return -ENOMEM;
			b->at = more;
		}
		b->at[b->n_types] = (uint32_t)at;
		at += type_bytes(t);
	}
	return 0;
}

int btf_parse(const void *data, size_t bytes, struct btf *ret)
{
	const struct btf_header *h = data;
	size_t left;
	int r;

	*ret = (struct btf){ 0 };
	if (bytes < sizeof(*h) || h->magic != BTF_MAGIC || h->hdr_len < sizeof(*h) ||
	    h->hdr_len > bytes)
		return -EBADMSG;
	left = bytes - h->hdr_len;
	if (h->type_off > left || h->type_len > left - h->type_off || h->str_off > left ||
	    !h->str_len || h->str_len > left - h->str_off || (h->hdr_len | h->type_off) & 3)
		return -EBADMSG;
	ret->types = (const uint8_t *)data + h->hdr_len + h->type_off;
	ret->strings = (const char *)data + h->hdr_len + h->str_off;
	ret->strings_bytes = h->str_len;
	if (ret->strings[h->str_len - 1])
		return -EBADMSG;
	r = types_index(ret, h->type_len);
	if (r < 0)
		btf_done(ret);
	return r;
}

void btf_done(struct btf *b)
{
	free(b->at);
	*b = (struct btf){ 0 };
}

static const struct btf_type *type_at(const struct btf *b, uint32_t id)
{
	return id && id < b->n_types ? (const void *)(b->types + b->at[id]) : NULL;
}

int btf_find(const struct btf *b, unsigned int kind, const char *name)
{
	for (uint32_t id = 1; id < b->n_types; id++) {
		const struct btf_type *t = type_at(b, id);

		if (BTF_INFO_KIND(t->info) == kind && !strcmp(b->strings + t->name_off, name))
			return (int)id;
	}
	return -ENOENT;
}

/* Of "one.of.it" the first part: is it this name? */
static bool is_first(const char *path, size_t bytes, const char *name)
{
	return !strncmp(path, name, bytes) && !name[bytes];
}

static int member_in(const struct btf *b, uint32_t id, const char *path, unsigned int depth)
{
	const struct btf_type *t = type_at(b, id);
	size_t bytes = strcspn(path, ".");
	const struct btf_member *m;
	unsigned int kind = t ? BTF_INFO_KIND(t->info) : BTF_KIND_UNKN;

	if ((kind != BTF_KIND_STRUCT && kind != BTF_KIND_UNION) || depth > NESTING_MAX)
		return -ENOENT;
	m = (const void *)(t + 1);
	for (unsigned int i = 0; i < BTF_INFO_VLEN(t->info); i++, m++) {
		uint32_t bits = BTF_INFO_KFLAG(t->info) ? BTF_MEMBER_BIT_OFFSET(m->offset) :
							  m->offset;
		const char *rest = path;
		int r;

		if (m->name_off >= b->strings_bytes)
			return -EBADMSG;
		if (is_first(path, bytes, b->strings + m->name_off)) {
			if (!path[bytes])
				return bits % 8 ? -ENOENT : (int)(bits / 8);
			rest = path + bytes + 1;
		} else if (b->strings[m->name_off]) {
			continue;
		}
		r = member_in(b, m->type, rest, depth + 1);
		if (r != -ENOENT)
			return r < 0 ? r : r + (int)(bits / 8);
	}
	return -ENOENT;
}

int btf_member(const struct btf *b, const char *structure, const char *member)
{
	int id = btf_find(b, BTF_KIND_STRUCT, structure);

	return id < 0 ? id : member_in(b, (uint32_t)id, member, 0);
}
