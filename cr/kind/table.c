#include <string.h>
#include <sys/vfs.h>
#include <linux/magic.h>

#include "kind/kinds.h"

const struct kind *const kinds[] = {
	/* What the operator named on the command line goes before everything. */
	&kind_external,
	&kind_unix,
	&kind_inet,
	&kind_netlink,
	&kind_packet,
	&kind_eventfd,
	&kind_eventpoll,
	&kind_timerfd,
	&kind_signalfd,
	&kind_io_uring,
	&kind_inotify,
	&kind_fanotify,
	&kind_pidfd,
	&kind_nsfile,
	&kind_pipe,
	/* "/memfd:..." looks like a path and has no name on any disk. */
	&kind_memfd,
	/* "/name" looks like a path, too. */
	&kind_mqueue,
	&kind_fifo,
	&kind_tty,
	&kind_reg,
	/* Matches everything. */
	&kind_refuse,
	NULL,
};

const struct kind *kind_by_type(FdTypes type)
{
	for (size_t i = 0; kinds[i]; i++)
		if (kinds[i]->type == type && kinds[i]->restore)
			return kinds[i];
	return NULL;
}

bool link_is_anon(const char *link, const char *what)
{
	size_t n = strlen(what);

	if (!str_starts(link, "anon_inode:"))
		return false;
	link += strlen("anon_inode:");
	if (*link == '[')
		return !strncmp(link + 1, what, n) && !strcmp(link + 1 + n, "]");
	return !strcmp(link, what);
}

uint64_t fs_magic(int fd)
{
	struct statfs s;

	return fstatfs(fd, &s) < 0 ? 0 : (uint64_t)(uint32_t)s.f_type;
}

bool fs_is_pseudo(uint64_t magic)
{
	static const uint32_t magics[] = {
		PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC,
		DEBUGFS_MAGIC, TRACEFS_MAGIC, SECURITYFS_MAGIC, SELINUX_MAGIC, EFIVARFS_MAGIC,
		PSTOREFS_MAGIC, BPF_FS_MAGIC, AUTOFS_SUPER_MAGIC, 0x62656570 /* configfs */,
		0x65735543 /* fusectl */, 0x7655821 /* resctrl */,
	};

	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (magics[i] == magic)
			return true;
	return false;
}
