/*
 * A tree's images, opened for the restore, and how far its clocks must go on.
 *
 * The images hold the clocks as they were when the dump read them (timens-N.img). From there
 * to the commit the old kernel's own clock counted, from the commit to now the wall clock,
 * which early_clock() has set by the TSC.
 */
#include "initramfs/early_store.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <xxhash.h>

#include "image/proto.h"
#include "initramfs/early_store_pmem.h"
#include "util/io.h"
#include "util/log.h"

static int open_dir_images(struct early *e, const struct manifest_tree *t,
			   struct early_images *ret)
{
	int r;

	ret->dirfd = openat(e->images_fd, t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (ret->dirfd < 0)
		return log_err(neg_errno(), "cannot open the images in %s", t->dir);
	r = image_store_open_dir(ret->dirfd, &ret->store);
	return r < 0 ? log_err(r, "cannot open the images in %s", t->dir) : 0;
}

static int open_bundle(struct early *e, const struct manifest_tree *t, uint64_t off,
		       uint64_t expected_bytes, uint64_t expected_hash, struct early_bundle *ret)
{
	uint64_t bytes = 0, hash = 0;
	int r = early_pmem_map(e->pmem, off, expected_bytes, &ret->map);

	if (r < 0)
		return r;
	ret->bytes = expected_bytes;
	r = image_bundle_open(ret->map, ret->bytes, &ret->store);
	if (r == 0)
		r = image_store_seal(ret->store, &bytes, &hash);
	if (r < 0)
		return r;
	if (bytes != expected_bytes || hash != expected_hash)
		return log_fail(-EBADMSG, "the images of %s are not those that were saved (checksum "
				"%016llx instead of %016llx)", t->dir, (unsigned long long)hash,
				(unsigned long long)expected_hash);
	return 0;
}

static void close_bundle(struct early_bundle *b)
{
	if (b->store)
		image_store_close(b->store);
	if (b->map)
		early_pmem_unmap(b->map, b->bytes);
	*b = (struct early_bundle){ 0 };
}

/* A bundle's table of contents is checked, not yet the files. */
int early_images_open_files(struct early *e, const struct manifest_tree *t, struct early_images *ret)
{
	int r;

	*ret = (struct early_images)EARLY_IMAGES_INIT;
	if (e->pmem) {
		r = open_bundle(e, t, t->bundle_off, t->bundle_bytes, t->bundle_hash, &ret->bundle);
		ret->store = ret->bundle.store;
	} else {
		r = open_dir_images(e, t, ret);
	}
	if (r < 0)
		early_images_close(ret);
	return r;
}

static int open_unchecked(struct early *e, const struct manifest_tree *t,
			  struct early_images *ret)
{
	int r = early_images_open_files(e, t, ret);

	if (r < 0 || !e->pmem || !t->pre_dump_bytes)
		return r;
	r = open_bundle(e, t, t->pre_dump_off, t->pre_dump_bytes, t->pre_dump_hash, &ret->pre_dump);
	if (r == 0)
		image_store_set_parent(ret->store, ret->pre_dump.store);
	else
		early_images_close(ret);
	return r;
}

int early_images_open(struct early *e, const struct manifest_tree *t, struct early_images *ret)
{
	int r = e->pmem ? 0 : early_verify_tree(e, t);

	if (r == 0)
		r = open_unchecked(e, t, ret);
	if (r < 0)
		return r;
	r = image_store_verify(ret->store);
	if (r == 0 && ret->pre_dump.store)
		r = image_store_verify(ret->pre_dump.store);
	if (r < 0)
		early_images_close(ret);
	return r;
}

void early_images_close(struct early_images *images)
{
	if (images->store && images->store != images->bundle.store)
		image_store_close(images->store);
	close_bundle(&images->bundle);
	close_bundle(&images->pre_dump);
	close_fdp(&images->dirfd);
	*images = (struct early_images)EARLY_IMAGES_INIT;
}

struct wanted {
	const char *name;
	uint64_t bytes, hash;
	bool found;
};

static int match_name(void *arg, const char *name, uint64_t bytes, uint64_t hash)
{
	struct wanted *w = arg;

	if (!strcmp(name, w->name))
		*w = (struct wanted){ w->name, bytes, hash, true };
	return 0;
}

/* A bundle's own table is as good as the manifest, which has its checksum. */
static int each_file(const struct manifest_tree *t, struct early_images *images, image_file_fn fn,
		     void *arg)
{
	if (images->bundle.map)
		return image_store_each_file(images->store, fn, arg);
	for (size_t i = 0; i < t->n_images; i++)
		fn(arg, t->images[i].name, t->images[i].bytes, t->images[i].hash);
	return 0;
}

int early_images_file(const struct manifest_tree *t, struct early_images *images, const char *name,
		      struct image_reader *ret)
{
	const struct image_type type = { .name = name, .file_fmt = name, .framing = IMAGE_RAW };
	struct wanted w = { .name = name };
	int r;

