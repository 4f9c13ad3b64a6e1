/*
 * Block devices in /sys/dev/block: what lies under a file system. A device-mapper or md device
 * has "slaves"; a network disk has a driver whose work needs a network; a partition is a
 * directory inside its disk's. btrfs on several disks wants all of them made known before it is mounted.
 */
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "crkexec/machine.h"
#include "util/io.h"

/* Kernel name, or its beginning, of disks that our own initramfs brings up by modules alone. */
static const char *const plain_names[] = { "vd", "sd", "nvme", "xvd", "mmcblk", "hd", "pmem" };

static bool has_entries(const char *path)
{
	_cleanup_closedir_ DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			return true;
	return false;
}

/* iSCSI, Fibre Channel over Ethernet and the like pass through a session or a remote port. */
static bool path_is_remote(const char *path)
{
	return strstr(path, "/session") || strstr(path, "/rport-") || strstr(path, "/nvme-fabrics");
}

static bool is_known(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(plain_names); i++)
		if (str_starts(name, plain_names[i]))
			return true;
	return false;
}

/* Is it one of several disks of a mounted btrfs? /sys/fs/btrfs/UUID/devices/NAME */
static bool is_one_of_many(const char *name)
{
	_cleanup_(globfree) glob_t g = { 0 };
	_cleanup_free_ char *pattern = str_fmt("/sys/fs/btrfs/*/devices/%s", name);
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	size_t n = 0;

	if (!pattern || glob(pattern, GLOB_NOSORT, NULL, &g) || !g.gl_pathc)
		return false;
	*strrchr(g.gl_pathv[0], '/') = '\0';
	d = opendir(g.gl_pathv[0]);
	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.';
	return n > 1;
}

/* NULL: plain. */
static const char *why_not_plain(const char *real)
{
	const char *name = strrchr(real, '/') + 1;
	_cleanup_free_ char *slaves = str_fmt("%s/slaves", real);

	if (!slaves || has_entries(slaves) || str_starts(name, "dm-") || str_starts(name, "md"))
		return "which is LVM, RAID or encryption";
	if (path_is_remote(real))
		return "which is reached over a network";
	if (!is_known(name))
		return "a kind of disk crkexec's initramfs does not know";
	return is_one_of_many(name) ? "one of several disks of a btrfs" : NULL;
}

int disk_is_plain(dev_t dev, char **ret_why)
{
	char path[64], real[PATH_MAX];
	const char *why;

	*ret_why = NULL;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	if (!realpath(path, real)) {
		*ret_why = str_fmt("block device %u:%u, which is not in /sys", major(dev), minor(dev));
		return *ret_why ? 0 : -ENOMEM;
	}
	why = why_not_plain(real);
	if (!why)
		return 1;
	*ret_why = str_fmt("%s, %s", strrchr(real, '/') + 1, why);
	return *ret_why ? 0 : -ENOMEM;
}
