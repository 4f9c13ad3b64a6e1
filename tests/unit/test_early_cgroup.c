/* Control groups of the units, made and entered in the initramfs. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "initramfs/early.h"
#include "tests/unit/unit.h"
#include "util/io.h"

#define ROOT	"/sys/fs/cgroup"

TEST("a process enters its group by a descriptor, also when the path does not lead there any more")
{
	_cleanup_free_ char *name = str_fmt("crk-unit-%d", getpid()), *dir = str_fmt("/%s", name);
	_cleanup_free_ char *wanted = str_fmt("0::%s\n", dir), *path = str_fmt(ROOT "%s", dir);
	_cleanup_free_ char *text = NULL;
	int group, status;
	pid_t pid;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", ROOT, "cgroup2", 0, NULL) < 0 || mkdir(path, 0755) < 0)
		unit_skip("no control group of its own: %s", strerror(errno));
	group = early_cgroup_open(dir);
	ASSERT_OK(group);
	ASSERT_OK(mount("crk-unit", ROOT, "tmpfs", 0, NULL));
	pid = fork();
	if (pid == 0)
		_exit(early_cgroup_enter(group) < 0 ||
		      read_file_at(AT_FDCWD, "/proc/self/cgroup", 65536, &text, NULL) < 0 ||
		      !strstr(text, wanted));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_OK(umount(ROOT));
	ASSERT_OK(rmdir(path));
	ASSERT_EQ(status, 0);
	close(group);
}
