/* Where a tree's images are: a directory (tmpfs store) or a bundle in kept memory (pmem). */
#ifndef INITRAMFS_EARLY_STORE_H
#define INITRAMFS_EARLY_STORE_H

#include "image/image.h"
#include "initramfs/early.h"

struct early_bundle {
	struct image_store *store;
	const void *map;
	uint64_t bytes;
};

struct early_images {
	struct image_store *store;
	int dirfd;			/* -EBADF: a bundle */
	struct early_bundle bundle, pre_dump;	/* pre_dump: if there is one, store's parent */
};
#define EARLY_IMAGES_INIT	{ .dirfd = -EBADF }

/*
 * Finds the store and takes the manifest's text from it: pmem when the command line says so,
 * else the directory in the initramfs. Fills in e->pmem or e->images_fd and e->manifest.
 */
int early_store_open(struct early *e) _must_check_;

/*
 * Phase "images taken": from now on they are restored at most once. With the same command line
 * this kernel, or another, may be booted again while they still lie there (kexec
 * --reuse-cmdline): processes of the past would meet their own later traces.
 */
int early_store_consume(struct early *e) _must_check_;

/* Every byte is checked against the manifest before it is opened. */
int early_images_open(struct early *e, const struct manifest_tree *t, struct early_images *ret)
	_must_check_;
void early_images_close(struct early_images *images);
/*
 * For single files of them, each checked when it is asked for, before image_reader_done() and
 * early_images_close(). A pre-dump has none: it is left alone, and to map it takes time.
 */
int early_images_open_files(struct early *e, const struct manifest_tree *t, struct early_images *ret)
	_must_check_;
int early_images_file(const struct manifest_tree *t, struct early_images *images, const char *name,
		      struct image_reader *ret) _must_check_;
/* Copies them into a directory, damaged ones too: for the one who looks into it. */
int early_images_keep(struct early *e, const struct manifest_tree *t, int to_dirfd) _must_check_;

/* Nanoseconds from the tree's own clock readings to now. */
int64_t early_images_clock_advance(struct early *e, const struct manifest_unit *u,
				   const struct manifest_tree *t, struct early_images *images);

/* A file, or a directory with all that is in it on file system dev. Goes on where it cannot. */
void early_remove_at(int at, const char *name, dev_t dev, int depth);

#endif
