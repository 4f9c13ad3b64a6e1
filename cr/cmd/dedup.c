/* dedup: what the images of a directory have themselves, its parents need not have any more. */
#include <inttypes.h>
#include <string.h>

#include "cmd/cmd.h"
#include "image/pages.h"
#include "util/io.h"

static const struct image_type *map_type(const char *name, uint64_t *ret_id)
{
	const struct image_type *t = image_identify(name, NULL, 0);
	const char *digits = strpbrk(name, "0123456789");
	char number[24];

	if ((t != &image_pagemap && t != &image_pagemap_shmem) || !digits)
		return NULL;
	snprintf(number, sizeof(number), "%.*s", (int)strspn(digits, "0123456789"), digits);
	return parse_u64(number, 10, ret_id) < 0 ? NULL : t;
}

static int dedup_all(int images_fd, struct image_store *s, uint64_t *pages)
{
	_cleanup_closedir_ DIR *dir = dir_open_at(images_fd, ".");
	struct dirent *e;
	bool any = false;
	int r = 0;

	if (!dir)
		return log_err(neg_errno(), "cannot read the images directory");
	while (r >= 0 && (e = readdir(dir))) {
		uint64_t id;
		const struct image_type *t = map_type(e->d_name, &id);

		if (t)
			r = pages_dedup(s, t, id, pages);
		any |= t != NULL;
	}
	return r < 0 || any ? r : log_fail(-ENOENT, "there are no images with pages in it");
}

int cmd_dedup(struct cmd_opts *o)
{
	_cleanup_image_store_ struct image_store *store = NULL;
	uint64_t pages = 0;
	int r;

	r = image_store_open_dir(o->images_fd, &store);
	if (r >= 0)
		r = dedup_all(o->images_fd, store, &pages);
	if (r < 0) {
		fprintf(stderr, "cr: dedup failed: %s\n",
			log_first_error()[0] ? log_first_error() : strerror(-r));
		return 1;
	}
	printf("%" PRIu64 " pages given back\n", pages);
	return fflush(stdout) ? 1 : 0;
}
