/*
 * memfd_create(2), and shared anonymous memory, which is the same thing without descriptor:
 * a file of the kernel's own tmpfs or hugetlbfs.
 *
 *   dump     one memfd_inode_entry an inode (memfd.img), the data that is present as
 *            pagemap-shmem-N (shmem.c); one memfd_file_entry a struct file
 *   restore  shmem.c makes and fills the inode; the first struct file for reading and writing is
 *            the one that made it, the others are opened from it
 *   finish   seals, when every mapping exists
 *
 * The file that memfd_create(2) returns does not count as a writer of its inode, as one that is
 * opened does: a program may be executed, and set as executable, only where nobody writes.
 *
 * A file on hugetlbfs whose name was removed is saved as a memfd with huge pages.
 *
 * A link "/memfd:name (deleted)" looks like a file that was removed.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>

#include "kind/kinds.h"
#include "kind/shmem.h"

#define MEMFD_NAME_MAX 249

static bool is_anon_memory(const char *link)
{
	return !strcmp(link, "/dev/zero (deleted)") || !strcmp(link, "/anon_hugepage (deleted)");
}

static bool memfd_match(const struct dump_file *f)
{
	uint64_t magic;

	if (!S_ISREG(f->st.st_mode) || f->st.st_nlink)
		return false;
	magic = fs_magic(f->fd);
	/* A removed file on a mounted hugetlbfs as well: nobody can tell the difference. */
	if (magic == HUGETLBFS_MAGIC)
		return true;
	/* A file of the same name on a disk that was removed is none. */
	return magic == TMPFS_MAGIC &&
	       (str_starts(f->link, "/memfd:") || is_anon_memory(f->link));
}

static int memfd_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	MemfdFileEntry *e = ARENA_MSG(&ctx->arena, MemfdFileEntry, memfd_file_entry);
	const char *name = f->link;
	char *copy;
	size_t n;
	int r;

	if (!e)
		return log_err(-ENOMEM, "%s", f->link);
	f->fe->memfd = e;
	e->id = f->id;
	e->flags = f->flags;
	e->pos = f->pos;
	if (f->flags & O_PATH)
		return log_obstacle("close it before", "%s: opened with O_PATH", f->link);
	if (str_starts(name, "/memfd:"))
		name += strlen("/memfd:");
	n = strlen(name) - strlen(" (deleted)");
	/* Of a path as much of its end as memfd_create() takes. */
	name += n - MIN(n, (size_t)MEMFD_NAME_MAX);
	n = MIN(n, (size_t)MEMFD_NAME_MAX);
	copy = arena_strndup(&ctx->arena, name, n);
	if (!copy)
		return log_err(-ENOMEM, "%s", f->link);
	r = shmem_dump_inode(ctx, f->fd, &f->st, copy, &e->inode_id);
	return r < 0 ? r : dump_fown(ctx, f, &e->fown);
}

static int memfd_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const MemfdFileEntry *e = f->fe->memfd;
	_cleanup_close_ int fd = -EBADF;
	int r, inode_fd;

	if ((e->flags & O_ACCMODE) > O_RDWR || e->pos > INT64_MAX)
		return log_fail(-EBADMSG, "flags %o or position are out of range", e->flags);
	r = shmem_restore_inode(ctx, e->inode_id, &inode_fd);
	if (r < 0)
		return r;
	r = 0;
	if ((e->flags & O_ACCMODE) == O_RDWR)
		r = shmem_take_file(ctx, e->inode_id, &fd);
	if (!r)
		r = reopen_fd(inode_fd, (int)(e->flags & O_ACCMODE) | O_LARGEFILE, &fd);
	if (r < 0)
		return log_err(r, "cannot open memfd inode %u with flags %o", e->inode_id,
			       e->flags);
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	if (e->pos && lseek(fd, (off_t)e->pos, SEEK_SET) < 0)
		return log_err(neg_errno(), "cannot seek to %llu", (unsigned long long)e->pos);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int memfd_finish(struct restore_ctx *ctx, struct restore_file *f)
{
	return shmem_seal(ctx, f->fe->memfd->inode_id);
}

const struct kind kind_memfd = {
	.name = "memfd",
	.type = FD_TYPES__MEMFD,
	.match = memfd_match,
	.dump = memfd_dump,
	.dump_end = shmem_dump_end,
	.dump_done = shmem_dump_done,
	.prepare = shmem_prepare,
	.restore = memfd_restore,
	.finish = memfd_finish,
	.restore_done = shmem_restore_done,
};
