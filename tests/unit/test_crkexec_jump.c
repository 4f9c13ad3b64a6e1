/* Which file systems are frozen for the jump: each once, by a path that leads to it. */
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>

#include "crkexec/paths.h"
#include "crkexec/phases.h"
#include "unit.h"
#include "util/io.h"

static char *in_tmpdir(const char *name)
{
	static char paths[8][300];
	static int n;

	snprintf(paths[n], sizeof(paths[n]), "%s/%s", unit_tmpdir(), name);
	return paths[n++];
}

/* The path of the tests' directory's file system below /proc/self/root, in ret. */
static void listed_as(const struct strv *others, char *ret, size_t bytes)
{
	struct strv l = { 0 };
	size_t found = 0;

	ASSERT_OK(jump_list("/proc/self", &l));
	for (size_t i = 0; i < l.n; i++)
		if (!strv_has(others, l.v[i])) {
			snprintf(ret, bytes, "%s", l.v[i]);
			found++;
		}
	ASSERT_EQ(found, 1);
	strv_done(&l);
}

static void bind(const char *from, const char *to)
{
	ASSERT_OK(mount(from, to, NULL, MS_BIND, NULL));
}

TEST("a file system is frozen by its last mount that can be reached, be that a file")
{
	char *dir = in_tmpdir("dir"), *cover = in_tmpdir("cover"), *below = in_tmpdir("cover/below");
	char *file = in_tmpdir("file"), path[400];
	struct strv others = { 0 };
	size_t own = 0;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		unit_skip("no mount namespace of its own: %s", strerror(errno));
	ASSERT_OK(make_dirs(dir));
	ASSERT_OK(make_dirs(below));
	close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	bind(dir, dir);
	ASSERT_OK(jump_list("/proc/self", &others));
	while (own < others.n && strcmp(others.v[own] + strlen("/proc/self/root"), dir))
		own++;
	if (own == others.n)
		unit_skip("%s is on no disk", unit_tmpdir());
	free(others.v[own]);
	others.v[own] = others.v[--others.n];
	bind(file, file);
	listed_as(&others, path, sizeof(path));
	ASSERT_STREQ(path + strlen("/proc/self/root"), file);
	bind(dir, below);
	listed_as(&others, path, sizeof(path));
	ASSERT_STREQ(path + strlen("/proc/self/root"), below);
	ASSERT_OK(mount("crk-unit", cover, "tmpfs", 0, "size=64k"));
	listed_as(&others, path, sizeof(path));
	ASSERT_STREQ(path + strlen("/proc/self/root"), file);
	/* Over the file: what is there now is no disk's. */
	bind("/dev/null", file);
	listed_as(&others, path, sizeof(path));
	ASSERT_STREQ(path + strlen("/proc/self/root"), dir);
	strv_done(&others);
}

TEST("a file system is frozen after those that may lie in its files, also if it was bound since")
{
	char *first = in_tmpdir("first"), *second = in_tmpdir("second"), *bound = in_tmpdir("bound");
	struct strv l = { 0 };

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		unit_skip("no mount namespace of its own: %s", strerror(errno));
	ASSERT_OK(make_dirs(first));
	ASSERT_OK(make_dirs(second));
	ASSERT_OK(make_dirs(bound));
	/* By its source it is a disk's. */
	ASSERT_OK(mount("/dev/crk-unit-1", first, "tmpfs", 0, "size=64k"));
	ASSERT_OK(mount("/dev/crk-unit-2", second, "tmpfs", 0, "size=64k"));
	bind(first, bound);
	ASSERT_OK(jump_list("/proc/self", &l));
	ASSERT(l.n >= 2);
	ASSERT_STREQ(l.v[0] + strlen("/proc/self/root"), second);
	ASSERT_STREQ(l.v[1] + strlen("/proc/self/root"), bound);
	strv_done(&l);
}