	*ret = (struct image_reader){ 0 };
	/* It is used as a format. */
	if (strpbrk(name, "%/"))
		return log_fail(-EBADMSG, "\"%s\" is no name of an image", name);
	r = each_file(t, images, match_name, &w);
	if (r == 0 && !w.found)
		r = log_fail(-EBADMSG, "%s is not among the images of %s", name, t->dir);
	if (r == 0)
		r = image_open(images->store, &type, ret, (uint64_t)0);
	if (r == 0 && (ret->bytes != w.bytes || XXH3_64bits(ret->data, ret->bytes) != w.hash))
		r = log_fail(-EBADMSG, "image %s of %s is damaged (checksum)", name, t->dir);
	if (r < 0)
		image_reader_done(ret);
	return r;
}

static int write_kept(int dirfd, const char *name, const void *data, size_t bytes)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? neg_errno() : write_full(fd, data, bytes);
}

struct keeping {
	struct image_store *store;
	int dirfd;
};

static int keep_file(void *arg, const char *name, uint64_t bytes, uint64_t hash)
{
	const struct image_type type = { .name = name, .file_fmt = name, .framing = IMAGE_RAW };
	struct keeping *k = arg;
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	int r = strpbrk(name, "%/") ? -EBADMSG : image_open(k->store, &type, &rd, (uint64_t)0);

	(void)bytes;
	(void)hash;
	return r < 0 ? r : write_kept(k->dirfd, name, rd.data, rd.bytes);
}

static int keep_all(struct image_store *store, int to_dirfd)
{
	struct keeping k = { store, to_dirfd };

	return image_store_each_file(store, keep_file, &k);
}

static int keep_raw(struct early *e, uint64_t off, uint64_t bytes, int to_dirfd, const char *name)
{
	const void *map;
	int r = early_pmem_map(e->pmem, off, bytes, &map);

	if (r < 0)
		return r;
	r = write_kept(to_dirfd, name, map, bytes);
	early_pmem_unmap(map, bytes);
	return r;
}

