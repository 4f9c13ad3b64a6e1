/*
 * Opening the paths that images name, in the tree's view of the file system.
 *
 * The one trap: the engine is root and the path may have been prepared by someone else. Paths
 * were canonical when they were saved, so no symbolic link is followed on the way.
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "kernel/mountinfo.h"
#include "ns/ns.h"

int restore_open(struct restore_ctx *ctx, const char *path, int mnt_id, int flags, int *ret_fd)
{
	struct open_how how = { .resolve = RESOLVE_NO_SYMLINKS };
	int fd;

	if (!path_is_normal(path))
		return -EBADMSG;
	/* openat2(2) refuses what open(2) ignores. */
	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW;
	else
		flags |= O_NOCTTY;
	flags |= O_CLOEXEC;
	how.flags = (uint32_t)flags;
	if (ctx->ns_state) {
		fd = ns_open_path(ctx, path, mnt_id, flags);
		if (fd < 0)
			return fd;
		*ret_fd = fd;
		return 0;
	}
	/* A symbolic link itself is opened with O_PATH | O_NOFOLLOW; the kernel allows that. */
	fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
	if (fd < 0)
		return neg_errno();
	*ret_fd = fd;
	return 0;
}
