/* File systems that are not there yet when the trees come back: found beforehand, missed in the new boot. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "crkexec/machine.h"
#include "crkexec/paths.h"
#include "crkexec/tree.h"
#include "initramfs/early.h"
#include "tests/unit/unit.h"
#include "util/io.h"

#define DISK	(8u << 20)
#define DM	(253u << 20)
#define MEMORY	33u

static const char on_lvm[] = "ext4 on dm-0, which is LVM, RAID or encryption", below[] = "tmpfs below /srv";

static struct mount table[] = {
	{ .id = 20, .dev = DISK, .root = "/", .mountpoint = "/" },
	{ .id = 21, .dev = DM, .root = "/", .mountpoint = "/srv" },
	{ .id = 22, .dev = MEMORY, .root = "/", .mountpoint = "/srv/tmp" },
	{ .id = 23, .dev = DISK, .root = "/data", .mountpoint = "/srv/data" },
	{ .id = 24, .dev = MEMORY + 1, .root = "/", .mountpoint = "/mem" },
};
static const char *late[] = { NULL, on_lvm, below, "ext4 below /srv", NULL };
static const struct host_mounts host = { .table = { table, ARRAY_SIZE(table) }, .late = late };

static const char *late_at(uint32_t dev, const char *mountpoint)
{
	const struct mount m = { .dev = dev, .root = "/", .mountpoint = mountpoint };
	const char *why = NULL;

	return host_mounts_late(&host, &m, &why) ? why : NULL;
}

TEST("a mount comes late by its disk, or by what it lies on, and only that one of its file system's")
{
	ASSERT(!late_at(DISK, "/"));
	ASSERT(late_at(DM, "/srv") == on_lvm);
	ASSERT(late_at(MEMORY, "/srv/tmp") == below);
	ASSERT(late_at(DISK, "/srv/data") == late[3]);
	/* Bound in a sandbox: from where it comes early, if there is such a place. */
	ASSERT(late_at(DM, "/var/lib/x") == on_lvm);
	ASSERT(!late_at(DISK, "/var/lib/x"));
	ASSERT(!late_at(MEMORY + 1, "/x"));
	ASSERT(!late_at(MEMORY + 2, "/none/of/the/hosts"));
}

static bool is_remote(const char *fstype, const char *source)
{
	const struct mount m = { .dev = MEMORY, .root = "/", .mountpoint = "/", .fstype = fstype, .source = source };

	return mount_is_remote(&m);
}

TEST("a file system of the network has no disk, and still comes over it")
{
	ASSERT(is_remote("nfs4", "server:/export"));
	ASSERT(is_remote("ceph", "10.0.0.1:/"));
	ASSERT(!is_remote("overlay", "overlay"));
	ASSERT(!is_remote("tmpfs", "tmpfs"));
}

/* A tmpfs of its own for every name, in a mount namespace of our own that only this process is in. */
static void own_mounts(const char *const *names, size_t n)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		unit_skip("no mount namespace of its own: %s", strerror(errno));
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *path = str_fmt("%s/%s", unit_tmpdir(), names[i]);

		ASSERT_OK(make_dirs(path));
		ASSERT_OK(mount("crk-unit", path, "tmpfs", 0, NULL));
	}
}

struct found {
	char text[4][400];
	size_t n;
};

static int note(void *arg, const struct file_place *p)
{
	struct found *f = arg;
	const char *name = strrchr(p->mount->mountpoint, '/') + 1;

	ASSERT_EQ(p->pid, getpid());
	if (strcmp(p->mount->fstype, "tmpfs") || !strstr(p->mount->mountpoint, unit_tmpdir()) || f->n >= 4)
		return 0;
	ASSERT(!p->hosts);
	snprintf(f->text[f->n++], sizeof(f->text[0]), "%s: %s", name, p->what);
	return 0;
}

