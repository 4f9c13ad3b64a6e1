/*
 * Reading images: a file is one span of memory; the magics are checked when it is opened,
 * every length against the end of the file. Nothing read is trusted.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "image/store.h"
#include "util/io.h"
#include "util/log.h"

static uint32_t word_at(const struct image_reader *r, size_t pos)
{
	uint32_t v;

	memcpy(&v, r->data + pos, sizeof(v));
	return v;
}

/*
 * One magic or two: images of CRIU's version 1.0 lack the first one. The type's own magic is
 * never equal to a first one, so the file itself tells.
 */
static int check_magic(struct image_reader *r)
{
	const struct image_type *t = r->type;
	uint32_t first = t->framing == IMAGE_SERVICE ? IMAGE_MAGIC_SERVICE : IMAGE_MAGIC_COMMON;

	if (t->framing == IMAGE_RAW)
		return 0;
	if (t->framing != IMAGE_SINGLE_MAGIC && r->bytes >= 4 && word_at(r, 0) == first)
		r->pos = 4;
	if (r->bytes - r->pos < 4)
		return log_fail(-EBADMSG, "image %s: truncated after %zu bytes", r->name, r->bytes);
	if (word_at(r, r->pos) != t->magic)
		return log_fail(-EBADMSG, "image %s: not of type %s (magic 0x%08x at offset %zu "
				"instead of 0x%08x)", r->name, t->name, word_at(r, r->pos), r->pos,
				t->magic);
	r->pos += 4;
	return 0;
}

static void reader_init(struct image_reader *r, const struct image_type *t, const char *name)
{
	/* An empty span must still be a pointer. */
	*r = (struct image_reader){ .type = t, .data = (const uint8_t *)"" };
	snprintf(r->name, sizeof(r->name), "%s", name);
}

int image_open_memory(const struct image_type *t, const char *name, const void *data,
		      size_t bytes, struct image_reader *r)
{
	reader_init(r, t, name);
	if (bytes) {
		r->data = data;
		r->bytes = bytes;
	}
	return check_magic(r);
}

static int open_named(struct image_store *s, const struct image_type *t, struct image_reader *r,
		      uint64_t number)
{
	char name[IMAGE_NAME_MAX];
	int k;

	image_name(s, t, number, name);
	reader_init(r, t, name);
	if (s->of)
		s = s->of;
	k = s->ops->open(s, name, r);
	if (k == -ENOENT)
		return k;
	if (k < 0)
		return log_err(k, "cannot read image %s", name);
	k = check_magic(r);
	if (k < 0)
		image_reader_done(r);
	return k;
}

int image_open_(struct image_store *s, const struct image_type *t, struct image_reader *r,
		uint64_t number)
{
	return open_named(s, t, r, number);
}

int image_open_optional_(struct image_store *s, const struct image_type *t,
			 struct image_reader *r, uint64_t number)
{
	int k = open_named(s, t, r, number);

	return k == -ENOENT ? 0 : k;
}

void image_reader_done(struct image_reader *r)
{
	if (r->map)
		munmap(r->map, r->bytes);
	if (r->fd > 0)
		close(r->fd);
	free(r->heap);
	r->map = r->heap = NULL;
	r->fd = 0;
	r->data = (const uint8_t *)"";
	r->bytes = r->pos = 0;
}

int image_bytes(const struct image_reader *r, const uint8_t *p, size_t n, void **room,
		const uint8_t **ret)
{
	*ret = p;
	if (r->fd <= 0)
		return 0;
	if (!*room && !(*room = malloc(FILL_PIECE_BYTES)))
		return -ENOMEM;
	*ret = *room;
	return pread_full(r->fd, *room, n, p - r->data);
}

int image_get_(struct image_reader *r, struct arena *a, const ProtobufCMessageDescriptor *d,
	       ProtobufCMessage **ret)
{
	size_t at = r->pos, left = r->bytes - r->pos;
	const uint8_t *p;
	uint32_t size;

	if (!left)
		return 0;
	if (left < sizeof(size))
		return log_fail(-EBADMSG, "image %s: truncated in the entry at offset %zu", r->name,
				at);
	size = word_at(r, at);
	if (size > left - sizeof(size))
		return log_fail(-EBADMSG, "image %s: the entry at offset %zu (%u bytes) goes "
				"beyond the end of the file (%zu bytes)", r->name, at, size, r->bytes);
	if (size > IMAGE_ENTRY_MAX)
		return log_fail(-EBADMSG, "image %s: the entry at offset %zu is absurdly large (%u "
				"bytes)", r->name, at, size);
	p = r->data + at + sizeof(size);
	if (image_check_nesting(d, p, size) < 0)
		return log_fail(-EBADMSG, "image %s: the entry at offset %zu nests too deeply",
				r->name, at);
	*ret = protobuf_c_message_unpack(d, &a->pb, size, p);
	if (!*ret)
		return log_fail(-EBADMSG, "image %s: the entry at offset %zu is not a valid %s",
				r->name, at, d->name);
	r->pos = at + sizeof(size) + size;
	return 1;
}

int image_read_one_(struct image_store *s, struct arena *a, const struct image_type *t,
		    const ProtobufCMessageDescriptor *d, ProtobufCMessage **ret, uint64_t number)
{
	_cleanup_image_reader_ struct image_reader rd;
	int r;

	r = open_named(s, t, &rd, number);
	if (r == -ENOENT)
		return log_fail(r, "image %s is missing", rd.name);
	if (r < 0)
		return r;
	r = image_get_(&rd, a, d, ret);
	if (!r)
		return log_fail(-ENOENT, "image %s has no entry", rd.name);
	return r < 0 ? r : 0;
}

int image_get_raw(struct image_reader *r, size_t bytes, const void **ret)
{
	if (bytes > r->bytes - r->pos)
		return log_fail(-EBADMSG, "image %s: %zu bytes of payload at offset %zu go beyond "
				"the end of the file (%zu bytes)", r->name, bytes, r->pos,
				r->bytes);
	*ret = r->data + r->pos;
	r->pos += bytes;
	return 0;
}
