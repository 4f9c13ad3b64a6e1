/*
 * The manifest of this upgrade and the images it names: found, tied to this boot, compared
 * with their checksums before anything is made of them.
 */
#include "initramfs/early_store.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "util/log.h"

int early_manifest(struct early *e)
{
	int r = early_store_open(e);

	if (r < 0)
		return r;
	if (e->cmdline.id && strcmp(e->cmdline.id, e->manifest->id))
		return log_fail(-EBADMSG, "the manifest is of upgrade %s, this boot is %s's",
				e->manifest->id, e->cmdline.id);
	return 0;
}

static int verify_image(int dirfd, const struct manifest_image *image)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;
	uint64_t hash;
	void *p = NULL;

	fd = openat(dirfd, image->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return log_err(neg_errno(), "cannot open image %s", image->name);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != image->bytes)
		return log_fail(-EBADMSG, "image %s has %lld bytes instead of %llu", image->name,
				(long long)st.st_size, (unsigned long long)image->bytes);
	if (st.st_size) {
		p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
		if (p == MAP_FAILED)
			return log_err(neg_errno(), "cannot map image %s", image->name);
	}
	hash = XXH3_64bits(p ? p : "", st.st_size);
	if (p)
		munmap(p, st.st_size);
	if (hash != image->hash)
		return log_fail(-EBADMSG, "image %s is damaged: its checksum is %016llx instead of"
				" %016llx", image->name, (unsigned long long)hash,
				(unsigned long long)image->hash);
	return 0;
}

int early_verify_tree(struct early *e, const struct manifest_tree *t)
{
	_cleanup_close_ int dirfd = openat(e->images_fd, t->dir,
					   O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (dirfd < 0)
		return log_err(neg_errno(), "cannot open the images in %s", t->dir);
	if (!t->n_images)
		return log_fail(-EBADMSG, "%s: the manifest lists no images", t->dir);
	for (size_t i = 0; i < t->n_images; i++) {
		int r = verify_image(dirfd, &t->images[i]);

		if (r < 0)
			return r;
	}
	return 0;
}
