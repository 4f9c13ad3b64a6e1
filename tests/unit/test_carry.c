/* Which files of a unit are carried: those on file systems in memory. */
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>

#include "crkexec/phases.h"
#include "crkexec/unit.h"
#include "unit.h"
#include "util/io.h"

static bool carries(const struct manifest_unit *mu, const char *path)
{
	for (size_t i = 0; i < mu->n_carries; i++)
		if (!strcmp(mu->carries[i].path, path))
			return true;
	return false;
}

static struct strv runtime_dirs;

/* A unit that consists of this process. */
static struct unit unit_of_this(void)
{
	static pid_t pid;

	pid = getpid();
	return (struct unit){ .name = (char *)"test.service", .pid_file = (char *)"",
			      .tree = { .root = pid, .pids = &pid, .n_pids = 1, .n_roots = 1 },
			      .runtime_dirs = runtime_dirs };
}

/* What would be carried of it. */
static struct manifest_unit collect(void)
{
	struct unit un = unit_of_this();
	struct manifest_unit mu = { 0 };

	ASSERT_OK(carry_collect(&un, &mu));
	return mu;
}

static void forget(struct manifest_unit *mu)
{
	for (size_t i = 0; i < mu->n_carries; i++)
		free(mu->carries[i].path);
	free(mu->carries);
}

static bool is_tmpfs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static void needs_shm(void)
{
	if (!is_tmpfs("/dev/shm"))
		unit_skip("/dev/shm is no tmpfs here");
}

TEST("a semaphore is carried by the name it has, not by the one it was made under")
{
	char name[64], path[80];
	struct manifest_unit mu;
	sem_t *sem;

	needs_shm();
	snprintf(name, sizeof(name), "/crk-unit-%d", getpid());
	snprintf(path, sizeof(path), "/dev/shm/sem.%s", name + 1);
	sem = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
	ASSERT(sem != SEM_FAILED);
	mu = collect();
	sem_unlink(name);
	ASSERT(carries(&mu, path));
	forget(&mu);
	mu = collect();
	ASSERT(!carries(&mu, path));
	forget(&mu);
}

TEST("an open file that has lost one of its names is carried by another one")
{
	char first[80], second[80];
	struct manifest_unit mu;
	int fd;

	needs_shm();
	snprintf(first, sizeof(first), "/dev/shm/crk-unit-first-%d", getpid());
	snprintf(second, sizeof(second), "/dev/shm/crk-unit-second-%d", getpid());
	fd = open(first, O_RDWR | O_CREAT | O_EXCL, 0600);
	ASSERT_OK(fd);
	ASSERT_OK(link(first, second));
	ASSERT_OK(unlink(first));
	mu = collect();
	unlink(second);
	ASSERT(carries(&mu, second) && !carries(&mu, first));
	forget(&mu);
}

static int bound_socket(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	ASSERT_OK(fd);
	ASSERT_OK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

TEST("the directory of a bound socket is carried and a lock beside it, not what else is there")
{
	char dir[80], sock[100], lock[110], other[110];
	struct manifest_unit mu;
	int pair[2], found, fd;

	needs_shm();
	snprintf(dir, sizeof(dir), "/dev/shm/crk-unit-bound-%d", getpid());
	snprintf(sock, sizeof(sock), "%s/s", dir);
	snprintf(lock, sizeof(lock), "%s/s.lock", dir);
	snprintf(other, sizeof(other), "%s/other.lock", dir);
	ASSERT_OK(mkdir(dir, 0700));
	/* In the list of sockets before and behind it: one without a name. */
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	fd = bound_socket(sock);
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	close(open(lock, O_WRONLY | O_CREAT, 0600));
	close(open(other, O_WRONLY | O_CREAT, 0600));
	mu = collect();
	found = carries(&mu, dir) + 2 * carries(&mu, lock) + 4 * carries(&mu, other);
	forget(&mu);
	close(fd);
	mu = collect();
	ASSERT(!carries(&mu, dir));
	forget(&mu);
	unlink(other);
	unlink(lock);
	unlink(sock);
	rmdir(dir);
	ASSERT_EQ(found, 3);
}

static uint64_t carried_bytes(void)
{
	struct options opt = { .json = true };
	struct upgrade u = { .opt = &opt };
	struct unit un = unit_of_this();
	uint64_t bytes;

	ASSERT_OK(carry_check(&u, &un, &bytes));
	ASSERT_EQ(u.n_obstacles, 0);
	return bytes;
}

TEST("what a carried directory holds is counted before it is archived, holes are not")
{
	static char data[1 << 20];
	uint64_t some, more;
	int fd;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", "/run", "tmpfs", 0, NULL) < 0)
		unit_skip("no tmpfs of its own: %s", strerror(errno));
	ASSERT_OK(mkdir("/run/crk-unit", 0700));
	ASSERT_OK(mkdir("/run/crk-unit/below", 0700));
	ASSERT_OK(strv_add(&runtime_dirs, "crk-unit"));
	some = carried_bytes();
	fd = open("/run/crk-unit/below/file", O_WRONLY | O_CREAT | O_EXCL, 0600);
	memset(data, 1, sizeof(data));
	ASSERT_EQ(write(fd, data, sizeof(data)), sizeof(data));
	ASSERT_OK(ftruncate(fd, 1ll << 40));
	close(fd);
	more = carried_bytes();
	ASSERT(more >= some + sizeof(data) && more < some + 2 * sizeof(data));
}

TEST("a name is found by its file, and none where there is none")
{
	char path[300], *name;
	struct stat st;
	int dir, fd;

	snprintf(path, sizeof(path), "%s/some", unit_tmpdir());
	fd = open(path, O_RDWR | O_CREAT, 0600);
	dir = open(unit_tmpdir(), O_PATH | O_DIRECTORY);
	ASSERT_OK(fd);
	ASSERT_OK(fstat(fd, &st));
	ASSERT_OK(name_by_inode(dir, &st, &name));
	ASSERT_STREQ(name, "some");
	free(name);
	ASSERT_OK(unlink(path));
	ASSERT_EQ(name_by_inode(dir, &st, &name), -ENOENT);
}
