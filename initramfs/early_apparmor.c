/*
 * AppArmor profiles of the trees, which their threads take again when they are restored: as the old kernel
 * gave them back (apparmor.c). Binaries of other versions are the kernel's to judge.
 */
#include <fcntl.h>
#include <string.h>

#include "initramfs/early_store.h"
#include "util/io.h"
#include "util/log.h"

/* The trap: a policy is what one write(2) brings. */
static int load(const void *data, size_t bytes)
{
	_cleanup_close_ int fd = open("/sys/kernel/security/apparmor/.replace", O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, data, bytes);

	return n < 0 ? neg_errno() : (size_t)n == bytes ? 0 : -EIO;
}

static int load_image(const struct manifest_tree *t, struct early_images *images, unsigned int number)
{
	_cleanup_free_ char *name = str_fmt("apparmor-%u.img", number);
	struct image_reader rd;
	int r = name ? early_images_file(t, images, name, &rd) : -ENOMEM;

	if (r < 0)
		return r;
	r = load(rd.data, rd.bytes);
	image_reader_done(&rd);
	return r;
}

static void load_unit(struct early *e, struct manifest_unit *u)
{
	struct early_images images = EARLY_IMAGES_INIT;
	int r = u->n_trees ? early_images_open_files(e, u->trees, &images) : -EBADMSG;

	for (size_t i = 0; i < u->n_profiles && u->outcome != OUTCOME_COLD; i++) {
		if (r == 0)
			r = load_image(u->trees, &images, (unsigned int)i);
		if (r < 0)
			early_mark_cold(u, "cannot load the AppArmor profile %s: %s", u->profiles[i],
					*log_first_error() ? log_first_error() : strerror(-r));
	}
	early_images_close(&images);
}

int early_apparmor(struct early *e)
{
	for (size_t i = 0; i < e->manifest->n_units; i++) {
		struct manifest_unit *u = &e->manifest->units[i];

		/* Each unit's first error is its own. */
		log_init(LOGLEVEL_INFO, e->log_fd);
		if (u->n_profiles && u->outcome != OUTCOME_COLD)
			load_unit(e, u);
	}
	return 0;
}
