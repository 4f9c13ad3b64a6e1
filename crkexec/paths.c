#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/manifest.h"
#include "crkexec/paths.h"
#include "util/io.h"

char *self_path(void)
{
	char *path = NULL;

	return readlink_at(AT_FDCWD, "/proc/self/exe", &path) < 0 ? NULL : path;
}

char *lib_path(const char *name)
{
	_cleanup_free_ char *self = self_path(), *beside = NULL;
	char *slash = self ? strrchr(self, '/') : NULL;

	if (slash) {
		*slash = '\0';
		beside = str_fmt("%s/%s", self, name);
		if (beside && access(beside, X_OK) == 0)
			return take_ptr(beside);
	}
	return str_fmt("%s/%s", CRKEXEC_LIB_DIR, name);
}

int make_dirs(const char *path)
{
	char copy[PATH_MAX];

	if (path[0] != '/' || strlen(path) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, path);
	for (char *s = copy + 1;; s++) {
		char c = *s;

		if (c && c != '/')
			continue;
		*s = '\0';
		/*
		 * Asked for first: mkdir(2) of what exists waits for ever on a frozen file system, and
		 * recovery comes here to thaw it.
		 */
		if (access(copy, F_OK) < 0 && mkdir(copy, 0700) < 0 && errno != EEXIST)
			return neg_errno();
		*s = c;
		if (!c)
			return 0;
	}
}

static int remove_in(int parent, const char *name, dev_t dev, int depth)
{
	_cleanup_closedir_ DIR *d = NULL;
	struct dirent *e;
	struct stat st;
	int fd, first = 0;

	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : neg_errno();
	d = fdopendir(fd);
	if (!d) {
		int r = neg_errno();

		close(fd);
		return r;
	}
	if (fstat(fd, &st) < 0)
		return neg_errno();
	if (st.st_dev != dev || depth > 64)
		return -EXDEV;
	while ((e = readdir(d))) {
		int r = 0;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (unlinkat(fd, e->d_name, 0) < 0)
			r = errno == EISDIR || errno == EPERM ?
			    remove_in(fd, e->d_name, dev, depth + 1) : neg_errno();
		if (r < 0 && !first)
			first = r;
	}
	if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && !first)
		first = neg_errno();
	return first;
}

int remove_tree(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : neg_errno();
	return remove_in(AT_FDCWD, path, st.st_dev, 0);
}
