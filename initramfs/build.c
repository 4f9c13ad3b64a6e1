/*
 * What goes into the initramfs of one upgrade, and where; see build.h. The early program looks
 * for it below /crkexec (CRKEXEC_INITRAMFS_DIR).
 *
 * The trap: the kernel does not make parent directories; each must come before its contents.
 */
#include "initramfs/build.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "initramfs/build_cpio.h"
#include "initramfs/build_unpack.h"
#include "util/io.h"
#include "util/log.h"

#define DIR_MODE	0700
/* Deep enough for UNIT and then some; a loop of bind mounts must end somewhere. */
#define DEPTH_MAX	16
#define MODULE_MAX_BYTES (256ull << 20)

static int add_file(struct cpio *c, int dirfd, const char *path, const char *name, mode_t mode)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return log_err(neg_errno(), "cannot open %s for the initramfs", path);
	return cpio_add_fd(c, name, mode, fd);
}

static int append(void *arg, const uint8_t *data, size_t n)
{
	const int *fd = arg;
	uint64_t at = (uint64_t)lseek(*fd, 0, SEEK_CUR);

	if (at + n > MODULE_MAX_BYTES)
		return -EFBIG;
	return write_full(*fd, data, n);
}

/*
 * Unpacked now, not in the blackout, and for kernels that cannot do it themselves
 * (CONFIG_MODULE_DECOMPRESS). A signature belongs to the unpacked bytes and stays valid.
 */
static int add_module(struct cpio *c, const char *path, const char *name)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int plain = memfd_create("module", MFD_CLOEXEC);
	struct stat st;
	void *map;
	ssize_t used;

	if (fd < 0 || fstat(fd, &st) < 0)
		return log_err(neg_errno(), "cannot open %s for the initramfs", path);
	if (plain < 0)
		return log_err(neg_errno(), "cannot make a memory file");
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return log_fail(-EINVAL, "%s is no module: not a file, or empty", path);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return log_err(neg_errno(), "cannot read %s", path);
	used = unpack(map, (size_t)st.st_size, append, &plain);
	munmap(map, (size_t)st.st_size);
	if (used == -EOPNOTSUPP)
		return cpio_add_fd(c, name, 0600, fd);
	if (used < 0)
		return log_err((int)used, "cannot unpack %s", path);
	return cpio_add_fd(c, name, 0600, plain);
}

static int add_modules(struct cpio *c, const struct initramfs_spec *spec)
{
	int r;

	if (!spec->n_modules)
		return 0;
	r = cpio_add_dir(c, "crkexec/modules", DIR_MODE);
	for (size_t i = 0; i < spec->n_modules && r == 0; i++) {
		const char *base = strrchr(spec->modules[i], '/');
		_cleanup_free_ char *name = NULL;

		base = base ? base + 1 : spec->modules[i];
		for (size_t j = 0; j < i; j++) {
			const char *other = strrchr(spec->modules[j], '/');

			if (!strcmp(other ? other + 1 : spec->modules[j], base))
				return log_fail(-EEXIST, "two modules are called %s", base);
		}
		name = str_fmt("crkexec/modules/%s", base);
		if (!name)
			return -ENOMEM;
		r = add_module(c, spec->modules[i], name);
	}
	return r;
}

/* The directories of a name; the kernel takes those that are there already. */
static int add_parents(struct cpio *c, const char *name)
{
	int r = 0;

	for (const char *p = name; (p = strchr(p, '/')) && r == 0; p++) {
		_cleanup_free_ char *dir = strndup(name, (size_t)(p - name));

		r = dir ? cpio_add_dir(c, dir, 0755) : -ENOMEM;
	}
	return r;
}

static int add_firmware(struct cpio *c, const struct initramfs_spec *spec)
{
	int r = 0;

	for (size_t i = 0; i < spec->n_firmware && r == 0; i++) {
		const char *name = spec->firmware[i] + 1;
		_cleanup_close_ int fd = open(spec->firmware[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			return log_err(neg_errno(), "cannot open %s for the initramfs", spec->firmware[i]);
		r = add_parents(c, name);
		if (r == 0)
			r = cpio_add_fd(c, name, 0644, fd);
	}
	return r;
}

static int add_tree(struct cpio *c, int dirfd, const char *prefix, int depth);

static int add_entry(struct cpio *c, int dirfd, const char *entry, const char *name, int depth)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *target = NULL;
	struct stat st;
	int r;

	if (fstatat(dirfd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return log_err(neg_errno(), "cannot stat %s", name);
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return add_file(c, dirfd, entry, name, st.st_mode);
	case S_IFLNK:
		r = readlink_at(dirfd, entry, &target);
		return r < 0 ? log_err(r, "cannot read the link %s", name)
			     : cpio_add_symlink(c, name, target);
	case S_IFDIR:
		fd = openat(dirfd, entry, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			return log_err(neg_errno(), "cannot open %s", name);
		r = cpio_add_dir(c, name, st.st_mode);
		return r < 0 ? r : add_tree(c, fd, name, depth + 1);
	default:
		return log_fail(-EINVAL, "%s is no file, directory or link: not for an initramfs",
				name);
	}
}

static int add_tree(struct cpio *c, int dirfd, const char *prefix, int depth)
{
	_cleanup_closedir_ DIR *dir = NULL;
	int fd, r = 0;

	if (depth > DEPTH_MAX)
		return log_fail(-ELOOP, "%s: directories nested too deep", prefix);
	fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || !(dir = fdopendir(fd)))
		return log_err(neg_errno(), "cannot list %s", prefix);
	while (r == 0) {
		_cleanup_free_ char *name = NULL;
		struct dirent *de;

		errno = 0;
		de = readdir(dir);
		if (!de)
			return errno ? log_err(neg_errno(), "cannot list %s", prefix) : 0;
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		name = str_fmt("%s/%s", prefix, de->d_name);
		if (!name)
			return -ENOMEM;
		r = add_entry(c, fd, de->d_name, name, depth);
	}
	return r;
}

int initramfs_build(const struct initramfs_spec *spec, int out_fd)
{
	uint64_t base_bytes = 0;
	struct cpio c;
	int r;

	if (spec->base_fd >= 0) {
		r = copy_fd(spec->base_fd, out_fd, &base_bytes);
		if (r < 0)
			return log_err(r, "cannot copy the distribution's initrd");
	}
	r = cpio_begin(&c, out_fd, base_bytes);
	if (r == 0 && spec->early_path)
		r = add_file(&c, AT_FDCWD, spec->early_path, "init", 0700);
	if (r == 0)
		r = cpio_add_dir(&c, "crkexec", DIR_MODE);
	if (r == 0)
		r = add_modules(&c, spec);
	if (r == 0)
		r = add_firmware(&c, spec);
	if (r == 0 && spec->manifest)
		r = cpio_add_data(&c, "crkexec/manifest.json", 0600, spec->manifest,
				  spec->manifest_bytes);
	if (r == 0 && spec->images_fd >= 0)
		r = add_tree(&c, spec->images_fd, "crkexec", 0);
	return r < 0 ? r : cpio_end(&c);
}
