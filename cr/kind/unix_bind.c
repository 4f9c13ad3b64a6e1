/*
 * Names of unix sockets: bind(2) and connect(2) as the tree sees its file system.
 *
 * The address must be the very bytes the program gave: a relative name is bound from its
 * directory. A stale socket file of that name (the dumped process left it) is replaced; one
 * that somebody listens on is not. Where the name does not lead to the file: unix_apart.c.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kind/sk_unix.h"
#include "ns/ns.h"

int usk_sockaddr(const UnixSkEntry *e, struct sockaddr_un *ret, socklen_t *ret_len)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!e->name.len || e->name.len > sizeof(ret->sun_path))
		return -EINVAL;
	memcpy(ret->sun_path, e->name.data, e->name.len);
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + e->name.len);
	/* Paths end in NUL and count it, if there is room. */
	if (ret->sun_path[0] && e->name.len < sizeof(ret->sun_path))
		++*ret_len;
	return 0;
}

/* Being where the name is valid: the tree's mounts, the name's directory. */
struct place {
	struct restore_ctx *ctx;
	int cwd;
	bool entered;
};

static int place_enter(struct restore_ctx *ctx, const struct usk *at, const UnixSkEntry *e,
		       struct place *p)
{
	const struct restore_process *owner = at->f->owner;
	int r;

	*p = (struct place){ .ctx = ctx, .cwd = -EBADF };
	if (!e->name.len || !e->name.data[0])
		return 0;
	p->cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->cwd < 0)
		return log_err(neg_errno(), "cannot open the working directory");
	if (ctx->ns_state) {
		r = ns_enter_mnt(ctx, owner && owner->ids ? owner->ids->mnt_ns_id : 0);
		if (r < 0)
			return log_err(r, "cannot enter the tree's mount namespace");
		p->entered = true;
	}
	if (e->name.data[0] != '/' && e->name_dir && chdir(e->name_dir) < 0)
		return log_err(neg_errno(), "cannot go to %s", e->name_dir);
	return 0;
}

static void place_leave(struct place *p)
{
	if (p->entered && ns_leave_mnt(p->ctx) < 0)
		log_warn("cannot leave the tree's mount namespace");
	if (p->cwd >= 0 && fchdir(p->cwd) < 0)
		log_warn("cannot go back to the working directory: %s", strerror(errno));
	close_fdp(&p->cwd);
}

/* Without the diag module nobody can tell: then the file counts as stale. */
static bool is_in_use(const struct stat *st)
{
	struct arena a;
	struct map all = { 0 };
	bool found = false;
	uint32_t dev = major(st->st_dev) << 20 | minor(st->st_dev);

	arena_init(&a);
	if (!sockdiag_sweep(SOCKDIAG_UNIX, &a, &all))
		for (size_t i = 0; i < all.room && !found; i++) {
			const struct sockdiag *d = all.slots[i].val;

			found = d && d->has_vfs && d->vfs_ino == (uint32_t)st->st_ino &&
				d->vfs_dev == dev &&
				(d->state == UNIX_LISTEN || d->type == SOCK_DGRAM);
		}
	map_done(&all);
	arena_done(&a);
	return found;
}

