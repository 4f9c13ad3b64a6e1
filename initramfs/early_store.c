/*
 * A tree's images, opened for the restore, and how far its clocks must go on.
 *
 * The images hold the clocks as they were when the dump read them (timens-N.img). From there
 * to the commit the old kernel's own clock counted, from the commit to now the wall clock,
 * which early_clock() has set by the TSC.
 */
#include "initramfs/early_store.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "image/proto.h"
#include "util/log.h"

int early_images_open(struct early *e, const struct manifest_tree *t, struct early_images *ret)
{
	int r;

	*ret = (struct early_images){ .dirfd = -EBADF };
	r = early_verify_tree(e, t);
	if (r < 0)
		return r;
	ret->dirfd = openat(e->images_fd, t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (ret->dirfd < 0)
		return log_err(neg_errno(), "cannot open the images in %s", t->dir);
	r = image_store_open_dir(ret->dirfd, &ret->store);
	return r < 0 ? log_err(r, "cannot open the images in %s", t->dir) : 0;
}

static int read_monotonic(struct image_store *s, const struct manifest_tree *t, int64_t *ret)
{
	unsigned long id = 0;
	struct arena a;
	TimensEntry *te;
	bool found = false;
	int r;

	for (size_t i = 0; i < t->n_images && !found; i++) {
		int end = 0;

		found = sscanf(t->images[i].name, "timens-%lu.img%n", &id, &end) == 1 && end;
	}
	if (!found)
		return -ENOENT;
	arena_init(&a);
	r = image_read_one(s, &a, &image_timens, timens_entry, &te, (uint64_t)id);
	if (r == 0)
		*ret = (int64_t)te->monotonic->tv_sec * 1000000000 + te->monotonic->tv_nsec;
	arena_done(&a);
	return r;
}

int64_t early_images_clock_advance(struct early *e, const struct manifest_unit *u,
				   const struct manifest_tree *t, struct early_images *images)
{
	const struct manifest_clock *c = &e->manifest->clock;
	int64_t now = (int64_t)early_now_usec(CLOCK_REALTIME) * 1000;
	int64_t dumped, advance;

	/*
	 * A tree that was already in a time namespace of its own counts from elsewhere than
	 * the manifest's clock; then the moment of its freeze has to do.
	 */
	if (read_monotonic(images->store, t, &dumped) == 0 && dumped <= c->monotonic_nsec &&
	    c->monotonic_nsec - dumped < 600 * 1000000000ll)
		advance = c->monotonic_nsec - dumped + (now - c->realtime_nsec);
	else
		advance = now - (int64_t)u->frozen_at_usec * 1000;
	/* Clocks of a tree never go back, whatever the wall clock did. */
	return MAX(advance, (int64_t)0);
}
