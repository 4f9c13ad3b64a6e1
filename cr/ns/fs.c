/* What is known of filesystem types: their codes in images, how they are made anew. */
#include <string.h>

#include "ns/state.h"

static const struct fs_type {
	const char *name;
	uint32_t code;		/* AUTO: the name goes with it */
	bool rebuildable;	/* a fresh mount is equal, or filled from saved contents */
	bool contents;
	bool hosts_own;
} fs_types[] = {
	{ "proc", FSTYPE__PROC, true, false, false },
	{ "sysfs", FSTYPE__SYSFS, true, false, false },
	{ "devtmpfs", FSTYPE__DEVTMPFS, true, false, false },
	{ "tmpfs", FSTYPE__TMPFS, true, true, false },
	{ "ramfs", FSTYPE__AUTO, true, true, false },
	{ "devpts", FSTYPE__DEVPTS, true, false, false },
	{ "mqueue", FSTYPE__MQUEUE, true, false, true },
	{ "cgroup2", FSTYPE__CGROUP2, true, false, false },
	{ "hugetlbfs", FSTYPE__AUTO, false, false, true },
	{ "binfmt_misc", FSTYPE__BINFMT_MISC, false, false, true },
	{ "pstore", FSTYPE__PSTORE, true, false, true },
	{ "securityfs", FSTYPE__SECURITYFS, true, false, true },
	{ "fusectl", FSTYPE__FUSECTL, true, false, true },
	{ "debugfs", FSTYPE__DEBUGFS, true, false, true },
	{ "tracefs", FSTYPE__TRACEFS, true, false, true },
	{ "configfs", FSTYPE__AUTO, true, false, true },
	{ "efivarfs", FSTYPE__AUTO, true, false, true },
	{ "bpf", FSTYPE__AUTO, false, false, true },
	{ "selinuxfs", FSTYPE__AUTO, true, false, true },
	{ "nsfs", FSTYPE__AUTO, false, false, true },
	{ "rpc_pipefs", FSTYPE__AUTO, false, false, true },
	{ "autofs", FSTYPE__AUTOFS, false, false, true },
	{ "cgroup", FSTYPE__CGROUP, false, false, false },
	{ "overlay", FSTYPE__OVERLAYFS, false, false, false },
};

static const struct fs_type *fs_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(fs_types); i++)
		if (!strcmp(fs_types[i].name, name))
			return &fs_types[i];
	return NULL;
}

bool fs_is_rebuildable(const char *fstype)
{
	const struct fs_type *t = fs_find(fstype);

	return t && t->rebuildable;
}

bool fs_has_contents(const char *fstype)
{
	const struct fs_type *t = fs_find(fstype);

	return t && t->contents;
}

bool fs_is_volatile(const char *fstype)
{
	return fs_has_contents(fstype);
}

bool fs_is_hosts_own(const char *fstype)
{
	const struct fs_type *t = fs_find(fstype);

	return (t && t->hosts_own) || !strncmp(fstype, "fuse", 4);
}

uint32_t fs_to_code(const char *fstype)
{
	const struct fs_type *t = fs_find(fstype);

	return t ? t->code : (uint32_t)FSTYPE__AUTO;
}

const char *fs_from_entry(const MntEntry *e)
{
	if (e->fsname)
		return e->fsname;
	for (size_t i = 0; i < ARRAY_SIZE(fs_types); i++)
		if (fs_types[i].code == e->fstype && e->fstype != FSTYPE__AUTO)
			return fs_types[i].name;
	return e->fstype == FSTYPE__UNSUPPORTED ? FS_OF_DISK : NULL;
}
