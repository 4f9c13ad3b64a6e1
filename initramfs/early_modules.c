/*
 * Kernel modules and sysctls, in the order the manifest gives.
 *
 * The builder has unpacked them, whatever their names say. One that is compressed is for the
 * kernel to unpack (MODULE_INIT_COMPRESSED_FILE, Linux 5.17 with CONFIG_MODULE_DECOMPRESS). The
 * trap: it wants to be told, it does not look at the magic.
 */
#include "initramfs/early.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/io.h"
#include "util/log.h"

#define MODULES_DIR		CRKEXEC_INITRAMFS_DIR "/modules"
#define INIT_COMPRESSED_FILE	4
/* Without a manifest the order is unknown: so often are those tried again that failed. */
#define BLIND_ROUNDS		8

static int load(const char *name, const char *options)
{
	_cleanup_free_ char *path = str_fmt(MODULES_DIR "/%s", name);
	_cleanup_close_ int fd = -EBADF;
	char magic[SELFMAG];
	bool plain;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return neg_errno();
	plain = pread(fd, magic, SELFMAG, 0) == SELFMAG && !memcmp(magic, ELFMAG, SELFMAG);
	if (syscall(SYS_finit_module, fd, options, plain ? 0 : INIT_COMPRESSED_FILE) &&
	    errno != EEXIST)
		return neg_errno();
	return 0;
}

static int load_round(size_t *ret_failed)
{
	_cleanup_closedir_ DIR *dir = opendir(MODULES_DIR);
	struct dirent *de;

	*ret_failed = 0;
	if (!dir)
		return errno == ENOENT ? 0 : neg_errno();
	while ((de = readdir(dir)))
		if (de->d_name[0] != '.' && load(de->d_name, "") < 0)
			(*ret_failed)++;
	return 0;
}

static int load_blindly(void)
{
	size_t failed = 0, before = SIZE_MAX;
	int r = 0;

	for (int i = 0; i < BLIND_ROUNDS && failed < before && r == 0; i++) {
		before = i ? failed : SIZE_MAX;
		r = load_round(&failed);
		if (!failed)
			break;
	}
	if (failed)
		log_warn("%zu modules could not be loaded", failed);
	return r;
}

static void load_all(char *const *modules, size_t n)
{
	/* One that fails may not be needed after all: what depends on it will say so. */
	for (size_t i = 0; i < n; i++) {
		size_t name_bytes = strcspn(modules[i], " ");
		_cleanup_free_ char *name = strndup(modules[i], name_bytes);
		int r = !name ? -ENOMEM : strchr(name, '/') ? -EBADMSG :
			load(name, modules[i] + name_bytes + (modules[i][name_bytes] != '\0'));

		if (r < 0)
			log_err(r, "cannot load module %s", modules[i]);
	}
}

int early_modules(struct early *e)
{
	if (!e->manifest)
		return load_blindly();
	load_all(e->manifest->modules, e->manifest->n_modules);
	return 0;
}

/*
 * Beside the others. What both lists name is loaded by one of the two processes; the kernel lets
 * the other wait until it is there (finit_module(2), EEXIST).
 */
int early_network_modules(struct early *e)
{
	load_all(e->manifest->network_modules, e->manifest->n_network_modules);
	return 0;
}

static int set_sysctl(const char *setting)
{
	const char *value = strchr(setting, '=');
	_cleanup_free_ char *path = NULL;
	size_t key;

	if (!value || value == setting || strstr(setting, ".."))
		return -EINVAL;
	key = value - setting;
	path = str_fmt("/proc/sys/%.*s", (int)key, setting);
	if (!path)
		return -ENOMEM;
	/* As sysctl(8): '.' separates, a '/' in a name stands for a dot. */
	for (char *p = path + strlen("/proc/sys/"); *p; p++)
		*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
	return write_file_at(AT_FDCWD, path, value + 1);
}

static int set_all(const struct manifest *m, bool loud)
{
	for (size_t i = 0; i < m->n_sysctls; i++) {
		int r = set_sysctl(m->sysctls[i]);

		if (r < 0 && loud)
			log_err(r, "cannot set sysctl %s", m->sysctls[i]);
	}
	return 0;
}

int early_sysctls(struct early *e)
{
	/* Those of interfaces and modules that are still to come fail now. */
	return set_all(e->manifest, false);
}

int early_sysctls_again(struct early *e)
{
	return set_all(e->manifest, true);
}
