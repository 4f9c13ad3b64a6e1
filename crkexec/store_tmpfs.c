/*
 * Images in the next kernel's initramfs. They are written to a tmpfs of their own, copied into
 * one file with the early program, which kexec_file_load(2) reads and copies once more: so
 * there must be room for them three times, and each copy is part of the blackout. Needs
 * nothing of the machine; for small trees.
 *
 * The trap: /run may be small (20 % of the memory by default), hence a tmpfs of its own; and a
 * mount that others see would become part of the very namespaces that are saved, so it is never
 * attached anywhere (fsmount(2), Linux 5.2). It ends with the processes that hold it.
 */
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

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

struct tmpfs_state {
	int fd;			/* root of the detached tmpfs */
};

static int state_fd(struct store *s)
{
	return ((struct tmpfs_state *)s->state)->fd;
}

static int mount_detached(uint64_t bytes)
{
	_cleanup_close_ int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	char size[32];
	int fd;

	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return neg_errno();
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
			  MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? neg_errno() : fd;
}

static int tmpfs_prepare(struct store *s, const struct store_need *needs, size_t n)
{
	struct tmpfs_state *state = calloc(1, sizeof(*state));

	if (!state)
		return -ENOMEM;
	s->state = state;
	/* Estimates may be low; what is not used is not taken. */
	state->fd = mount_detached(needs_total(needs, n) * 2 + (64u << 20));
	return state->fd < 0 ? log_err(state->fd, "cannot make a tmpfs for the images") : 0;
}

static void tmpfs_done(struct store *s)
{
	struct tmpfs_state *state = s->state;

	if (state)
		close_fdp(&state->fd);
	free(state);
	s->state = NULL;
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

static int tmpfs_tree_open(struct store *s, size_t unit, enum store_room room, struct image_store **ret)
{
	const char *dir = s->u->units[unit]->name;
	_cleanup_close_ int fd = -EBADF;

	if (room != ROOM_ALL)
		return -ENOENT;
	if (mkdirat(state_fd(s), dir, 0700) < 0)
		return log_err(neg_errno(), "cannot make a directory for the images of %s", dir);
	fd = openat(state_fd(s), dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot open the directory for the images of %s", dir);
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
	_cleanup_close_ int dirfd = openat(state_fd(s), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int initrd = -EBADF;
	int r;

	if (dirfd < 0)
		return log_err(neg_errno(), "cannot open the images");
	r = store_build_initramfs(s->u, text, bytes, dirfd, &initrd);
	if (r < 0)
		return r;
	/* Room for the loader's copies: the images are in the initramfs now. */
	close(take_fd(&dirfd));
	tmpfs_done(s);
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
	.done = tmpfs_done,
};
