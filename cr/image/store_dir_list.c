/* The directory carrier: which images there are, and the directory inside it ("shared"). */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "image/store_dir.h"
#include "util/io.h"
#include "util/log.h"

static bool parent_is_shared(const struct dir_store *s)
{
	_cleanup_free_ char *to = NULL;

	return readlink_at(s->dirfd, "parent", &to) >= 0 && !strcmp(to, IMAGE_SHARED);
}

int dir_make_shared(struct image_store *s)
{
	int dirfd = dir_store(s)->dirfd;

	/* Relative: the directory may be moved or packed. */
	if (symlinkat(IMAGE_SHARED, dirfd, "parent") < 0)
		return neg_errno();
	return mkdirat(dirfd, IMAGE_SHARED, 0700) < 0 && errno != EEXIST ? neg_errno() : 0;
}

struct names {
	char **p;
	size_t n;
};

static void names_done(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->p[i]);
	free(l->p);
}

static int names_add(struct names *l, const char *prefix, const char *name)
{
	char **p = l->p;

	if (!(l->n & (l->n - 1)))
		p = reallocarray(p, l->n ? l->n * 2 : 1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	l->p = p;
	l->p[l->n] = str_fmt("%s%s", prefix, name);
	if (!l->p[l->n])
		return -ENOMEM;
	l->n++;
	return 0;
}

static int names_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_image(DIR *dir, const struct dirent *e)
{
	size_t n = strlen(e->d_name);
	struct stat st;

	if (n < 4 || strcmp(e->d_name + n - 4, ".img"))
		return false;
	return !fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode);
}

/* What is in its directory `path`, with prefix before the names. */
static int list_images_at(int fd, const char *path, const char *prefix, struct names *l)
{
	/* A descriptor of its own: the position of a shared one would be anyone's. */
	_cleanup_close_ int own = openat(fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *e;
	int r;

	if (own < 0)
		return neg_errno();
	dir = fdopendir(own);
	if (!dir)
		return neg_errno();
	own = -EBADF;
	while ((errno = 0, e = readdir(dir))) {
		r = is_image(dir, e) ? names_add(l, prefix, e->d_name) : 0;
		if (r < 0)
			return r;
	}
	return errno ? neg_errno() : 0;
}

static int list_images(int fd, struct names *l)
{
	int r = list_images_at(fd, ".", "", l);

	if (r >= 0)
		r = list_images_at(fd, IMAGE_SHARED, IMAGE_SHARED "/", l);
	if (r < 0 && r != -ENOENT)
		return r;
	if (l->n)
		qsort(l->p, l->n, sizeof(*l->p), names_compare);
	return 0;
}

/* By their names only: a virtual machine's disk ends in ".img", too. */
static int remove_images_at(int dirfd, const char *path, const char *prefix)
{
	_cleanup_(names_done) struct names l = { 0 };
	int r = list_images_at(dirfd, path, prefix, &l);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; i < l.n; i++)
		if (image_identify(l.p[i], NULL, 0) && unlinkat(dirfd, l.p[i], 0) < 0)
			return neg_errno();
	return 0;
}

int dir_forget(struct image_store *s)
{
	int dirfd = dir_store(s)->dirfd, r = 0;

	/* First: without it the others are no dump. */
	if (unlinkat(dirfd, image_inventory.file_fmt, 0) < 0 && errno != ENOENT)
		return neg_errno();
	r = remove_images_at(dirfd, ".", "");
	if (r < 0 || !parent_is_shared(dir_store(s)))
		return r;
	r = remove_images_at(dirfd, IMAGE_SHARED, IMAGE_SHARED "/");
	if (r < 0)
		return r;
	if (unlinkat(dirfd, IMAGE_SHARED, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return neg_errno();
	return unlinkat(dirfd, "parent", 0) < 0 ? neg_errno() : 0;
}

int dir_each_file(struct image_store *s, image_file_fn fn, void *arg)
{
	_cleanup_(names_done) struct names l = { 0 };
	int r = list_images(dir_store(s)->dirfd, &l);

	if (r < 0)
		return log_err(r, "cannot list the image directory");
	for (size_t i = 0; i < l.n; i++) {
		_cleanup_image_reader_ struct image_reader rd = { .data = (const uint8_t *)"" };

		r = image_map_file(dir_store(s)->dirfd, l.p[i], &rd);
		if (r < 0)
			return log_err(r, "cannot read image %s", l.p[i]);
		r = fn(arg, l.p[i], rd.bytes, XXH3_64bits(rd.data, rd.bytes));
		if (r < 0)
			return r;
	}
	return 0;
}

struct total {
	uint64_t bytes, hash;
};

static int total_add(void *arg, const char *name, uint64_t bytes, uint64_t hash)
{
	struct total *t = arg;
	uint64_t v[4] = { t->hash, XXH3_64bits(name, strlen(name)), bytes, hash };

	t->bytes += bytes;
	t->hash = XXH3_64bits(v, sizeof(v));
	return 0;
}

int dir_seal(struct image_store *s, uint64_t *ret_bytes, uint64_t *ret_hash)
{
	struct total t = { 0 };
	int r = dir_each_file(s, total_add, &t);

	*ret_bytes = t.bytes;
	*ret_hash = t.hash;
	return r;
}
