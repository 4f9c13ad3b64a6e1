/*
 * Paths of a dumped process: does a name still lead to the file it once opened?
 *
 * /proc links give the path from the reader's root or, for a mount outside of it, from the top
 * of that mount's namespace. Looking a name up in the process's view goes through
 * /proc/PID/root; such names contain no symbolic links, so none is followed into our own root.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "core/files.h"
#include "kernel/mountinfo.h"
#include "ns/ns.h"

static bool same_mount_ns(const struct dump_process *p)
{
	return p->ids->mnt_ns_id == p->ctx->root_ids->mnt_ns_id;
}

/*
 * The directory to start at and the rest of the path relative to it ("." for the directory
 * itself). -ENOENT when the name is outside of what the process's root shows.
 */
static int path_base(struct dump_process *p, const char *path, int mnt_id, int *ret_fd,
		     const char **ret_rest)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *root = NULL;
	const char *rest;
	int r;

	if (path[0] != '/')
		return -EINVAL;
	r = ns_dump_path_base(p->ctx, path, mnt_id, ret_fd, ret_rest);
	if (r != -ENOENT)
		return r;
	/* Opened before the namespace was made: on the host's mount, whatever covers it here. */
	if (same_mount_ns(p) || (mnt_id > 0 && !ns_dump_mount_is_known(p->ctx, mnt_id))) {
		fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		rest = path + 1;
	} else {
		r = readlink_at(p->proc_fd, "root", &root);
		if (r < 0)
			return r;
		rest = path_below(path, root);
		if (!rest)
			return -ENOENT;
		fd = openat(p->proc_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return neg_errno();
	*ret_fd = take_fd(&fd);
	*ret_rest = *rest ? rest : ".";
	return 0;
}

int dump_path_names(struct dump_process *p, const char *path, int mnt_id, const struct stat *st)
{
	_cleanup_close_ int base = -EBADF;
	const char *rest;
	struct stat now;
	int r;

	r = path_base(p, path, mnt_id, &base, &rest);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (fstatat(base, rest, &now, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : neg_errno();
	return now.st_ino == st->st_ino && now.st_dev == st->st_dev;
}

int dump_open_dir(struct dump_process *p, const char *path, int mnt_id, int *ret_fd)
{
	_cleanup_close_ int base = -EBADF;
	const char *rest;
	int r, fd;

	r = path_base(p, path, mnt_id, &base, &rest);
	if (r < 0)
		return r;
	fd = openat(base, *rest ? rest : ".", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return neg_errno();
	*ret_fd = fd;
	return 0;
}
