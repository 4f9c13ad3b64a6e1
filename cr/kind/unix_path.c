/*
 * The name a unix socket is bound to, and the inode in a file system behind it.
 *
 * SIOCUNIXFILE (4.20) opens that inode wherever it is now: deleted, renamed, hidden by a
 * mount. The name in the socket is what was given to bind(2), relative ones included.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kind/sk_unix.h"

/* CRIU takes a path for a string: it has to end in NUL, as far as sun_path has room for one. */
int unix_name_put(struct dump_ctx *ctx, const struct sockdiag *d, UnixSkEntry *e)
{
	bool is_path = d->name_len && d->name[0];

	if (!d->name_len)
		return 0;
	e->name.data = arena_alloc(&ctx->arena, d->name_len + 1);
	if (!e->name.data)
		return log_err(-ENOMEM, "socket's name");
	memcpy(e->name.data, d->name, d->name_len);
	e->name.len = d->name_len;
	if (is_path && d->name_len < sizeof(((struct sockaddr_un *)0)->sun_path))
		e->name.len++;
	return 0;
}

/* The directory in which a relative name was bound: the file's path without it. 0: that is not so. */
static int dump_dir(struct dump_ctx *ctx, const char *path, UnixSkEntry *e)
{
	size_t path_len = strlen(path);
	size_t name_len = strnlen((const char *)e->name.data, e->name.len);

	if (path_len <= name_len + 1 || path[path_len - name_len - 1] != '/' ||
	    memcmp(path + path_len - name_len, e->name.data, name_len))
		return 0;
	e->name_dir = arena_strndup(&ctx->arena, path, MAX(path_len - name_len - 1, (size_t)1));
	return e->name_dir ? 1 : -ENOMEM;
}

static int dump_perms(struct dump_ctx *ctx, const struct stat *st, UnixSkEntry *e)
{
	FilePermsEntry *p = ARENA_MSG(&ctx->arena, FilePermsEntry, file_perms_entry);

	if (!p)
		return -ENOMEM;
	p->mode = st->st_mode;
	p->uid = dump_uid(ctx, st->st_uid);
	p->gid = dump_gid(ctx, st->st_gid);
	e->file_perms = p;
	return 0;
}

#define DELETED	" (deleted)"

/* By link(2) and unlink(2) a file gets another name, too; of that one a directory alone tells. */
static int search_dir(struct dump_file *f, const UnixSkEntry *e, const struct stat *st, char **path)
{
	_cleanup_close_ int dir = -EBADF;
	_cleanup_closedir_ DIR *d = NULL;
	char *slash = strrchr(*path, '/'), *found;
	struct dirent *de;
	int fd, r;

	*slash = '\0';
	r = dump_open_dir(f->owner, **path ? *path : "/", e->mnt_id, &dir);
	*slash = '/';
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		r = neg_errno();
		close_fdp(&fd);
		return r;
	}
	while ((de = readdir(d))) {
		struct stat now;

		if ((de->d_type != DT_SOCK && de->d_type != DT_UNKNOWN) ||
		    fstatat(dir, de->d_name, &now, AT_SYMLINK_NOFOLLOW) < 0 ||
		    now.st_ino != st->st_ino || now.st_dev != st->st_dev)
			continue;
		found = str_fmt("%.*s/%s", (int)(slash - *path), *path, de->d_name);
		if (!found)
			return -ENOMEM;
		free(*path);
		*path = found;
		return 1;
	}
	return 0;
}

/* Where a file is that the name does not lead to. 0: it cannot be found. */
static int find_file(struct dump_file *f, const UnixSkEntry *e, const struct stat *st, char **path)
{
	size_t len = strlen(*path), cut = strlen(DELETED);
	int r = (*path)[0] == '/' ? dump_path_names(f->owner, *path, e->mnt_id, st) : 0;

	if (r || len <= cut || (*path)[0] != '/' || strcmp(*path + len - cut, DELETED))
		return r;
	return search_dir(f, e, st, path);
}

static int dump_place(struct dump_ctx *ctx, struct dump_file *f, const struct stat *st,
		      char **path, UnixSkEntry *e)
{
	_cleanup_free_ char *name = strndup((const char *)e->name.data, e->name.len);
	int r;

	if (!name)
		return -ENOMEM;
	if (st->st_nlink > 1)
		return log_obstacle("remove the others",
				    "socket bound as %s whose file has %lu names (hard links)", name,
				    (unsigned long)st->st_nlink);
	r = name[0] == '/' ? dump_path_names(f->owner, name, -1, st) : dump_dir(ctx, *path, e);
	if (r < 0 && name[0] == '/')
		log_warn("cannot see whether %s still leads to its socket: %s", name, strerror(-r));
	if (r)
		return name[0] == '/' ? 0 : MIN(r, 0);
	r = find_file(f, e, st, path);
	if (r < 0)
		return r;
	/* Hidden by a mount, or in another namespace than the process. */
	if (!r && !strcmp(name, *path)) {
		log_warn("the file of the socket %s is not there for the process; it comes back "
			 "there", name);
		return 0;
	}
	if (!r)
		return log_obstacle("restart the service, or move the file back",
				    "socket bound as %s whose file is now %s, out of reach", name,
				    *path);
	e->path_now = arena_strdup(&ctx->arena, *path);
	return e->path_now ? 0 : -ENOMEM;
}

static int dump_file(struct dump_ctx *ctx, struct dump_file *f, UnixSkEntry *e, int file)
{
	_cleanup_free_ char *path = NULL;
	char link[48];
	struct statx sx;
	struct stat st;
	int r;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
	r = readlink_at(AT_FDCWD, link, &path);
	if (r < 0 || fstat(file, &st) < 0)
		return log_err(r < 0 ? r : neg_errno(), "cannot read where the socket is bound");
	if (!st.st_nlink)
		e->has_deleted = e->deleted = true;
	if (ctx->mntns_dumped && !statx(file, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) &&
	    sx.stx_mask & STATX_MNT_ID) {
		e->has_mnt_id = true;
		e->mnt_id = (int32_t)sx.stx_mnt_id;
	}
	r = dump_perms(ctx, &st, e);
	/*
	 * An accepted socket shows its listener's file, a connected stream's leads nowhere; only of
	 * who is bound again more needs to be known. (A receiver of datagrams may be established.)
	 */
	if (!r && !e->deleted && (e->type == SOCK_DGRAM || e->state != UNIX_ESTABLISHED))
		r = dump_place(ctx, f, &st, &path, e);
	return r < 0 && r != -EOPNOTSUPP ? log_err(r, "socket's file") : r;
}

int unix_path_dump(struct dump_ctx *ctx, struct dump_file *f, const struct sockdiag *d,
		   UnixSkEntry *e)
{
	_cleanup_close_ int file = -EBADF;

	int r = unix_name_put(ctx, d, e);

	if (r < 0 || !d->name_len || !d->name[0])
		return r;
	file = ioctl(f->fd, SIOCUNIXFILE);
	if (file >= 0)
		return dump_file(ctx, f, e, file);
	if (errno == ENOENT)
		return 0;
	return log_err(neg_errno(), "cannot open the file the socket is bound to "
		       "(needs CAP_NET_ADMIN)");
}
