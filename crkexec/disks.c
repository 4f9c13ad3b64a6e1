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

/* Of what lies on what: RAID, encryption, LVM, partitions. */
#define DEPTH_MAX	8

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

/*
 * A namespace that several NVMe controllers reach belongs to their subsystem, which is no device
 * (nvme_core.multipath): what they are reached by they say themselves. path: .../nvme-subsys0/nvme0n1
 */
static bool subsystem_is_remote(const char *path)
{
	const char *at = strstr(path, "/nvme-subsys"), *end = at ? strchr(at + 1, '/') : NULL;
	_cleanup_free_ char *pattern = end ? str_fmt("%.*s/nvme*/transport", (int)(end - path), path) : NULL;
	_cleanup_(globfree) glob_t g = { 0 };
	bool remote = false;

	if (!pattern || glob(pattern, GLOB_NOSORT, NULL, &g))
		return false;
	for (size_t i = 0; i < g.gl_pathc; i++) {
		_cleanup_free_ char *text = NULL;

		if (read_file_at(AT_FDCWD, g.gl_pathv[i], 64, &text, NULL) == 0)
			remote |= !str_starts(text, "pcie");
	}
	return remote;
}

/* iSCSI, Fibre Channel over Ethernet and the like pass through a session or a remote port. */
static bool path_is_remote(const char *path)
{
	return strstr(path, "/session") || strstr(path, "/rport-") || strstr(path, "/nvme-fabrics") ||
	       subsystem_is_remote(path);
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
	/* Nothing on this path tells a driver that brings it up. */
	if (str_starts(real, "/sys/devices/virtual/"))
		return "which several controllers reach";
	return is_one_of_many(name) ? "one of several disks of a btrfs" : NULL;
}

static bool is_remote(const char *link, int depth)
{
	_cleanup_free_ char *pattern = NULL;
	_cleanup_(globfree) glob_t g = { 0 };
	char real[PATH_MAX];
	bool remote;

	if (depth > DEPTH_MAX || !realpath(link, real))
		return false;
	remote = path_is_remote(real);
	pattern = str_fmt("%s/slaves/*", real);
	if (remote || !pattern || glob(pattern, GLOB_NOSORT, NULL, &g))
		return remote;
	for (size_t i = 0; i < g.gl_pathc && !remote; i++)
		remote = is_remote(g.gl_pathv[i], depth + 1);
	return remote;
}

bool disk_is_remote(dev_t dev)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	return is_remote(path, 0);
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