/* As a chain of directories, which `cr show` and `cr restore` understand. */
static int keep_pre_dump(struct image_store *store, int to_dirfd)
{
	_cleanup_close_ int dirfd = -EBADF;

	if (mkdirat(to_dirfd, "pre-dump", 0700) < 0 || symlinkat("pre-dump", to_dirfd, "parent") < 0)
		return neg_errno();
	dirfd = openat(to_dirfd, "pre-dump", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return dirfd < 0 ? neg_errno() : keep_all(store, dirfd);
}

/* Files by name as long as the tables of contents are right, else all bytes in one. */
static int keep_bundles(struct early *e, const struct manifest_tree *t, int to_dirfd)
{
	struct early_images images;
	int r = open_unchecked(e, t, &images);

	if (r == 0) {
		r = keep_all(images.store, to_dirfd);
		if (r == 0 && images.pre_dump.store)
			r = keep_pre_dump(images.pre_dump.store, to_dirfd);
		early_images_close(&images);
		return r;
	}
	r = keep_raw(e, t->bundle_off, t->bundle_bytes, to_dirfd, "damaged.bundle");
	if (r == 0 && t->pre_dump_bytes)
		r = keep_raw(e, t->pre_dump_off, t->pre_dump_bytes, to_dirfd, "damaged-pre-dump.bundle");
	return r;
}

static int copy_image(int from_dir, const struct manifest_image *image, int to_dir)
{
	_cleanup_close_ int from = openat(from_dir, image->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int to = -EBADF;
	ssize_t n;

	/* Missing may be the very reason. */
	if (from < 0)
		return errno == ENOENT ? 0 : neg_errno();
	to = openat(to_dir, image->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return neg_errno();
	while ((n = sendfile(to, from, NULL, 1u << 30)) > 0)
		;
	return n < 0 ? neg_errno() : 0;
}

int early_images_keep(struct early *e, const struct manifest_tree *t, int to_dirfd)
{
	_cleanup_close_ int from = -EBADF;
	int r = 0;

	if (e->pmem)
		return keep_bundles(e, t, to_dirfd);
	from = openat(e->images_fd, t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (from < 0)
		return neg_errno();
	for (size_t i = 0; i < t->n_images && r == 0; i++)
		r = copy_image(from, &t->images[i], to_dirfd);
	return r;
}

static int load_pmem(struct early *e)
{
	int r = early_pmem_open(e->cmdline.store, e->cmdline.id, &e->pmem);

	if (r == 0)
		r = manifest_from_text(e->pmem->manifest, e->pmem->header.manifest_bytes,
				       &e->manifest);
	return r < 0 ? log_err(r, "no usable manifest in the kept memory") : 0;
}

int early_store_open(struct early *e)
{
	int r;

	if (e->cmdline.store)
		return load_pmem(e);
	e->images_fd = open(CRKEXEC_INITRAMFS_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (e->images_fd < 0)
		return log_err(neg_errno(), "cannot open " CRKEXEC_INITRAMFS_DIR);
	r = manifest_load(e->images_fd, "manifest.json", &e->manifest);
	return r < 0 ? log_err(r, "no usable manifest in this initramfs") : 0;
}

int early_store_consume(struct early *e)
{
	return e->pmem ? early_pmem_consume(e->pmem) : 0;
}

static int match_timens(void *arg, const char *name, uint64_t bytes, uint64_t hash)
{
	unsigned long id, *ret = arg;
	int end = 0;

	(void)bytes;
	(void)hash;
	if (sscanf(name, "timens-%lu.img%n", &id, &end) == 1 && end && !name[end])
		*ret = id;
	return 0;
}

static int read_monotonic(const struct manifest_tree *t, struct early_images *images,
			  int64_t *ret)
{
	unsigned long id = ULONG_MAX;
	struct arena a;
	TimensEntry *te;
	int r = each_file(t, images, match_timens, &id);

	if (r < 0 || id == ULONG_MAX)
		return r < 0 ? r : -ENOENT;
	arena_init(&a);
	r = image_read_one(images->store, &a, &image_timens, timens_entry, &te, (uint64_t)id);
	if (r == 0)
		*ret = (int64_t)te->monotonic->tv_sec * 1000000000 + te->monotonic->tv_nsec;
	arena_done(&a);
	return r;
}

int64_t early_images_clock_advance(struct early *e, const struct manifest_unit *u,
				   const struct manifest_tree *t, struct early_images *images)
{
	const struct manifest_clock *c = &e->manifest->clock;
	int64_t now = (int64_t)clock_usec(CLOCK_REALTIME) * 1000;
	int64_t dumped = 0, advance;

	/*
	 * A tree that was already in a time namespace of its own counts from elsewhere than
	 * the manifest's clock; then the moment of its freeze has to do.
	 */
	if (read_monotonic(t, images, &dumped) == 0 && dumped <= c->monotonic_nsec &&
	    c->monotonic_nsec - dumped < 600 * 1000000000ll)
		advance = c->monotonic_nsec - dumped + (now - c->realtime_nsec);
	else
		advance = now - (int64_t)u->frozen_at_usec * 1000;
	/* Clocks of a tree never go back, whatever the wall clock did. */
	return MAX(advance, (int64_t)0);
}
