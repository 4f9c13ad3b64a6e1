/* The early program's decisions: command line, PID fence, wall clock, superblocks, waiting. */
#include <fcntl.h>
#include <time.h>

#include "initramfs/early.h"
#include "tests/unit/unit.h"
#include "util/io.h"

TEST("the kernel's command line is read as the kernel reads it")
{
	struct early_cmdline c;

	ASSERT_OK(early_cmdline_parse("root=UUID=12 ro init=/a rw  init=\"/b c\" panic=7 quiet "
				      "crkexec=00ff,store=pmem:1+2 rootfstype=xfs\n", &c));
	ASSERT_STREQ(c.root, "UUID=12");
	ASSERT_STREQ(c.init, "/b c");
	ASSERT_STREQ(c.id, "00ff");
	ASSERT_STREQ(c.root_type, "xfs");
	ASSERT(!c.root_flags && !c.read_only);
	ASSERT_EQ(c.panic_seconds, 7);
	early_cmdline_done(&c);
}

TEST("nothing behind -- on the command line is ours, and the root is read-only by default")
{
	struct early_cmdline c;

	ASSERT_OK(early_cmdline_parse("rootfoo=1 xinit=/x -- init=/evil rw", &c));
	ASSERT(!c.root && !c.init && !c.id && c.read_only);
	early_cmdline_done(&c);
	ASSERT_OK(early_cmdline_parse("", &c));
	ASSERT(!c.root && c.panic_seconds == 0);
}

TEST("an unreadable panic= and an unclosed quote do no harm")
{
	struct early_cmdline c;

	ASSERT_OK(early_cmdline_parse("panic=soon panic=99999999999 root=\"/dev/x y", &c));
	ASSERT_EQ(c.panic_seconds, 0);
	ASSERT_STREQ(c.root, "/dev/x y");
	early_cmdline_done(&c);
}

TEST("new process ids begin above all saved ones when those are small")
{
	const uint32_t ids[] = { 400, 401, 712, 33000 };
	uint32_t place = fence_place(ids, ARRAY_SIZE(ids), 4194304);

	ASSERT(place > 33000 && place < 40000);
}

TEST("new process ids begin in the widest gap when saved ones lie at the end of the range")
{
	const uint32_t ids[] = { 1000, 2000000, 4194000, 4194303 };
	uint32_t place = fence_place(ids, ARRAY_SIZE(ids), 4194304);

	ASSERT(place > 2000000 && place < 2100000);
}

TEST("the PID fence stands where ids begin if nothing is saved or only the end is")
{
	const uint32_t last[] = { 4194303 };

	ASSERT_EQ(fence_place(NULL, 0, 4194304), 300);
	ASSERT_EQ(fence_place(last, 1, 4194304), 300);
}

TEST("the PID fence survives ids that are out of range, equal or below the first")
{
	const uint32_t ids[] = { 0, 1, 1, 299, 300, 300, 4194304, UINT32_MAX };
	uint32_t place = fence_place(ids, ARRAY_SIZE(ids), 4194304);

	ASSERT(place > 300 && place < 4194304);
}

TEST("the PID fence knows threads, groups and sessions, in PID namespaces by what they are outside")
{
	uint32_t threads[] = { 1, 9 }, at[3][2] = { { 501, 1 }, { 509, 9 }, { 400, 0 } }, *ids = NULL;
	PidNumbersEntry numbers[3], *list[] = { &numbers[0], &numbers[1] };
	PstreeEntry e = PSTREE_ENTRY__INIT;
	size_t n = 0;

	for (size_t i = 0; i < 3; i++) {
		pid_numbers_entry__init(&numbers[i]);
		numbers[i].at = at[i];
		numbers[i].n_at = 2;
	}
	e.pid = 1;
	e.pgid = 7;
	e.threads = threads;
	e.n_threads = 2;
	ASSERT_OK(fence_push_process(&ids, &n, &e));
	ASSERT_EQ(n, 4);
	ASSERT(ids[0] == 1 && ids[1] == 9 && ids[2] == 7 && ids[3] == 0);
	e.numbers = list;
	e.n_numbers = 2;
	e.session_numbers = &numbers[2];
	ASSERT_OK(fence_push_process(&ids, &n, &e));
	ASSERT_EQ(n, 8);
	ASSERT(ids[4] == 501 && ids[5] == 509 && ids[6] == 7 && ids[7] == 400);
	e.n_numbers = 1;			/* as nobody writes it */
	numbers[0].n_at = numbers[2].n_at = 0;
	ASSERT_OK(fence_push_process(&ids, &n, &e));
	ASSERT(ids[8] == 1 && ids[9] == 9 && ids[11] == 0);
	free(ids);
}

static const struct manifest_clock saved_clock = {
	.realtime_nsec = 1800000000ll * 1000000000, .tsc = 5000000000ull, .tsc_khz = 2000000,
};

TEST("the wall clock goes on by the TSC, whatever the RTC says")
{
	struct clock_choice c = clock_choose(&saved_clock, 1700000000ll * 1000000000,
					     5000000000ull + 7000000000ull);

	ASSERT_STREQ(c.by, "tsc");
	ASSERT_EQ(c.elapsed_nsec, 3500000000ll);
	ASSERT_EQ(c.realtime_nsec, saved_clock.realtime_nsec + 3500000000ll);
}

