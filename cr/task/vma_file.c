/*
 * The files behind memory areas.
 *
 * They are reached through /proc/PID/map_files, never by their path: the path may be gone or name
 * another file. Following such a link takes five calls, and a program has four or five areas of each
 * library, all its workers the same: a file is looked at once, and known again by what smaps says of it
 * (device, inode, path) within a mount namespace.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "task/uring_fds.h"
#include "task/vma.h"

#define URING_OFFSET	0x8000000ull	/* IORING_OFF_* are multiples */

/* Each io_uring has an inode of its own, and only a descriptor leads to it. */
static int vma_uring_file(struct dump_ctx *ctx, struct dump_process *p, const struct vma *v,
			  struct dump_file **ret)
{
	const struct uring_fd *u;
	size_t n;
	int r = uring_fds(ctx, p, &u, &n);

	if (r < 0)
		return r;
	/* The offset says which ring; it cannot begin in its middle. */
	if (v->pgoff & (URING_OFFSET - 1))
		return log_obstacle("map it as a whole, with one protection",
				    "memory at 0x%lx-0x%lx is a part of an io_uring's ring",
				    v->start, v->end);
	for (size_t i = 0; i < n; i++)
		if (u[i].ino == v->ino)
			return dump_file_get(ctx, p, u[i].t_fd, ret);
	return log_obstacle("keep the descriptor open in the program, or stop using io_uring in it",
			    "memory at 0x%lx-0x%lx is the ring of an io_uring without descriptor",
			    v->start, v->end);
}

/* A file that was found behind a mapping: what smaps says of it, and where. */
struct mapped_file {
	struct mapped_file *next;
	const struct vma *v;
	uint32_t mnt_ns_id, flags;
	struct dump_file *f;
};

static uint64_t mapped_key(const struct vma *v)
{
	return v->ino ^ (uint64_t)makedev(v->dev_major, v->dev_minor) << 40;
}

static struct dump_file *mapped_find(struct dump_ctx *ctx, const struct dump_process *p,
				     const struct vma *v, uint32_t flags)
{
	for (struct mapped_file *m = map_get(&ctx->mapped, mapped_key(v)); m; m = m->next)
		if (m->v->ino == v->ino && m->v->dev_major == v->dev_major &&
		    m->v->dev_minor == v->dev_minor && m->flags == flags &&
		    m->mnt_ns_id == p->ids->mnt_ns_id && !strcmp(m->v->path, v->path))
			return m->f;
	return NULL;
}

/*
 * Only if stat(2) and smaps speak of the same device. Elsewhere (btrfs, overlayfs) the numbers in smaps
 * may be those of several files.
 */
static int mapped_remember(struct dump_ctx *ctx, const struct dump_process *p, const struct vma *v,
			   uint32_t flags, struct dump_file *f)
{
	uint64_t key = mapped_key(v);
	struct mapped_file *m;

	if (f->st.st_ino != v->ino || f->st.st_dev != makedev(v->dev_major, v->dev_minor))
		return 0;
	m = ARENA_NEW(&ctx->arena, struct mapped_file);
	if (!m)
		return -ENOMEM;
	*m = (struct mapped_file){ map_get(&ctx->mapped, key), v, p->ids->mnt_ns_id, flags, f };
	return map_put(&ctx->mapped, key, m);
}

static int mapped_get(struct dump_ctx *ctx, struct dump_process *p, const struct vma *v,
		      const char *link, uint32_t flags, struct dump_file **ret)
{
	int r;

	*ret = mapped_find(ctx, p, v, flags);
	if (*ret)
		return 0;
	r = dump_file_get_link(ctx, p, link, flags, ret);
	return r < 0 ? r : mapped_remember(ctx, p, v, flags, *ret);
}

/* The parent's at the same place, if it is of the same piece of the same file. */
static const struct vma *vma_inherited(const struct dump_process *p, const struct vma *v)
{
	const struct vma *q = p->parent ? vma_find(p->parent, v->start) : NULL;

	return q && q->start == v->start && q->end == v->end && q->pgoff == v->pgoff && q->prot == v->prot &&
	       q->flags == v->flags && q->status == v->status && q->ino == v->ino &&
	       q->dev_major == v->dev_major && q->dev_minor == v->dev_minor && !strcmp(q->path, v->path) ? q : NULL;
}

/*
 * How the file was opened tells only the mode of its map_files link, which takes the kernel long to make. It
 * matters to shared memory that may become writable. What a child has as its parent, private and at the same
 * place, it has by fork(2), or as an equal program's loader has mapped it.
 */
static int open_flags(struct dump_process *p, const struct vma *v, const char *link, uint32_t *ret)
{
	const struct vma *q = v->flags & MAP_PRIVATE ? vma_inherited(p, v) : NULL;
	struct stat st;

	*ret = O_RDONLY;
	if (q) {
		*ret = q->fdflags;
		return 0;
	}
	if (fstatat(p->proc_fd, link, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return log_err(neg_errno(), "cannot look at /proc/%d/%s (%s)", p->pid, link, v->path);
	if (st.st_mode & 0200)
		*ret = st.st_mode & 0400 ? O_RDWR : O_WRONLY;
	return 0;
}

int vma_dump_file(struct dump_ctx *ctx, struct dump_process *p, struct vma *v, VmaEntry *e)
{
	char link[64];
	struct dump_file *f;
	int r;

	snprintf(link, sizeof(link), "map_files/%lx-%lx", v->start, v->end);
	r = open_flags(p, v, link, &v->fdflags);
	if (r < 0)
		return r;
	r = v->status & VMA_EXT ? vma_uring_file(ctx, p, v, &f) :
				  mapped_get(ctx, p, v, link, v->fdflags, &f);
	if (r < 0)
		return r;
	e->shmid = f->id;
	e->has_fdflags = true;
	e->fdflags = v->fdflags;
	/* Beside the file's bit, by which CRIU knows that it has to open something. */
	if (f->fe->type == FD_TYPES__MEMFD)
		e->status |= VMA_MEMFD;
	return 0;
}
