/*
 * Images in the next kernel's initramfs. They are written to a tmpfs of their own, copied into
 * one file with the early program, which kexec_file_load(2) reads and copies once more: so
 * there must be room for them three times, and each copy is part of the blackout. Needs
 * nothing of the machine; for small trees.
 *
 * The trap: /run may be small (20 % of the memory by default), hence the own tmpfs.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "crkexec/load.h"
#include "crkexec/memory.h"
#include "crkexec/upgrade.h"
#include "util/io.h"
#include "util/log.h"

#define COPIES		3u
/* Kernel image twice, early program and modules: what a load takes besides the images. */
#define LOAD_BYTES	(192ull << 20)
/* An initrd lies below 4 GiB minus what else is there, and newc has 32-bit sizes. */
#define CARRY_MAX_BYTES	(2ull << 30)

static uint64_t needs_total(const struct store_need *needs, size_t n)
{
	uint64_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += needs[i].bytes;
	return total;
}

static int tmpfs_plan(struct store *s, const struct store_need *needs, size_t n, char **ret_why)
{
	uint64_t images = needs_total(needs, n), need = images * COPIES + LOAD_BYTES, have;
	int r = memory_available(&have);

	(void)s;
	if (r < 0)
		return r;
	if (images > CARRY_MAX_BYTES) {
		*ret_why = str_fmt("an initramfs can carry %s of images, %s are needed",
				   bytes_text(CARRY_MAX_BYTES), bytes_text(images));
		return -EFBIG;
	}
	if (need > have) {
		*ret_why = str_fmt("%s of memory are needed (%u times %s of images, and %s for the "
				   "kernel), %s are available", bytes_text(need), COPIES,
				   bytes_text(images), bytes_text(LOAD_BYTES), bytes_text(have));
		return -ENOMEM;
	}
	return 0;
}

static char *images_dir(struct store *s)
{
	return str_fmt("%s/images", s->u->run_dir);
}

static int tmpfs_prepare(struct store *s, const struct store_need *needs, size_t n)
{
	/* Estimates may be low; what is not used is not taken. */
	uint64_t bytes = needs_total(needs, n) * 2 + (64u << 20);
	_cleanup_free_ char *dir = images_dir(s), *options = NULL;
	int r;

	options = str_fmt("mode=0700,size=%llu", (unsigned long long)bytes);
	if (!dir || !options)
		return -ENOMEM;
	r = undo_push(&s->u->undo, "umount", dir);
	if (r < 0)
		return r;
	if (mkdir(dir, 0700) < 0 ||
	    mount("crkexec", dir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0)
		return log_err(neg_errno(), "cannot mount a tmpfs on %s", dir);
	return 0;
}

static int tmpfs_cmdline(struct store *s, char **ret_words, char **ret_suffix)
{
	(void)s;
	*ret_words = strdup("");
	*ret_suffix = strdup("");
	return *ret_words && *ret_suffix ? 0 : -ENOMEM;
}

static int tmpfs_load(struct store *s)
{
	_cleanup_close_ int initrd = -EBADF;
	int r = store_build_initramfs(s->u, NULL, 0, -1, &initrd);

	return r < 0 ? r : load_kernel(s->u, initrd);
}

static int tmpfs_tree_open(struct store *s, size_t unit, size_t tree, struct image_store **ret)
{
	_cleanup_free_ char *name = NULL, *dir = images_dir(s), *unit_dir = NULL, *path = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r = store_tree_dir(s->u, unit, tree, &name);

	if (r < 0)
		return r;
	unit_dir = str_fmt("%s/%s", dir, s->u->units[unit]->name);
	path = str_fmt("%s/%s", dir, name);
	if (!dir || !unit_dir || !path)
		return -ENOMEM;
	if ((mkdir(unit_dir, 0700) < 0 && errno != EEXIST) || mkdir(path, 0700) < 0)
		return log_err(neg_errno(), "cannot make %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot open %s", path);
	return image_store_open_dir(fd, ret);
}

static int add_image(void *arg, const char *name, uint64_t bytes, uint64_t hash)
{
	struct manifest_tree *t = arg;
	struct manifest_image *v = reallocarray(t->images, t->n_images + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	t->images = v;
	v += t->n_images;
	*v = (struct manifest_image){ .name = strdup(name), .bytes = bytes, .hash = hash };
	if (!v->name)
		return -ENOMEM;
	t->n_images++;
	return 0;
}

static int tmpfs_tree_done(struct store *s, struct image_store *images, struct manifest_tree *t)
{
	int r = t ? image_store_each_file(images, add_image, t) : 0;

	(void)s;
	image_store_close(images);
	return r < 0 ? log_err(r, "cannot read the images back") : 0;
}

static int tmpfs_commit(struct store *s, const char *text, size_t bytes)
{
	_cleanup_free_ char *dir = images_dir(s);
	_cleanup_close_ int dirfd = -EBADF, initrd = -EBADF;
	int r;

	dirfd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (dirfd < 0)
		return log_err(neg_errno(), "cannot open the images");
	r = store_build_initramfs(s->u, text, bytes, dirfd, &initrd);
	if (r < 0)
		return r;
	/* Room for the loader's copies: the images are in the initramfs now. */
	close(take_fd(&dirfd));
	if (umount2(dir, MNT_DETACH) < 0)
		log_warn("cannot unmount %s: %m", dir);
	return load_kernel(s->u, initrd);
}

const struct store_ops store_tmpfs = {
	.name = "tmpfs",
	.kind = STORE_TMPFS,
	.plan = tmpfs_plan,
	.prepare = tmpfs_prepare,
	.cmdline = tmpfs_cmdline,
	.load = tmpfs_load,
	.tree_open = tmpfs_tree_open,
	.tree_done = tmpfs_tree_done,
	.commit = tmpfs_commit,
};
