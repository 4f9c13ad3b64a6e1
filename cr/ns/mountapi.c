/* System calls of the new mount interface that Debian 12's C library does not name. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include "ns/mountapi.h"
#include "ns/state.h"

int sys_open_tree(int dirfd, const char *path, unsigned int flags)
{
	int fd = (int)syscall(SYS_open_tree, dirfd, path,
			      flags | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT |
			      (*path ? 0 : AT_EMPTY_PATH));

	return fd < 0 ? neg_errno() : fd;
}

int sys_move_mount(int from_fd, int to_fd, const char *to_path, unsigned int flags)
{
	long r = syscall(SYS_move_mount, from_fd, "", to_fd, to_path,
			 flags | MOVE_MOUNT_F_EMPTY_PATH |
			 (*to_path ? 0 : MOVE_MOUNT_T_EMPTY_PATH));

	return r < 0 ? neg_errno() : 0;
}

static int reopen(int fd, int flags)
{
	char path[40];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = open(path, flags & ~O_NOFOLLOW);
	return r < 0 ? neg_errno() : r;
}

int open_on_mount(int mount_fd, const char *rel, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_NO_XDEV | RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
			   RESOLVE_NO_MAGICLINKS,
	};
	int fd = (int)syscall(SYS_openat2, mount_fd, *rel ? rel : ".", &how, sizeof(how));

	if (fd >= 0)
		return fd;
	/* A file that is mounted has no ".". */
	return !*rel && errno == ENOTDIR ? reopen(mount_fd, flags | O_CLOEXEC) : neg_errno();
}
