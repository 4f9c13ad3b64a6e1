/* Inner interface of the directory carrier: store_dir.c, store_dir_list.c. */
#ifndef CR_IMAGE_STORE_DIR_H
#define CR_IMAGE_STORE_DIR_H

#include "image/store.h"

struct buf {
	uint8_t *p;
	size_t room;
};

struct dir_store {
	struct image_store store;
	int dirfd;
	/* The largest buffer of a closed writer: its memory is already faulted in. */
	struct buf spare;
};

static inline struct dir_store *dir_store(struct image_store *s)
{
	return (struct dir_store *)s;
}

/* store_dir_list.c; see struct image_store_ops. */
int dir_each_file(struct image_store *s, image_file_fn fn, void *arg) _must_check_;
int dir_seal(struct image_store *s, uint64_t *ret_bytes, uint64_t *ret_hash) _must_check_;
int dir_make_shared(struct image_store *s) _must_check_;
int dir_forget(struct image_store *s) _must_check_;

#endif
