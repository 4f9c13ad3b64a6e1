/*
 * Writing images: magics before the first write, then framed messages and payload, handed to
 * the carrier. Messages are packed straight into the carrier's memory.
 */
#include <string.h>

#include "image/store.h"
#include "util/log.h"

/* Logged once per file: the callers of a failed file all hand the error up. */
static int writer_fail(struct image_writer *w, int r)
{
	w->error = r;
	return log_err(r, "cannot write image %s", w->name);
}

void image_name(const struct image_store *s, const struct image_type *t, uint64_t number,
		char name[IMAGE_NAME_MAX])
{
	size_t n = s->of ? (size_t)snprintf(name, IMAGE_NAME_MAX, IMAGE_SHARED "/") : 0;

	snprintf(name + n, IMAGE_NAME_MAX - n, t->file_fmt, number);
}

int image_create_(struct image_store *s, const struct image_type *t, struct image_writer **ret,
		  uint64_t number)
{
	struct image_store *whole = s->of ? s->of : s;
	struct image_writer *w;
	int r;

	r = whole->ops->writer_new(whole, &w);
	if (r < 0)
		return log_err(r, "cannot create image of type %s", t->name);
	w->store = whole;
	w->type = t;
	image_name(s, t, number, w->name);
	*ret = w;
	return 0;
}

static int writer_begin(struct image_writer *w)
{
	uint32_t magic[2] = { 0, w->type->magic };
	size_t first = 0;

	if (w->error || w->begun)
		return w->error;
	switch (w->type->framing) {
	case IMAGE_COMMON:
		magic[0] = IMAGE_MAGIC_COMMON;
		break;
	case IMAGE_SERVICE:
		magic[0] = IMAGE_MAGIC_SERVICE;
		break;
	case IMAGE_SINGLE_MAGIC:
		first = 1;
		break;
	case IMAGE_RAW:
		first = 2;
		break;
	}
	w->begun = true;
	return w->store->ops->append(w, magic + first, sizeof(magic) - first * sizeof(magic[0]));
}

int image_put(struct image_writer *w, const ProtobufCMessage *m)
{
	size_t bytes = protobuf_c_message_get_packed_size(m);
	_cleanup_free_ uint8_t *big = NULL;
	uint32_t size = (uint32_t)bytes;
	void *to;
	int r;

	if (w->error)
		return w->error;
	if (bytes > IMAGE_ENTRY_MAX)
		return writer_fail(w, -EMSGSIZE);
	r = writer_begin(w);
	if (r < 0)
		return writer_fail(w, r);
	if (bytes + sizeof(size) <= IMAGE_SPAN_MAX) {
		r = w->store->ops->reserve(w, bytes + sizeof(size), &to);
		if (r < 0)
			return writer_fail(w, r);
	} else {
		to = big = malloc(bytes + sizeof(size));
		if (!big)
			return writer_fail(w, -ENOMEM);
	}
	memcpy(to, &size, sizeof(size));
	protobuf_c_message_pack(m, (uint8_t *)to + sizeof(size));
	if (!big)
		return 0;
	r = w->store->ops->append(w, big, bytes + sizeof(size));
	return r < 0 ? writer_fail(w, r) : 0;
}

int image_put_raw(struct image_writer *w, const void *p, size_t bytes)
{
	int r;

	if (w->error)
		return w->error;
	r = writer_begin(w);
	if (r < 0)
		return writer_fail(w, r);
	r = w->store->ops->append(w, p, bytes);
	return r < 0 ? writer_fail(w, r) : 0;
}

int image_reserve(struct image_writer *w, size_t bytes, void **ret)
{
	int r;

	if (w->error)
		return w->error;
	if (bytes > IMAGE_SPAN_MAX)
		return writer_fail(w, -EMSGSIZE);
	r = writer_begin(w);
	if (r < 0)
		return writer_fail(w, r);
	r = w->store->ops->reserve(w, bytes, ret);
	return r < 0 ? writer_fail(w, r) : 0;
}

static int fill_by_reserving(struct image_writer *w, uint64_t bytes, image_fill_fn fn, void *arg)
{
	int r = 0;

	for (uint64_t off = 0; off < bytes && r >= 0; off += RESERVE_PIECE_BYTES) {
		size_t n = (size_t)MIN(bytes - off, (uint64_t)RESERVE_PIECE_BYTES);
		void *to;

		r = w->store->ops->reserve(w, n, &to);
		if (r >= 0)
			r = fn(arg, 0, off, to, n);
	}
	return r;
}

int image_fill(struct image_writer *w, uint64_t bytes, image_fill_fn fn, void *arg)
{
	int r;

	if (w->error)
		return w->error;
	r = writer_begin(w);
	if (r >= 0)
		r = bytes < FILL_BYTES_MIN ? fill_by_reserving(w, bytes, fn, arg) :
					     w->store->ops->fill(w, bytes, fn, arg);
	return r < 0 ? writer_fail(w, r) : 0;
}

