/*
 * The host's mounts for the manifest. The trees' mount namespaces are rebuilt over them, so the early
 * program needs all that outlast a process; it passes over those that it has made itself.
 */
#include <dirent.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "crkexec/machine.h"
#include "crkexec/upgrade.h"
#include "kernel/mountinfo.h"
#include "util/io.h"
#include "util/log.h"

#define KEEP_FLAGS	(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS |	\
			 MS_MANDLOCK | MS_DIRSYNC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME |	\
			 MS_STRICTATIME | MS_LAZYTIME)

/* Containers' layers are many, and the chosen services' own are refused by name. */
#define LATE_WARNED	8

/* The trap: an autofs mount point belongs to a systemd that will not be there yet. */
static bool is_others(const char *fstype)
{
	static const char *const others[] = {
		"autofs", "binfmt_misc", "nsfs", "rpc_pipefs", "nfsd", "efivarfs", "cgroup", "cgroup2",
	};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (!strcmp(fstype, others[i]))
			return true;
	return false;
}

bool mount_is_skipped(const char *target)
{
	static const char *const below[] = { "/run/user", "/run/credentials", CRKEXEC_RUN_DIR };

	for (size_t i = 0; i < ARRAY_SIZE(below); i++)
		if (path_below(target, below[i]))
			return true;
	return false;
}

/* The link in dir that leads to the device, with a word before it; NULL: none. */
static char *source_by(const char *word, const char *dir, dev_t dev)
{
	_cleanup_closedir_ DIR *d = opendir(dir);
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && fstatat(dirfd(d), e->d_name, &st, 0) == 0 &&
		    S_ISBLK(st.st_mode) && st.st_rdev == dev)
			return str_fmt("%s%s", word, e->d_name);
	return NULL;
}

/* Whose UUID the early program finds on the disk (early_probe.c). */
static bool has_known_uuid(const char *fstype)
{
	static const char *const known[] = { "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat" };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(fstype, known[i]))
			return true;
	return false;
}

/* As udev found it, so that a disk may change its name: the file system, or its partition; else the device's path. */
static char *device_source(const struct mount *mt)
{
	char *source = NULL;
	dev_t dev;

	if (mount_block_device(mt, &dev)) {
		if (has_known_uuid(mt->fstype))
			source = source_by("UUID=", "/dev/disk/by-uuid", dev);
		if (!source)
			source = source_by("PARTUUID=", "/dev/disk/by-partuuid", dev);
	}
	return source ? source : strdup(mt->source);
}

/* mountinfo shows what mount(2) does not take back. */
static char *mount_options(const char *options)
{
	_cleanup_free_ char *copy = strdup(options);
	char *out = calloc(1, strlen(options) + 1), *save = NULL;

	if (!copy || !out) {
		free(out);
		return NULL;
	}
	for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
		if (!strcmp(s, "seclabel") || !strcmp(s, "rw") || !strcmp(s, "ro"))
			continue;
		if (*out)
			strcat(out, ",");
		strcat(out, s);
	}
	return out;
}

static int add_mount(struct manifest *m, struct arena *a, const struct mount_table *t,
		     const struct mount *mt)
{
	struct manifest_mount *v = reallocarray(m->mounts, m->n_mounts + 1, sizeof(*v));
	uint64_t flags = (mt->flags | mt->sb_flags) & KEEP_FLAGS;
	char *source;

	if (!v)
		return -ENOMEM;
	m->mounts = v;
	if (!mount_is_whole(t, mt)) {
		source = mount_bind_source(a, t, mt);
		if (!source)
			return 0;	/* of the kernel's own, which no path leads to */
		source = strdup(source);
		flags = (mt->flags & KEEP_FLAGS) | MS_BIND;
	} else {
		source = str_starts(mt->source, "/dev/") ? device_source(mt) : strdup(mt->source);
	}
	v += m->n_mounts++;
	*v = (struct manifest_mount){
		.source = source, .target = strdup(mt->mountpoint), .fstype = strdup(mt->fstype),
		.options = flags & MS_BIND ? strdup("") : mount_options(mt->options), .flags = flags,
	};
	return v->source && v->target && v->fstype && v->options ? 0 : -ENOMEM;
}

int mounts_read(struct upgrade *u, struct manifest *m)
{
	struct host_mounts h;
	size_t n_late = 0;
	int r = host_mounts_read(&h);

	for (size_t i = 0; r == 0 && i < h.table.n; i++) {
		const struct mount *mt = &h.table.mounts[i];

		if (mount_is_skipped(mt->mountpoint) || mt->deleted || is_others(mt->fstype))
			continue;
		if (h.late[i] && n_late++ >= LATE_WARNED)
			continue;
		if (h.late[i])
			upgrade_warn(u, "%s (%s) is mounted only after the services are back",
				     mt->mountpoint, h.late[i]);
		else
			r = add_mount(m, &h.arena, &h.table, mt);
	}
	if (n_late > LATE_WARNED)
		upgrade_warn(u, "%zu more file systems are mounted only after the services are back",
			     n_late - LATE_WARNED);
	host_mounts_done(&h);
	return r;
}
