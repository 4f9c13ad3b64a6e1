/* Logs of runs, reports, images: a bounded number stays, and nothing else in the directory is touched. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/logs.h"
#include "crkexec/paths.h"
#include "unit.h"
#include "util/macro.h"

#define NEW_ID	"ffffffffffffffff"

static void make(const char *name, time_t mtime)
{
	const struct timespec times[2] = { { .tv_sec = mtime }, { .tv_sec = mtime } };
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ASSERT_OK(fd);
	ASSERT_OK(futimens(fd, times));
	close(fd);
}

static bool is_there(const char *fmt, int n)
{
	char path[300];
	int at = snprintf(path, sizeof(path), "%s/", unit_tmpdir());

	snprintf(path + at, sizeof(path) - (size_t)at, fmt, n);
	return access(path, F_OK) == 0;
}

static void make_nth(const char *fmt, int n, time_t mtime)
{
	char name[64];

	snprintf(name, sizeof(name), fmt, n);
	make(name, mtime);
}

TEST("the newest logs stay, those of upgrades that took place for themselves")
{
	int fd;

	/* Thirty of each; the upgrades are older than all the rest, and what they left came later. */
	for (int i = 0; i < 30; i++) {
		make_nth("000000000000%04x.log", i, 1000 + i);
		make_nth("aaaaaaaaaaaa%04x.log", i, 100 + i);
		make_nth("aaaaaaaaaaaa%04x-early.log", i, 200 + i);
		make_nth("aaaaaaaaaaaa%04x-adopt.log", i, 200 + i);
	}
	fd = logs_open(unit_tmpdir(), NEW_ID);
	ASSERT_OK(fd);
	ASSERT_EQ(write(fd, "x", 1), 1);
	close(fd);
	ASSERT(is_there(NEW_ID ".log", 0));
	for (int i = 0; i < 30; i++) {
		/* The new one is the twentieth. */
		ASSERT_EQ(is_there("000000000000%04x.log", i), i >= 30 - (LOGS_KEPT - 1));
		ASSERT_EQ(is_there("aaaaaaaaaaaa%04x.log", i), i >= 30 - LOGS_KEPT);
		ASSERT_EQ(is_there("aaaaaaaaaaaa%04x-early.log", i), i >= 30 - LOGS_KEPT);
		ASSERT_EQ(is_there("aaaaaaaaaaaa%04x-adopt.log", i), i >= 30 - LOGS_KEPT);
	}
}

TEST("what is no log of a run stays, however many there are")
{
	static const char *const others[] = {
		"notes.log", "0000000000000000.log.gz", "000000000000000.log", "0000000000000000", "00000000000000000.log",
		"000000000000000X.log", "0000000000000000-other.log",
	};
	char path[300];
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		make(others[i], 1);
	for (int i = 1; i < 30; i++)
		make_nth("000000000000%04x.log", i, 1000 + i);
	/* Whoever made this, it is no log. */
	snprintf(path, sizeof(path), "%s/0000000000000000.log", unit_tmpdir());
	ASSERT_OK(mkdir(path, 0700));
	fd = logs_open(unit_tmpdir(), NEW_ID);
	ASSERT_OK(fd);
	close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		ASSERT(is_there(others[i], 0));
	ASSERT(is_there("0000000000000000.log", 0));
	ASSERT(!is_there("000000000000%04x.log", 1));
}

TEST("a link in the place of the log is not followed")
{
	char path[300];

	snprintf(path, sizeof(path), "%s/" NEW_ID ".log", unit_tmpdir());
	ASSERT_OK(symlink("/dev/null", path));
	ASSERT_EQ(logs_open(unit_tmpdir(), NEW_ID), -ELOOP);
}

/* failed/ID with a unit's images in it. */
static void make_images(const char *fmt, int n, time_t mtime)
{
	const struct timespec times[2] = { { .tv_sec = mtime }, { .tv_sec = mtime } };
	char name[64], path[300];
	int fd;

	snprintf(name, sizeof(name), fmt, n);
	snprintf(path, sizeof(path), "%s/failed/%s/a.service", unit_tmpdir(), name);
	ASSERT_OK(make_dirs(path));
	strcat(path, "/core-1.img");
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_OK(fd);
	close(fd);
	snprintf(path, sizeof(path), "%s/failed/%s", unit_tmpdir(), name);
	ASSERT_OK(utimensat(AT_FDCWD, path, times, 0));
}

TEST("reports and kept images of the newest upgrades stay, the present one's whatever the clock says")
{
	for (int i = 0; i < 30; i++)
		make_nth("000000000000%04x.json", i, 1000 + i);
	make_nth(NEW_ID ".json", 0, 1);
	make("last.json", 1);
	for (int i = 0; i < 5; i++)
		make_images("000000000000%04x", i, 1000 + i);
	make_images(NEW_ID, 0, 1);
	make_images("notes", 0, 1);
	make("failed/0123456789abcdef", 1);
	ASSERT_OK(logs_trim_state(unit_tmpdir(), NEW_ID));
	ASSERT(is_there(NEW_ID ".json", 0) && is_there("last.json", 0));
	ASSERT(is_there("failed/" NEW_ID "/a.service/core-1.img", 0));
	ASSERT(is_there("failed/notes", 0) && is_there("failed/0123456789abcdef", 0));
	for (int i = 0; i < 30; i++)
		ASSERT_EQ(is_there("000000000000%04x.json", i), i >= 30 - (REPORTS_KEPT - 1));
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(is_there("failed/000000000000%04x", i), i >= 5 - (IMAGES_KEPT - 1));
}

TEST("where nothing has failed there is nothing to remove, and images of others stay")
{
	ASSERT_OK(logs_trim_state(unit_tmpdir(), NEW_ID));
	for (int i = 0; i < IMAGES_KEPT; i++)
		make_images("000000000000%04x", i, 1000 + i);
	ASSERT_OK(logs_trim_state(unit_tmpdir(), NEW_ID));
	for (int i = 0; i < IMAGES_KEPT; i++)
		ASSERT(is_there("failed/000000000000%04x/a.service/core-1.img", i));
}
