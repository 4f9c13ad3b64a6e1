/* Control groups of the units, made and entered in the initramfs. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "initramfs/early_restorer.h"
#include "tests/unit/unit.h"
#include "util/io.h"

#define ROOT	"/sys/fs/cgroup"

static void own_hierarchy(const char *path)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", ROOT, "cgroup2", 0, NULL) < 0 || mkdir(path, 0755) < 0)
		unit_skip("no control group of its own: %s", strerror(errno));
}

TEST("a process enters its group by a descriptor, also when the path does not lead there any more")
{
	_cleanup_free_ char *name = str_fmt("crk-unit-%d", getpid()), *dir = str_fmt("/%s", name);
	_cleanup_free_ char *wanted = str_fmt("0::%s\n", dir), *path = str_fmt(ROOT "%s", dir);
	_cleanup_free_ char *text = NULL;
	int group, status;
	pid_t pid;

	own_hierarchy(path);
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

TEST("a restorer whose images are bad has entered its group, and says what is wrong before it is told to go")
{
	_cleanup_free_ char *dir = str_fmt("/crk-unit-%d", getpid()), *path = str_fmt(ROOT "%s", dir);
	char unit_name[] = "x.service", images[] = "none";
	struct manifest_tree t = { .dir = images, .root_pid = 4000000 };
	struct manifest_unit u = { .name = unit_name, .cgroup = dir };
	struct early e = { .log_fd = -EBADF };
	struct restorer_result res;
	struct restorer r;

	own_hierarchy(path);
	e.images_fd = open(unit_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(e.images_fd);
	ASSERT_OK(restorer_start(&e, &u, &t, &r));
	ASSERT_EQ(recv(r.fd, &res, sizeof(res), 0), (ssize_t)sizeof(res));
	ASSERT(!res.ready && res.error == -ENOENT);
	ASSERT_CONTAINS(res.reason, "cannot open the images in none");
	restorer_done(&e, &r);
	ASSERT_EQ(r.fd, -EBADF);
	ASSERT_EQ(waitpid(-1, NULL, WNOHANG), -1);
	ASSERT_OK(rmdir(path));
}