int usk_make_way(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : log_err(neg_errno(), "cannot look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return log_fail(-EEXIST, "%s is not a socket: will not replace it", path);
	if (is_in_use(&st))
		return log_fail(-EADDRINUSE, "%s is in use by another process", path);
	if (unlink(path) < 0)
		return log_err(neg_errno(), "cannot remove the old %s", path);
	return 0;
}

int usk_set_perms(struct restore_ctx *ctx, const UnixSkEntry *e, const char *path)
{
	const FilePermsEntry *p = e->file_perms;

	if (!p)
		return 0;
	if (fchownat(AT_FDCWD, path, ns_restore_uid(ctx, p->uid), ns_restore_gid(ctx, p->gid),
		     AT_SYMLINK_NOFOLLOW) < 0 || chmod(path, p->mode & 07777) < 0)
		return log_err(neg_errno(), "cannot set owner and mode of %s", path);
	return 0;
}

static int bind_path(struct restore_ctx *ctx, struct usk *u, int fd, const struct sockaddr_un *sa,
		     socklen_t len)
{
	const struct unix_path p = usk_path_of(sa);
	const char *path = p.s;
	const UnixSkEntry *e = u->e;
	struct stat st;
	mode_t before;
	int r;

	r = usk_make_way(path);
	if (r < 0)
		return r;
	/* Nobody connects before owner and mode are right. */
	before = umask(0777);
	r = bind(fd, (const struct sockaddr *)sa, len) < 0 ? neg_errno() : 0;
	umask(before);
	if (r == -ENOENT)
		return log_err(r, "cannot bind to %s: its directory is missing", path);
	if (r < 0)
		return log_err(r, "cannot bind to %s", path);
	if (lstat(path, &st) < 0)
		return log_err(neg_errno(), "cannot look at %s", path);
	u->file_dev = st.st_dev;
	u->file_ino = st.st_ino;
	return usk_set_perms(ctx, e, path);
}

int usk_bind(struct restore_ctx *ctx, struct usk *u, int fd)
{
	_cleanup_(place_leave) struct place place = { .cwd = -EBADF };
	struct sockaddr_un sa;
	char name[UNIX_NAME_TEXT];
	socklen_t len;
	int r = usk_sockaddr(u->e, &sa, &len);

	if (r < 0)
		return log_err(r, "name of unix socket %u", u->e->ino);
	r = place_enter(ctx, u, u->e, &place);
	if (r < 0)
		return r;
	if (sa.sun_path[0] && (u->e->deleted || u->e->path_now))
		return usk_bind_apart(ctx, u, fd, &sa, len);
	if (sa.sun_path[0])
		return bind_path(ctx, u, fd, &sa, len);
	if (bind(fd, (struct sockaddr *)&sa, len) < 0)
		return log_err(neg_errno(), "cannot bind to %s%s",
			       unix_name_text(u->e->name.data, u->e->name.len, name),
			       errno == EADDRINUSE ? ": another process uses it" : "");
	return 0;
}

/* Whoever starts the program anew may find its address in use. Only the file that bind() made. */
void usk_unbind(struct restore_ctx *ctx, const struct usk *u)
{
	_cleanup_(place_leave) struct place place = { .cwd = -EBADF };
	struct unix_path p;
	struct sockaddr_un sa;
	const char *path;
	struct stat st;
	socklen_t len;

	if (!u->file_ino || usk_sockaddr(u->e, &sa, &len) < 0 || place_enter(ctx, u, u->e, &place) < 0)
		return;
	p = usk_path_of(&sa);
	path = u->e->path_now ? u->e->path_now : p.s;
	if (!lstat(path, &st) && st.st_dev == u->file_dev && st.st_ino == u->file_ino && unlink(path) < 0)
		log_warn("cannot remove %s, made for this restore: %s", path, strerror(errno));
}

/* The file itself, wherever it is: 1, or 0 if it has to be found by its name. */
static int connect_to_file(int fd, const struct usk *to)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	_cleanup_close_ int file = -EBADF;

	if (!to->e->deleted && !to->e->path_now)
		return 0;
	file = usk_fd(to) < 0 ? -EBADF : ioctl(usk_fd(to), SIOCUNIXFILE);
	if (file < 0)
		return 0;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/thread-self/fd/%d", file);
	return connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? neg_errno() : 1;
}

/* Silent but for what keeps us from trying. */
int usk_connect(struct restore_ctx *ctx, const struct usk *u, int fd, const struct usk *to)
{
	_cleanup_(place_leave) struct place place = { .cwd = -EBADF };
	struct sockaddr_un sa;
	socklen_t len;
	int r = usk_sockaddr(to->e, &sa, &len);

	if (!r)
		r = connect_to_file(fd, to);
	if (r)
		return MIN(r, 0);
	r = place_enter(ctx, u, to->e, &place);
	if (r < 0)
		return r;
	return connect(fd, (struct sockaddr *)&sa, len) < 0 ? neg_errno() : 0;
}
