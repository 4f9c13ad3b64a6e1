/* Run-time files come back from a bundle in kept memory, for which a memory file stands here. */
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "crkexec/paths.h"
#include "crkexec/phases.h"
#include "initramfs/early_store.h"
#include "initramfs/early_store_pmem.h"
#include "tests/unit/unit.h"
#include "util/io.h"

#define STORE_BYTES	(4u << 20)

static const char *path_of(const char *name)
{
	static char path[2][300];
	static int at;

	at = !at;
	snprintf(path[at], sizeof(path[at]), "%s/%s", unit_tmpdir(), name);
	return path[at];
}

static void make_file(const char *name)
{
	int fd = open(path_of(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0640);

	ASSERT_EQ(write(fd, name, strlen(name)), (ssize_t)strlen(name));
	close(fd);
}

static bool is_whole(const char *name)
{
	_cleanup_free_ char *text = NULL;

	return read_file_at(AT_FDCWD, path_of(name), 100, &text, NULL) == 0 && !strcmp(text, name);
}

/* Where run-time files lie. */
static void mount_memory(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", unit_tmpdir(), "tmpfs", 0, NULL) < 0)
		unit_skip("no tmpfs of its own: %s", strerror(errno));
}

struct world {
	struct early_pmem pmem;
	struct manifest_carry carries[2];
	struct manifest_tree tree;
	struct manifest_unit unit;
	struct manifest m;
	struct early e;
};

/* A unit with a directory and a file, which are in the store's memory and nowhere else. */
static void world_init(struct world *w)
{
	struct image_store *images;
	void *map;

	*w = (struct world){ 0 };
	mount_memory();
	ASSERT_OK(make_dirs(path_of("dir")));
	make_file("dir/a");
	make_file("single");
	w->carries[0].path = strdup(path_of("dir"));
	w->carries[1].path = strdup(path_of("single"));
	w->carries[1].single = true;
	w->unit = (struct manifest_unit){ .name = (char *)"a.service", .carries = w->carries, .n_carries = 2,
					  .trees = &w->tree, .n_trees = 1 };
	w->tree.dir = (char *)"a.service";
	w->pmem.mem_fd = memfd_create("store", MFD_CLOEXEC);
	ASSERT_OK(ftruncate(w->pmem.mem_fd, STORE_BYTES));
	map = mmap(NULL, STORE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, w->pmem.mem_fd, 0);
	ASSERT(map != MAP_FAILED);
	ASSERT_OK(image_bundle_create(map, STORE_BYTES, &images));
	ASSERT_OK(carry_write(&w->unit, images));
	ASSERT_OK(image_store_seal(images, &w->tree.bundle_bytes, &w->tree.bundle_hash));
	image_store_close(images);
	munmap(map, STORE_BYTES);
	w->pmem.header.n_ranges = 1;
	w->pmem.header.ranges[0].bytes = w->pmem.header.total_bytes = STORE_BYTES;
	w->m = (struct manifest){ .units = &w->unit, .n_units = 1 };
	w->e = (struct early){ .manifest = &w->m, .pmem = &w->pmem, .images_fd = -EBADF, .log_fd = -1 };
	ASSERT_OK(remove_tree(path_of("dir")));
	ASSERT_OK(unlink(path_of("single")));
}

static void world_done(struct world *w)
{
	for (size_t i = 0; i < ARRAY_SIZE(w->carries); i++) {
		free(w->carries[i].path);
		free(w->carries[i].archive);
	}
	free(w->unit.reason);
	close(w->pmem.mem_fd);
}

TEST("run-time files come back from the dump; a pre-dump, however large, is not even mapped for them")
{
	struct world w;

	world_init(&w);
	w.tree.pre_dump_bytes = 1ull << 40;
	ASSERT_OK(early_carry(&w.e));
	ASSERT(!w.unit.reason);
	ASSERT(is_whole("dir/a") && is_whole("single"));
	world_done(&w);
}

TEST("a damaged archive is not unpacked, and its unit starts cold for that reason")
{
	struct world w;
	uint8_t byte;
	off_t at = 0;

	world_init(&w);
	/* The file's contents lie somewhere in its archive. */
	for (char text[6] = ""; memcmp(text, "single", 6); at++)
		ASSERT_EQ(pread(w.pmem.mem_fd, text, 6, at), 6);
	ASSERT_EQ(pread(w.pmem.mem_fd, &byte, 1, at), 1);
	byte ^= 1;
	ASSERT_EQ(pwrite(w.pmem.mem_fd, &byte, 1, at), 1);
	ASSERT_OK(early_carry(&w.e));
	ASSERT_EQ(w.unit.outcome, OUTCOME_COLD);
	ASSERT_CONTAINS(w.unit.reason, "is damaged (checksum)");
	ASSERT_EQ(access(path_of("single"), F_OK), -1);
	world_done(&w);
}

TEST("what a unit that starts cold would find of its dead process is removed, and nothing else")
{
	struct world w;

	world_init(&w);
	ASSERT_OK(early_carry(&w.e));
	make_file("dir/later");
	make_file("other");
	w.unit.outcome = OUTCOME_COLD;
	early_carry_remove(&w.e, &w.unit);
	ASSERT_EQ(access(path_of("dir"), F_OK), -1);
	ASSERT_EQ(access(path_of("single"), F_OK), -1);
	ASSERT(is_whole("other"));
	world_done(&w);
}

TEST("what was never brought is not removed: it is somebody else's")
{
	struct world w;

	world_init(&w);
	ASSERT_OK(make_dirs(path_of("dir")));
	make_file("dir/theirs");
	make_file("single");
	w.unit.outcome = OUTCOME_COLD;
	early_carry_remove(&w.e, &w.unit);
	ASSERT(is_whole("dir/theirs") && is_whole("single"));
	world_done(&w);
}

TEST("a file system in memory that is missing has its files not unpacked, nor removed, on the disk below")
{
	struct statfs fs;
	struct world w;

	if (statfs(unit_tmpdir(), &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		unit_skip("%s is in memory itself", unit_tmpdir());
	world_init(&w);
	ASSERT_OK(umount2(unit_tmpdir(), MNT_DETACH));
	ASSERT_OK(make_dirs(path_of("dir")));
	make_file("dir/a");
	make_file("dir/below");
	ASSERT_OK(early_carry(&w.e));
	ASSERT_EQ(w.unit.outcome, OUTCOME_COLD);
	ASSERT_CONTAINS(w.unit.reason, "/dir would be on a disk: its file system in memory is not mounted");
	early_carry_remove(&w.e, &w.unit);
	ASSERT(is_whole("dir/a") && is_whole("dir/below"));
	world_done(&w);
}