TEST("a TSC that was reset, is unknown or claims hours leaves the wall clock to the RTC")
{
	struct manifest_clock none = saved_clock;
	int64_t rtc = saved_clock.realtime_nsec + 4000000000ll;

	none.tsc_khz = 0;
	ASSERT_STREQ(clock_choose(&saved_clock, rtc, 100).by, "rtc");
	ASSERT_STREQ(clock_choose(&saved_clock, rtc, UINT64_MAX).by, "rtc");
	ASSERT_STREQ(clock_choose(&none, rtc, 6000000000ull).by, "rtc");
	ASSERT_EQ(clock_choose(&none, rtc, 6000000000ull).realtime_nsec, rtc);
}

TEST("the wall clock never goes back behind the saved time")
{
	struct clock_choice c = clock_choose(&saved_clock, saved_clock.realtime_nsec - 1, 0);

	ASSERT_STREQ(c.by, "saved");
	ASSERT_EQ(c.realtime_nsec, saved_clock.realtime_nsec);
}

static const uint8_t uuid_bytes[16] = {
	0xc4, 0xec, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1
};
#define UUID_TEXT "c4ec0000-0000-4000-8000-000000000001"

static uint8_t *make_disk(const char *magic, size_t n, size_t magic_at, size_t uuid_at,
			  const char *label, size_t label_at)
{
	uint8_t *disk = calloc(1, FS_PROBE_BYTES);

	ASSERT(disk);
	memcpy(disk + magic_at, magic, n);
	memcpy(disk + uuid_at, uuid_bytes, sizeof(uuid_bytes));
	memcpy(disk + label_at, label, strlen(label));
	return disk;
}

TEST("filesystems are recognized by their superblocks")
{
	const struct {
		const char *type, *magic;
		size_t n, magic_at, uuid_at, label_at;
	} t[] = {
		{ "ext4", "\x53\xef", 2, 0x438, 0x468, 0x478 },
		{ "xfs", "XFSB", 4, 0, 32, 108 },
		{ "btrfs", "_BHRfS_M", 8, 0x10040, 0x10020, 0x1012b },
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		uint8_t *disk = make_disk(t[i].magic, t[i].n, t[i].magic_at, t[i].uuid_at, "root",
					  t[i].label_at);
		struct fs_id id;

		ASSERT_OK(fs_probe(disk, FS_PROBE_BYTES, &id));
		ASSERT_STREQ(id.type, t[i].type);
		ASSERT_STREQ(id.uuid, UUID_TEXT);
		ASSERT_STREQ(id.label, "root");
		free(disk);
	}
}

TEST("a FAT serial number and padded label read as udev shows them")
{
	uint8_t *disk = make_disk("\x55\xaa", 2, 510, 0x8000, "FAT32   ", 82);
	struct fs_id id;

	memcpy(disk + 67, "\xcd\xab\x34\x12", 4);
	memcpy(disk + 71, "EFI        ", 11);
	ASSERT_OK(fs_probe(disk, FS_PROBE_BYTES, &id));
	ASSERT_STREQ(id.uuid, "1234-ABCD");
	ASSERT_STREQ(id.label, "EFI");
	free(disk);
}

TEST("a device that ends anywhere is never read beyond its end")
{
	uint8_t *disk = make_disk("_BHRfS_M", 8, 0x10040, 0x10020, "l", 0x1012b);
	struct fs_id id;

	for (size_t n = 0; n < FS_PROBE_BYTES; n = n < 2048 ? n + 1 : n + 509) {
		uint8_t *exact = malloc(n ? n : 1);

		/* Its own allocation: a sanitizer sees a read behind it. */
		memcpy(exact, disk, n);
		ASSERT(fs_probe(exact, n, &id) <= 0);
		free(exact);
	}
	memset(disk, 0xff, FS_PROBE_BYTES);
	ASSERT_EQ(fs_probe(disk, FS_PROBE_BYTES, &id), -ENOENT);
	free(disk);
}

static int count_to_three(void *arg)
{
	return ++*(int *)arg < 3 ? -EAGAIN : 0;
}

static int never(void *arg)
{
	(*(int *)arg)++;
	return -EAGAIN;
}

TEST("a wait for a device looks at once, again by itself, and ends at its time")
{
	int calls = 0;

	ASSERT_OK(uevent_wait(-1, 5000000, count_to_three, &calls));
	ASSERT_EQ(calls, 3);
	calls = 0;
	ASSERT_EQ(uevent_wait(-1, 1000, never, &calls), -ETIMEDOUT);
	ASSERT(calls >= 1 && calls <= 3);
}

TEST("a device is found by path, and a name that is none is refused at once")
{
	char *found = NULL;

	ASSERT_OK(device_find(-1, "/dev/null", 1000, &found));
	ASSERT_STREQ(found, "/dev/null");
	free(found);
	ASSERT_EQ(device_find(-1, "tmpfs", 60000000, &found), -EINVAL);
	ASSERT_EQ(device_find(-1, "UUID=", 60000000, &found), -EINVAL);
	ASSERT_EQ(device_find(-1, "/dev/disk/by-uuid/no-such", 1000, &found), -ETIMEDOUT);
}
