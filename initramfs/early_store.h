/* Where a tree's images are: a directory (tmpfs store) or a bundle in kept memory (pmem). */
#ifndef INITRAMFS_EARLY_STORE_H
#define INITRAMFS_EARLY_STORE_H

#include "image/image.h"
#include "initramfs/early.h"

struct early_images {
	struct image_store *store;
	int dirfd;
};

/* Checked against the manifest before it is opened. */
int early_images_open(struct early *e, const struct manifest_tree *t, struct early_images *ret)
	_must_check_;
/* Nanoseconds from the tree's own clock readings to now. */
int64_t early_images_clock_advance(struct early *e, const struct manifest_unit *u,
				   const struct manifest_tree *t, struct early_images *images);

#endif