TEST("where a process has files: its directory, descriptors and mappings, each mount once")
{
	static const char *const names[] = { "dir", "open", "mapped", "unused" };
	_cleanup_free_ char *dir = str_fmt("%s/dir", unit_tmpdir()), *open_path = str_fmt("%s/open/a", unit_tmpdir());
	_cleanup_free_ char *mapped = str_fmt("%s/mapped/a", unit_tmpdir()), *text = NULL;
	pid_t pid = getpid();
	const struct unit_tree t = { .root = pid, .pids = &pid, .n_pids = 1, .n_roots = 1 };
	struct found f = { 0 };
	int fd[2], map_fd;

	own_mounts(names, ARRAY_SIZE(names));
	fd[0] = open(open_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	fd[1] = open(open_path, O_RDONLY | O_CLOEXEC);
	map_fd = open(mapped, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT(fd[0] >= 0 && fd[1] >= 0 && map_fd >= 0 && ftruncate(map_fd, 4096) == 0);
	ASSERT(mmap(NULL, 4096, PROT_READ, MAP_SHARED, map_fd, 0) != MAP_FAILED);
	close(map_fd);
	ASSERT_OK(chdir(dir));
	ASSERT_OK(tree_each_file_place(&t, note, &f));
	ASSERT_EQ(f.n, 3);
	ASSERT_STREQ(f.text[0], "dir: cwd");
	text = str_fmt("open: fd %d (%s)", fd[0], open_path);
	ASSERT_STREQ(f.text[1], text);
	ASSERT_CONTAINS(f.text[2], "mapped: mapping ");
}

TEST("without its file system a unit starts cold and says why; what lies on that is not mounted; others go on")
{
	_cleanup_free_ char *disk = str_fmt("%s/disk", unit_tmpdir()), *on = str_fmt("%s/disk/on", unit_tmpdir());
	_cleanup_free_ char *fine = str_fmt("%s/fine", unit_tmpdir());
	struct manifest_mount mounts[] = {
		{ .source = (char *)"crk-unit", .target = disk, .fstype = (char *)"crk-none", .options = (char *)"" },
		{ .source = (char *)"crk-unit", .target = on, .fstype = (char *)"tmpfs", .options = (char *)"" },
		{ .source = (char *)"crk-unit", .target = fine, .fstype = (char *)"tmpfs", .options = (char *)"" },
	};
	struct manifest_unit units[] = {
		{ .name = (char *)"disk.service", .filesystems = &disk, .n_filesystems = 1 },
		{ .name = (char *)"on.service", .filesystems = &on, .n_filesystems = 1 },
		{ .name = (char *)"fine.service", .filesystems = &fine, .n_filesystems = 1 },
		{ .name = (char *)"none.service" },
	};
	struct manifest m = { .mounts = mounts, .n_mounts = ARRAY_SIZE(mounts),
			      .units = units, .n_units = ARRAY_SIZE(units) };
	struct early e = { .manifest = &m, .uevent_fd = -EBADF, .log_fd = -EBADF };
	struct stat st, parent;

	own_mounts(NULL, 0);
	ASSERT_OK(early_mount_others(&e));
	ASSERT_EQ(units[0].outcome, OUTCOME_COLD);
	ASSERT_CONTAINS(units[0].reason, "/disk is missing: cannot mount crk-none on ");
	ASSERT_EQ(units[1].outcome, OUTCOME_COLD);
	ASSERT_CONTAINS(units[1].reason, "/disk/on is missing: it lies on ");
	ASSERT_EQ(access(on, F_OK), -1);
	ASSERT_EQ(units[2].outcome, OUTCOME_PENDING);
	ASSERT_EQ(units[3].outcome, OUTCOME_PENDING);
	ASSERT_OK(stat(fine, &st));
	ASSERT_OK(stat(unit_tmpdir(), &parent));
	ASSERT(st.st_dev != parent.st_dev);
	free(units[0].reason);
	free(units[1].reason);
}

static struct mount several[] = {
	{ .id = 20, .dev = DISK, .root = "/@", .mountpoint = "/", .fstype = "btrfs", .options = "subvolid=256,subvol=/@" },
	{ .id = 21, .dev = DISK, .root = "/@home", .mountpoint = "/home", .fstype = "btrfs",
	  .options = "subvolid=257,subvol=/@home" },
	{ .id = 22, .dev = DISK, .root = "/@/srv/data", .mountpoint = "/data", .fstype = "btrfs",
	  .options = "subvolid=256,subvol=/@" },
	{ .id = 23, .dev = DISK, .root = "/@home", .mountpoint = "/home2", .fstype = "btrfs",
	  .options = "subvolid=257,subvol=/@home" },
	{ .id = 24, .dev = MEMORY, .root = "/", .mountpoint = "/mem", .fstype = "tmpfs", .options = "" },
	{ .id = 25, .dev = MEMORY, .root = "/", .mountpoint = "/mem2", .fstype = "tmpfs", .options = "" },
	{ .id = 26, .dev = MEMORY + 1, .root = "/", .mountpoint = "/proc", .fstype = "proc", .options = "" },
	{ .id = 27, .dev = MEMORY + 1, .root = "/", .mountpoint = "/chroot/proc", .fstype = "proc", .options = "" },
	{ .id = 28, .dev = DM, .root = "/x/y", .mountpoint = "/y", .fstype = "ext4", .options = "" },
	{ .id = 29, .dev = DM, .root = "/", .mountpoint = "/x", .fstype = "ext4", .options = "" },
	{ .id = 30, .dev = DM, .root = "/x", .mountpoint = "/x2", .fstype = "ext4", .options = "" },
};

TEST("a mount is made whole once; a directory of it, or a second time, by a bind from where it is already")
{
	static const struct {
		bool whole;
		const char *from;
	} expected[] = {
		{ true, NULL }, { true, NULL }, { false, "/srv/data" }, { false, "/home" }, { true, NULL },
		{ false, "/mem" }, { true, NULL }, { true, NULL }, { false, NULL }, { true, NULL }, { false, "/x/x" },
	};
	const struct mount_table t = { several, ARRAY_SIZE(several) };
	struct arena a;

	arena_init(&a);
	for (size_t i = 0; i < t.n; i++) {
		const char *from;

		ASSERT_EQ(mount_is_whole(&t, &several[i]), expected[i].whole);
		if (expected[i].whole)
			continue;
		from = mount_bind_source(&a, &t, &several[i]);
		ASSERT_EQ(!from, !expected[i].from);
		if (from)
			ASSERT_STREQ(from, expected[i].from);
	}
	arena_done(&a);
}

TEST("what is bound has the restrictions it had; from a missing file system it is missing, too")
{
	_cleanup_free_ char *disk = str_fmt("%s/disk", unit_tmpdir()), *from = str_fmt("%s/disk/a", unit_tmpdir());
	_cleanup_free_ char *of = str_fmt("%s/of", unit_tmpdir()), *bound = str_fmt("%s/bound", unit_tmpdir());
	_cleanup_free_ char *file = str_fmt("%s/bound/file", unit_tmpdir());
	static const char *const names[] = { "from" };
	_cleanup_free_ char *source = str_fmt("%s/from", unit_tmpdir());
	struct manifest_mount mounts[] = {
		{ .source = (char *)"crk-unit", .target = disk, .fstype = (char *)"crk-none", .options = (char *)"" },
		{ .source = from, .target = of, .fstype = (char *)"ext4", .options = (char *)"", .flags = MS_BIND },
		{ .source = source, .target = bound, .fstype = (char *)"tmpfs", .options = (char *)"",
		  .flags = MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC },
	};
	struct manifest_unit units[] = { { .name = (char *)"of.service", .filesystems = (char **)&of, .n_filesystems = 1 } };
	struct manifest m = { .mounts = mounts, .n_mounts = ARRAY_SIZE(mounts), .units = units, .n_units = 1 };
	struct early e = { .manifest = &m, .uevent_fd = -EBADF, .log_fd = -EBADF };
	struct statvfs fs;

	own_mounts(names, 1);
	ASSERT_OK(make_dirs(from));
	ASSERT_OK(early_mount_others(&e));
	ASSERT_EQ(units[0].outcome, OUTCOME_COLD);
	ASSERT_CONTAINS(units[0].reason, "/of is missing: it lies on ");
	ASSERT_EQ(access(of, F_OK), -1);
	ASSERT_OK(statvfs(bound, &fs));
	ASSERT_EQ(fs.f_flag & (ST_RDONLY | ST_NOSUID | ST_NOEXEC), ST_RDONLY | ST_NOSUID | ST_NOEXEC);
	ASSERT_EQ(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600), -1);
	ASSERT_EQ(errno, EROFS);
	/* Only there: the other place is as it was. */
	ASSERT_OK(statvfs(source, &fs));
	ASSERT_EQ(fs.f_flag & ST_RDONLY, 0);
	free(units[0].reason);
}
