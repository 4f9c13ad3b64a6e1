/*
 * bind(2) of a socket whose file is not where its name says: it was renamed (the usual way to
 * publish a socket that is ready), its directory was, a chroot(2) is in between, or it was removed.
 *
 * The kernel makes the file where the name leads, and remembers the name's bytes. So the name is
 * bound in an empty directory that is the root of one thread for that moment, and the file moved to
 * its place. What has the name by now is not touched.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#include "kind/sk_unix.h"
#include "ns/ns.h"

/* Of the empty directory (mkdtemp(3)). */
#define ROOT_NAME	".cr-XXXXXX"

struct apart {
	struct restore_ctx *ctx;
	const UnixSkEntry *e;
	int fd;
	const struct sockaddr_un *sa;
	socklen_t len;
	const char *root;		/* the empty directory */
	int to_dir;			/* of the file's place; -1: removed */
	const char *to_name;
	struct stat st;
	int r;
};

static void remove_dirs(char *path)
{
	for (char *slash; (slash = strrchr(path, '/')); ) {
		*slash = '\0';
		if (*path)
			(void)rmdir(path);
	}
}

static int make_file(struct apart *a, const char *path)
{
	mode_t before = umask(0777);	/* nobody connects before owner and mode are right */
	int r = bind(a->fd, (const struct sockaddr *)a->sa, a->len) < 0 ? neg_errno() : 0;

	umask(before);
	if (r < 0)
		return log_err(r, "cannot bind to %s", path);
	r = usk_set_perms(a->ctx, a->e, path);
	if (!r && lstat(path, &a->st) < 0)
		r = log_err(neg_errno(), "cannot look at %s", path);
	if (!r && a->to_dir >= 0 && renameat(AT_FDCWD, path, a->to_dir, a->to_name) < 0)
		r = log_err(neg_errno(), "cannot move the socket's file to %s", a->e->path_now);
	if ((r < 0 || a->to_dir < 0) && unlink(path) < 0 && !r)
		r = log_err(neg_errno(), "cannot remove %s again", path);
	return r;
}

static int bind_in_root(struct apart *a)
{
	struct unix_path path = usk_path_of(a->sa), parent = path;
	char *slash;
	int r = 0;

	if (unshare(CLONE_FS) < 0 || chroot(a->root) < 0 || chdir("/") < 0)
		return log_err(neg_errno(), "cannot make %s a root", a->root);
	umask(0);
	slash = strrchr(parent.s, '/');
	if (slash && slash != parent.s) {
		*slash = '\0';
		r = usk_make_dirs(parent.s);
		*slash = '/';
	}
	r = r < 0 ? log_err(r, "cannot make the directory of %s", path.s) : make_file(a, path.s);
	remove_dirs(parent.s);
	return r;
}

static void *bind_main(void *arg)
{
	struct apart *a = arg;

	a->r = bind_in_root(a);
	return NULL;
}

static int bind_in(struct apart *a, char *root)
{
	pthread_t thread;
	int r;

	if (!mkdtemp(root))
		return neg_errno();
	a->root = root;
	r = pthread_create(&thread, NULL, bind_main, a);
	if (r)
		a->r = log_err(-r, "cannot start a thread");
	else
		pthread_join(thread, NULL);
	if (rmdir(root) < 0)
		log_warn("cannot remove %s: %s", root, strerror(errno));
	return 0;
}

/* Of a removed socket any file system does. */
static int bind_anywhere(struct apart *a)
{
	static const char *const dirs[] = { "/tmp", "/dev/shm", "/run", "/var/tmp", "" };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		char root[40];

		snprintf(root, sizeof(root), "%s/" ROOT_NAME, dirs[i]);
		r = bind_in(a, root);
		if (!r)
			return a->r;
	}
	return log_err(r, "cannot make a directory for a removed socket");
}

static int bind_beside(struct apart *a, const char *place)
{
	_cleanup_close_ int dir = -EBADF;
	_cleanup_free_ char *root = NULL;
	int at = (int)(strrchr(place, '/') - place), r;

	root = str_fmt("%.*s/" ROOT_NAME, at, place);
	if (!root)
		return log_err(-ENOMEM, "unix socket");
	root[at] = '\0';
	dir = open(at ? root : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	root[at] = '/';
	if (dir < 0)
		return log_err(neg_errno(), "cannot bind at %s: cannot open its directory", place);
	r = usk_make_way(place);
	if (r < 0)
		return r;
	a->to_dir = dir;
	a->to_name = place + at + 1;
	r = bind_in(a, root);
	return r < 0 ? log_err(r, "cannot make a directory beside %s", place) : a->r;
}

int usk_bind_apart(struct restore_ctx *ctx, struct usk *u, int fd, const struct sockaddr_un *sa,
		   socklen_t len)
{
	struct apart a = { .ctx = ctx, .e = u->e, .fd = fd, .sa = sa, .len = len, .to_dir = -1 };
	int r = u->e->deleted ? bind_anywhere(&a) : bind_beside(&a, u->e->path_now);

	if (!r && !u->e->deleted) {
		u->file_dev = a.st.st_dev;
		u->file_ino = a.st.st_ino;
	}
	return r;
}
