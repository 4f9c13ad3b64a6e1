/*
 * Block devices in /sys/dev/block: what lies under a file system. A device-mapper or md device
 * has "slaves"; a network disk has a driver whose work needs a network; a partition is a
 * directory inside its disk's.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>

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

int disk_is_plain(const char *majmin, char **ret_why)
{
	char path[PATH_MAX], real[PATH_MAX], slaves[PATH_MAX + 16];
	const char *name;

	snprintf(path, sizeof(path), "/sys/dev/block/%s", majmin);
	if (!realpath(path, real)) {
		*ret_why = str_fmt("block device %s is not in /sys", majmin);
		return 0;
	}
	snprintf(slaves, sizeof(slaves), "%s/slaves", real);
	name = strrchr(real, '/') + 1;
	if (has_entries(slaves) || str_starts(name, "dm-") || str_starts(name, "md")) {
		*ret_why = str_fmt("the root file system is on %s (LVM, RAID or encryption)", name);
		return 0;
	}
	if (path_is_remote(real)) {
		*ret_why = str_fmt("the root file system is on %s, which is reached over a network",
				   name);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(plain_names); i++)
		if (str_starts(name, plain_names[i]))
			return 1;
	*ret_why = str_fmt("the root file system is on %s, a kind of disk our initramfs does not know",
			   name);
	return 0;
}
