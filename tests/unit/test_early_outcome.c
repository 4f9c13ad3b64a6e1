/*
 * What was saved before the freeze counts: for the time that a restore may take, and for the room in which
 * images of units that start cold are kept.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "crkexec/paths.h"
#include "initramfs/early.h"
#include "tests/unit/unit.h"
#include "util/io.h"

#define ID	"0123456789abcdef"

static void own_places(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", "/run", "tmpfs", 0, "size=1m") < 0 ||
	    mount("crk-unit", "/var/lib", "tmpfs", 0, "size=1m") < 0)
		unit_skip("no /run of its own: %s", strerror(errno));
	ASSERT_OK(make_dirs(CRKEXEC_RUN_DIR));
}

/* A unit of which 4 bytes are saved, and more before that: the reason that it starts cold for. */
static char *reason_with(uint64_t pre_dump_bytes)
{
	struct early e = { .images_fd = open(unit_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	_cleanup_free_ char *dir = str_fmt("%s/a.service", unit_tmpdir());
	_cleanup_free_ char *path = str_fmt("%s/core-1.img", dir);
	struct manifest_image image = { .name = (char *)"core-1.img", .bytes = 4 };
	struct manifest_tree tree = { .root_pid = 5, .dir = (char *)"a.service", .images = &image,
				      .n_images = 1, .pre_dump_bytes = pre_dump_bytes };
	struct manifest_unit unit = { .name = (char *)"a.service", .cgroup = (char *)"/a.service",
				      .type = (char *)"simple", .trees = &tree, .n_trees = 1,
				      .image_bytes = 4, .outcome = OUTCOME_COLD,
				      .reason = strdup("because") };
	struct manifest m = { .id = (char *)ID, .kernel_from = (char *)"a", .kernel_to = (char *)"b",
			      .units = &unit, .n_units = 1 };

	own_places();
	ASSERT_OK(make_dirs(dir));
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	ASSERT_EQ(truncate(path, 4), 0);
	e.manifest = &m;
	ASSERT_OK(early_outcome(&e));
	close(e.images_fd);
	for (size_t i = 0; i < m.n_phases; i++)
		free(m.phases[i].name);
	free(m.phases);
	return unit.reason;
}

TEST("images of what starts cold are kept, and the reason says where")
{
	_cleanup_free_ char *reason = reason_with(0);

	ASSERT_STREQ(reason, "because; images kept in /var/lib/crkexec/failed/" ID "/a.service");
	ASSERT_EQ(access("/var/lib/crkexec/failed/" ID "/a.service/core-1.img", F_OK), 0);
}

TEST("images are not kept where what was saved before the freeze has no room")
{
	_cleanup_free_ char *reason = reason_with(600u << 10);

	ASSERT_STREQ(reason, "because");
	ASSERT_EQ(access("/var/lib/crkexec/failed/" ID, F_OK), -1);
	ASSERT_EQ(access("/run/crkexec/failed/" ID, F_OK), -1);
}

TEST("a restore may take longer the more there is to be read, what was saved before the freeze included")
{
	struct manifest_tree tree = { 0 };
	struct manifest_unit unit = { .trees = &tree, .n_trees = 1 };
	uint64_t none = early_restore_usec(&unit);

	ASSERT_GE(none, 30 * 1000000);
	unit.image_bytes = 10ull << 30;
	ASSERT_EQ(early_restore_usec(&unit) - none, 1024ull * 1000000);
	tree.pre_dump_bytes = 100ull << 30;
	ASSERT_EQ(early_restore_usec(&unit) - none, 11264ull * 1000000);
}
