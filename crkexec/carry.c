/*
 * What carry_find.c lists: how much it is, before anything stands still; then as tars with owners, modes
 * and attributes, not compressed, since this is done while the unit stands still.
 */
#include <fcntl.h>
#include <fts.h>
#include <string.h>

#include "crkexec/phases.h"
#include "ns/tar.h"
#include "util/io.h"
#include "util/log.h"

static const struct image_type image_carry = {
	.name = "carry", .file_fmt = "carry-%u.tar.gz.img", .framing = IMAGE_RAW,
};

/* Of a file in an archive: two blocks for name and attributes, one for the padding. */
#define HEADER_BYTES	1536u

/* About. Holes are not archived. */
static uint64_t archive_bytes(const struct manifest_carry *c)
{
	char *const paths[] = { c->path, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	uint64_t bytes = 0;
	FTSENT *e;

	while (fts && (e = fts_read(fts))) {
		if (e->fts_info == FTS_D && c->only_dir)
			fts_set(fts, e, FTS_SKIP);
		if (e->fts_info != FTS_DP)
			bytes += HEADER_BYTES;
		if (e->fts_info == FTS_F)
			bytes += (uint64_t)e->fts_statp->st_blocks * 512;
	}
	if (fts)
		fts_close(fts);
	return bytes;
}

int carry_check(struct upgrade *u, const struct unit *un, uint64_t *ret_bytes)
{
	struct manifest_unit mu = { 0 };
	int r = carry_collect(un, &mu);

	*ret_bytes = 0;
	for (size_t i = 0; i < mu.n_carries; i++) {
		uint64_t bytes = archive_bytes(&mu.carries[i]);

		*ret_bytes += bytes;
		if (bytes > CARRY_MAX_BYTES && r == 0)
			r = upgrade_problem(u, -EOPNOTSUPP, un->name, "make it smaller, or move it to a disk",
					    "%s is too large to be carried: %llu MiB, at most %llu",
					    mu.carries[i].path, (unsigned long long)bytes >> 20,
					    CARRY_MAX_BYTES >> 20);
	}
	for (size_t i = 0; i < mu.n_carries; i++)
		free(mu.carries[i].path);
	free(mu.carries);
	return r;
}

struct sink {
	struct image_writer *w;
	uint64_t bytes;
};

static int sink_write(void *arg, const void *p, size_t bytes)
{
	struct sink *s = arg;

	s->bytes += bytes;
	return s->bytes > CARRY_MAX_BYTES ? -EFBIG : image_put_raw(s->w, p, bytes);
}

/* A directory with or without its contents, or one file below its name. */
static int write_tar(const struct manifest_carry *c, struct sink *s)
{
	_cleanup_close_ int fd = -EBADF;
	const char *name = strrchr(c->path, '/') + 1;
	_cleanup_free_ char *dir = c->single ? strndup(c->path, (size_t)(name - c->path)) :
				   strdup(c->path);
	struct tar_writer *t;
	int r;

	fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (fd < 0)
		return neg_errno();
	r = tar_writer_new(sink_write, s, NULL, TAR_STORED, &t);
	if (r < 0)
		return r;
	if (c->single || c->only_dir)
		r = tar_add_one(t, fd, c->single ? name : ".");
	else
		r = tar_add_tree(t, fd, "/");
	if (r == 0)
		r = tar_writer_finish(t);
	else
		log_err(r, "cannot archive %s", tar_writer_path(t));
	tar_writer_free(t);
	return r;
}

static int carry_write_one(struct manifest_carry *c, unsigned int number,
			   struct image_store *images)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	struct sink s = { 0 };
	int r = image_create(images, &image_carry, &w, number);

	if (r < 0)
		return log_err(r, "cannot create the archive of %s", c->path);
	s.w = w;
	r = write_tar(c, &s);
	if (r == -EFBIG)
		return log_fail(r, "%s holds more than %llu MiB: too much for run-time files", c->path,
				CARRY_MAX_BYTES >> 20);
	if (r == 0)
		r = image_close(take_ptr(w));
	if (r < 0)
		return log_err(r, "cannot archive %s", c->path);
	c->archive = str_fmt("carry-%u.tar.gz.img", number);
	return c->archive ? 0 : -ENOMEM;
}

int carry_write(struct manifest_unit *mu, struct image_store *images)
{
	int r = 0;

	for (size_t i = 0; i < mu->n_carries && r == 0; i++)
		r = carry_write_one(&mu->carries[i], (unsigned int)i, images);
	return r;
}
