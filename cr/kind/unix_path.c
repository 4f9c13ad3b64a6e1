/*
 * The name a unix socket is bound to, and the inode in a file system behind it.
 *
 * SIOCUNIXFILE (4.20) opens that inode wherever it is now: deleted, renamed, hidden by a
 * mount. The name in the socket is what was given to bind(2), relative ones included.
 */
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

/* The directory in which a relative name was bound: the file's path without that name. */
static int dump_dir(struct dump_ctx *ctx, const char *path, UnixSkEntry *e)
{
	size_t path_len = strlen(path);
	size_t name_len = strnlen((const char *)e->name.data, e->name.len);

	if (e->name.data[0] == '/')
		return 0;
	if (path_len <= name_len + 1 || path[path_len - name_len - 1] != '/' ||
	    memcmp(path + path_len - name_len, e->name.data, name_len)) {
		char text[UNIX_NAME_TEXT];

		log_warn("the directory of the relative socket name %s is not known; its file "
			 "is now %s", unix_name_text(e->name.data, name_len, text), path);
		return 0;
	}
	e->name_dir = arena_strndup(&ctx->arena, path, MAX(path_len - name_len - 1, (size_t)1));
	return e->name_dir ? 0 : -ENOMEM;
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

static void check_renamed(struct dump_file *f, const struct stat *st, const char *path,
			  const UnixSkEntry *e)
{
	_cleanup_free_ char *name = strndup((const char *)e->name.data, e->name.len);

	if (!name || name[0] != '/' || dump_path_names(f->owner, name, -1, st) != 0)
		return;
	log_warn("the socket bound as %s is now %s; it comes back as %s", name, path, name);
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
	/* An accepted socket shows its listener's file; only who binds needs to know more. */
	if (r < 0 || e->deleted || e->state == UNIX_ESTABLISHED)
		return r < 0 ? log_err(r, "socket's file") : 0;
	check_renamed(f, &st, path, e);
	r = dump_dir(ctx, path, e);
	return r < 0 ? log_err(r, "socket's file") : 0;
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