/* Before the file is completed: afterwards the name could only be missed. */
static int note_name(const struct image_writer *w)
{
	struct image_store *s = w->store;
	char (*names)[IMAGE_NAME_MAX] = s->written;

	if (!(s->n_written & (s->n_written - 1)))
		names = reallocarray(names, s->n_written ? s->n_written * 2 : 1, sizeof(*names));
	if (!names)
		return log_err(-ENOMEM, "cannot write image %s", w->name);
	s->written = names;
	memcpy(names[s->n_written++], w->name, sizeof(*names));
	return 0;
}

int image_close(struct image_writer *w)
{
	char name[IMAGE_NAME_MAX];
	int r;

	if (!w)
		return 0;
	if (!w->error && w->begun)
		w->error = note_name(w);
	if (w->error) {
		r = w->error;
		w->store->ops->abandon(w);
		return r;
	}
	memcpy(name, w->name, sizeof(name));
	r = w->store->ops->commit(w);
	return r < 0 ? log_err(r, "cannot write image %s", name) : 0;
}

void image_abandonp(struct image_writer **w)
{
	if (*w)
		(*w)->store->ops->abandon(*w);
	*w = NULL;
}

int image_write_one_(struct image_store *s, const struct image_type *t,
		     const ProtobufCMessage *m, uint64_t number)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r;

	r = image_create_(s, t, &w, number);
	if (r < 0)
		return r;
	r = image_put(w, m);
	if (r < 0)
		return r;
	return image_close(take_ptr(w));
}

int image_store_seal(struct image_store *s, uint64_t *ret_bytes, uint64_t *ret_hash)
{
	uint64_t bytes, hash;
	int r;

	r = s->ops->seal(s, &bytes, &hash);
	if (r < 0)
		return log_err(r, "cannot complete the images");
	if (ret_bytes)
		*ret_bytes = bytes;
	if (ret_hash)
		*ret_hash = hash;
	return 0;
}

int image_store_verify(struct image_store *s)
{
	return s->ops->verify ? s->ops->verify(s) : 0;
}

int image_store_each_file(struct image_store *s, image_file_fn fn, void *arg)
{
	return s->ops->each_file(s, fn, arg);
}

void image_store_set_parent(struct image_store *s, struct image_store *parent)
{
	s->parent = parent;
}

/* A part has no files of its own; what is done to files is done to the whole. */
static void part_close(struct image_store *s)
{
	free(s);
}

static const struct image_store_ops part_ops = { .close = part_close };

int image_store_open_part(struct image_store *s, struct image_store **ret)
{
	struct image_store *part = calloc(1, sizeof(*part));

	if (!part)
		return -ENOMEM;
	part->ops = &part_ops;
	part->of = s;
	*ret = part;
	return 0;
}

int image_store_make_shared(struct image_store *s, struct image_store **ret)
{
	int r = s->ops->make_shared(s);

	if (r >= 0)
		r = image_store_open_part(s, &s->shared);
	if (r == -EEXIST)
		return r;
	if (r < 0)
		return log_err(r, "cannot make a place for shared pages beside the images");
	*ret = s->shared;
	return 0;
}

int image_store_forget(struct image_store *s)
{
	int r = s->ops->forget ? s->ops->forget(s) : 0;

	s->n_written = 0;
	return r < 0 ? log_err(r, "cannot remove a dump's images") : 0;
}

size_t image_store_written(const struct image_store *s, const char (**ret)[IMAGE_NAME_MAX])
{
	*ret = (const char (*)[IMAGE_NAME_MAX])s->written;
	return s->n_written;
}

int image_store_find(struct image_store *s, const char *name)
{
	return s->ops->find(s, name);
}

int image_store_may_follow(struct image_store *s, const char *to)
{
	int r = s->ops->may_follow ? s->ops->may_follow(s, to) : -EOPNOTSUPP;

	return r < 0 ? log_err(r, "cannot use %s as the previous images", to) : 0;
}

int image_store_link_parent(struct image_store *s, const char *to)
{
	int r = s->ops->link_parent ? s->ops->link_parent(s, to) : -EOPNOTSUPP;

	return r < 0 ? log_err(r, "cannot use %s as the previous images", to) : 0;
}

int image_store_parent(struct image_store *s, struct image_store **ret)
{
	if (!s->parent) {
		int r = s->ops->open_parent ? s->ops->open_parent(s, &s->parent) : -ENOENT;

		if (r < 0)
			return r;
		s->parent_is_own = true;
	}
	*ret = s->parent;
	return 0;
}

void image_store_close(struct image_store *s)
{
	while (s) {
		struct image_store *parent = s->parent_is_own ? s->parent : NULL;

		free(s->shared);
		free(s->written);
		s->ops->close(s);
		s = parent;
	}
}
