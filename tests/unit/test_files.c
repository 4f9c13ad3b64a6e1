/* cr/core, cr/kind: texts of /proc/PID/fdinfo, recorded (Linux 6.18) and hostile; ELF notes. */
#include <elf.h>
#include <fcntl.h>
#include <sys/inotify.h>

#include "kind/fanotify.h"
#include "util/timer.h"
#include "unit.h"

static const char epoll_text[] =
	"pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1039\n"
	"tfd:        4 events: 40000019 data:             1234  pos:0 ino:40f sdev:10\n";
static const char timer_text[] =
	"pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1039\nclockid: 1\nticks: 10\n"
	"settime flags: 01\nit_value: (5, 941053)\nit_interval: (0, 1000000)\n";
static const char inotify_text[] =
	"inotify wd:2 ino:3c51a sdev:fe00000 mask:84000100 ignored_mask:0 fhandle-bytes:8 "
	"fhandle-type:1 f_handle:1ac5030000000000";
static const char lock_text[] = "1: POSIX  ADVISORY  WRITE 30127 fe:00:10953078 10 14";

TEST("the head of a fdinfo text is read, close-on-exec apart from the file's flags")
{
	struct dump_fd d;

	ASSERT_OK(fdinfo_parse(epoll_text, &d));
	ASSERT(d.cloexec);
	ASSERT_EQ(d.flags, O_RDWR);
	ASSERT_EQ(d.mnt_id, 17);
	ASSERT_EQ(d.ino, 1039);
	ASSERT_EQ(d.pos, 0);
	ASSERT_OK(fdinfo_parse("pos:\t-1\nflags:\t0100001\n", &d));
	ASSERT_EQ(d.pos, UINT64_MAX);
	ASSERT_EQ(d.mnt_id, -1);
	ASSERT(!d.cloexec);
	ASSERT_EQ(fdinfo_parse("", &d), -EBADMSG);
	ASSERT_EQ(fdinfo_parse("pos:\t0\n", &d), -EBADMSG);
	ASSERT_EQ(fdinfo_parse("xflags:\t02\n", &d), -EBADMSG);
	ASSERT_EQ(fdinfo_parse("flags:\t-2\n", &d), -EBADMSG);
	ASSERT_EQ(fdinfo_parse("flags:\t02\nino:\tx\n", &d), -EBADMSG);
}

TEST("a number in fdinfo is found at the beginning of a line only, whole and in range")
{
	uint64_t v = 0;

	ASSERT_OK(fdinfo_u64("a:\t1\neventfd-count:  fffffffffffffffe\n", "eventfd-count", 16, &v));
	ASSERT_EQ(v, (uint64_t)-2);
	ASSERT_EQ(fdinfo_u64("xpos:\t1\n", "pos", 10, &v), -ENOENT);
	ASSERT_EQ(fdinfo_u64("posx:\t1\n", "pos", 10, &v), -ENOENT);
	ASSERT_EQ(fdinfo_u64("pos:", "pos", 10, &v), -EBADMSG);
	ASSERT_EQ(fdinfo_u64("pos:\t12x\n", "pos", 10, &v), -EBADMSG);
	ASSERT_EQ(fdinfo_u64("pos:\t99999999999999999999\n", "pos", 10, &v), -EBADMSG);
	ASSERT_OK(fdinfo_u64("pos:\t7", "pos", 10, &v));
	ASSERT_EQ(v, 7);
}

TEST("an epoll line is read, and refused when a field is missing")
{
	const char *line = strstr(epoll_text, "tfd:");
	struct epoll_line l;

	ASSERT_OK(epoll_line_parse(line, &l));
	ASSERT_EQ(l.tfd, 4);
	ASSERT_EQ(l.events, 0x40000019);
	ASSERT_EQ(l.data, 0x1234);
	ASSERT_EQ(l.ino, 0x40f);
	ASSERT_EQ(l.sdev, 0x10);
	ASSERT_EQ(epoll_line_parse("tfd: 4 events: 19 data: 1", &l), -EBADMSG);
	ASSERT_EQ(epoll_line_parse("tfd: 4294967295 events: 1 data: 1 pos:0 ino:1 sdev:1", &l),
		  -EBADMSG);
}

TEST("a timerfd's text is read, and refused when times are no times")
{
	static const char *const bad[] = {
		"", "clockid: 1\n", "clockid: x\nticks: 1\nsettime flags: 0\n",
		"clockid: 1\nticks: 1\nsettime flags: 0\nit_value: (1, 1000000000)\n"
		"it_interval: (0, 0)\n",
		"clockid: 1\nticks: 1\nsettime flags: 0\nit_value: (1\nit_interval: (0, 0)\n",
		"clockid: 1\nticks: 1\nsettime flags: 0\nxit_value: (1, 0)\nit_interval: (0, 0)\n",
		"clockid: 1\nticks: 1\nsettime flags: 0\nit_value: (1, 0)\n",
	};
	struct timerfd_info ti;

	ASSERT_OK(timerfd_info_parse(timer_text, &ti));
	ASSERT_EQ(ti.clockid, 1);
	ASSERT_EQ(ti.ticks, 10);
	ASSERT_EQ(ti.settime_flags, 1);
	ASSERT_EQ(ti.value_sec, 5);
	ASSERT_EQ(ti.value_nsec, 941053);
	ASSERT_EQ(ti.interval_nsec, 1000000);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(timerfd_info_parse(bad[i], &ti), -EBADMSG);
}

TEST("an inotify line is read with its handle, and refused when the handle is too long")
{
	struct inotify_line l;

	ASSERT_OK(inotify_line_parse(inotify_text, &l));
	ASSERT_EQ(l.wd, 2);
	ASSERT_EQ(l.inode.ino, 0x3c51a);
	ASSERT_EQ(l.inode.sdev, 0xfe00000);
	ASSERT_EQ(l.mask, IN_CREATE | IN_ONESHOT | IN_EXCL_UNLINK);
	ASSERT(l.inode.has_handle);
	ASSERT_EQ(l.inode.handle_bytes, 8);
	ASSERT_EQ(l.inode.handle[1], 0xc5);
	ASSERT_OK(inotify_line_parse("inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0 ", &l));
	ASSERT(!l.inode.has_handle);
	ASSERT_EQ(inotify_line_parse("inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0 "
				     "fhandle-bytes:81 fhandle-type:1 f_handle:00", &l), -EBADMSG);
	ASSERT_EQ(inotify_line_parse("inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0 "
				     "fhandle-bytes:2 fhandle-type:1 f_handle:0", &l), -EBADMSG);
	ASSERT_EQ(inotify_line_parse("inotify wd:1", &l), -EBADMSG);
}

static void handle_of(const char *dir, const char *name, struct watched *w)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + sizeof(w->handle)];
	} u = { .h.handle_bytes = sizeof(w->handle) };
	char path[300];
	struct stat st;
	int mnt_id;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (name_to_handle_at(AT_FDCWD, path, &u.h, &mnt_id, 0) < 0)
		unit_skip("this file system has no handles");
	ASSERT_OK(stat(path, &st));
	*w = (struct watched){ .handle_bytes = u.h.handle_bytes, .ino = st.st_ino,
			       .handle_type = (uint32_t)u.h.handle_type };
	memcpy(w->handle, u.h.f_handle, u.h.handle_bytes);
}

TEST("a watched inode is found by its handle, in time, and another of its number is not taken for it")
{
	const char *dir = unit_tmpdir(), *rel;
	struct cr_opts opts = { 0 };
	struct dump_ctx ctx = { .opts = &opts };
	struct watched w;
	char path[300];
	int root, fd;

	arena_init(&ctx.arena);
	for (const char *const *d = (const char *const[]){ "a", "a/b", "a/b/c", "z", NULL }; *d; d++) {
		snprintf(path, sizeof(path), "%s/%s", dir, *d);
		ASSERT_OK(mkdir(path, 0700));
	}
	snprintf(path, sizeof(path), "%s/a/b/file", dir);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_OK(fd);
	root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(root);
	for (int by_number = 0; by_number < 2; by_number++) {
		handle_of(dir, "a/b/file", &w);
		ASSERT_EQ(watched_search(&ctx, root, &w, by_number, UINT64_MAX, &rel), 1);
		ASSERT_STREQ(rel, "a/b/file");
		ASSERT_EQ(watched_search(&ctx, root, &w, by_number, 0, &rel), -ETIME);
		w.handle[w.handle_bytes - 1] ^= 1;
		ASSERT_EQ(watched_search(&ctx, root, &w, by_number, UINT64_MAX, &rel), 0);
		handle_of(dir, "a/b/c", &w);
		ASSERT_EQ(watched_search(&ctx, root, &w, by_number, UINT64_MAX, &rel), 1);
		ASSERT_STREQ(rel, "a/b/c");
		handle_of(dir, ".", &w);
		ASSERT_EQ(watched_search(&ctx, root, &w, by_number, UINT64_MAX, &rel), 1);
		ASSERT_STREQ(rel, "");
	}
	close(fd);
	close(root);
	arena_done(&ctx.arena);
}

TEST("fanotify's lines are told apart, and what is none of them is refused")
{
	static const char text[] =
		"pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1039\n"
		"fanotify flags:1e82 event-flags:c8002\n"
		"fanotify sdev:fe00000 mflags:0 mask:8000120 ignored_mask:0\n"
		"fanotify mnt_id:1b mflags:440 mask:8000020 ignored_mask:20\n"
		"fanotify mnt_ns:4026531832 mflags:0 mask:3000000 ignored_mask:0\n"
		"fanotify ino:aa40d6 sdev:fe00000 mflags:200 mask:20 ignored_mask:8 fhandle-bytes:8 "
		"fhandle-type:1 f_handle:d640aa00918ddb9d\n";
	static const char *const bad[] = {
		"", "fanotify ", "fanotify flags:0 event-flags:0", "fanotify ino:1 mflags:0 mask:1 ignored_mask:0",
		"fanotify sdev:1", "fanotify sdev:1 ", "fanotify sdev:1 mflags:0 mask:1",
		"fanotify mnt_id:x mflags:0 mask:1 ignored_mask:0", "fanotify new:1 mflags:0 mask:1 ignored_mask:0",
		"fanotify ino:1 sdev:1 mflags:0 mask:1 ignored_mask:0 fhandle-bytes:81 fhandle-type:1 f_handle:00",
		"fanotify ino:1 sdev:1 mflags:0 mask:1 ignored_mask:0 fhandle-bytes:2 fhandle-type:1 f_handle:00",
	};
	static const enum fanotify_object objects[] = { FANOTIFY_FILESYSTEM, FANOTIFY_MOUNT, FANOTIFY_MNTNS,
							FANOTIFY_INODE };
	const char *line = text;
	struct fanotify_info info;
	struct fanotify_line l;

	ASSERT_OK(fanotify_info_parse(text, &info));
	ASSERT_EQ(info.flags, 0x1e82);
	ASSERT_EQ(info.event_flags, 0xc8002);
	ASSERT_EQ(fanotify_info_parse("flags:\t02\n", &info), -EBADMSG);
	ASSERT_EQ(fanotify_info_parse("\nfanotify flags:2\n", &info), -EBADMSG);
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
		line = fanotify_next_mark(line);
		ASSERT(line);
		ASSERT_OK(fanotify_line_parse(line, &l));
		ASSERT_EQ(l.object, objects[i]);
		ASSERT_EQ(l.mflags, i == 1 ? 0x440 : i == 3 ? 0x200 : 0);
		if (l.object == FANOTIFY_MOUNT)
			ASSERT_EQ(l.mnt_id, 0x1b);
	}
	ASSERT(!fanotify_next_mark(line));
	ASSERT_EQ(l.mask, 0x20);
	ASSERT_EQ(l.ignored_mask, 8);
	ASSERT_EQ(l.inode.sdev, 0xfe00000);
	ASSERT_EQ(l.inode.ino, 0xaa40d6);
	ASSERT_EQ(l.inode.handle_bytes, 8);
	ASSERT_EQ(l.inode.handle[7], 0x9d);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(fanotify_line_parse(bad[i], &l), -EBADMSG);
}

TEST("lock lines of all kinds are read")
{
	struct lock_line l;

	ASSERT_OK(lock_line_parse(lock_text, &l));
	ASSERT_EQ(l.flag, LOCK_FLAG_POSIX);
	ASSERT_EQ(l.type, F_WRLCK);
	ASSERT_EQ(l.pid, 30127);
	ASSERT_EQ(l.start, 10);
	ASSERT_EQ(l.len, 5);
	ASSERT_OK(lock_line_parse("3: OFDLCK ADVISORY  READ -1 fe:00:10953078 100 EOF", &l));
	ASSERT_EQ(l.flag, LOCK_FLAG_OFD);
	ASSERT_EQ(l.type, F_RDLCK);
	ASSERT_EQ(l.len, 0);
	ASSERT_OK(lock_line_parse("1: FLOCK  ADVISORY  WRITE 1 fe:00:1 0 EOF", &l));
	ASSERT_EQ(l.flag, LOCK_FLAG_FLOCK);
	ASSERT_OK(lock_line_parse("1: LEASE  BREAKING  READ 1 fe:00:1 0 EOF", &l));
	ASSERT_EQ(l.flag, LOCK_FLAG_LEASE);
	ASSERT_EQ(l.type, F_RDLCK | 4);
	ASSERT_OK(lock_line_parse("1: DELEG  ACTIVE    READ 1 fe:00:1 0 EOF", &l));
	ASSERT_EQ(l.flag, 0);
}

TEST("damaged lock lines are refused")
{
	static const char *const bad[] = {
		"", "1: POSIX", "1: POSIX  ADVISORY  WHAT 1 fe:00:1 0 EOF",
		"1: POSIX  ADVISORY  READ 1 fe:00:1 -5 EOF",
		"1: POSIX  ADVISORY  READ 1 fe:00:1 9 8",
		"1: POSIX  ADVISORY  READ 1 fe:00:1 0 12x",
		"1: POSIX  ADVISORY  READ 1 fe:00:1 0 9223372036854775807",
		"1: POSIX  ADVISORY  READ 1 fe:00:1 0 99999999999999999999",
	};
	struct lock_line l;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(lock_line_parse(bad[i], &l), -EBADMSG);
}

TEST("a text cut off anywhere is refused or read, never read beyond its end")
{
	const char *const texts[] = { epoll_text, timer_text, inotify_text, lock_text };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		for (size_t n = 0; n <= strlen(texts[i]); n++) {
			char *cut = strndup(texts[i], n);
			struct inotify_line il;
			struct timerfd_info ti;
			struct epoll_line el;
			struct lock_line ll;
			struct dump_fd d;
			int sum = 0;

			ASSERT(cut);
			sum += fdinfo_parse(cut, &d);
			sum += epoll_line_parse(cut, &el);
			sum += timerfd_info_parse(cut, &ti);
			sum += inotify_line_parse(cut, &il);
			sum += lock_line_parse(cut, &ll);
			/* Each text suits at most two of the five. */
			ASSERT(sum <= -3 * EBADMSG);
			free(cut);
		}
}

TEST("time that has passed is taken off a timer, and expirations are counted")
{
	uint64_t value = 1000, ticks = 0;

	timer_advance(&value, 0, &ticks, 400);
	ASSERT_EQ(value, 600);
	ASSERT_EQ(ticks, 0);
	timer_advance(&value, 0, &ticks, 600);
	ASSERT_EQ(value, 0);
	ASSERT_EQ(ticks, 1);
	/* Disarmed: nothing happens any more. */
	timer_advance(&value, 0, &ticks, 600);
	ASSERT_EQ(ticks, 1);
	value = 50;
	ticks = 2;
	timer_advance(&value, 100, &ticks, 275);
	ASSERT_EQ(ticks, 2 + 3);	/* at 50, 150, 250 */
	ASSERT_EQ(value, 75);
	value = 50;
	ticks = 0;
	timer_advance(&value, 100, &ticks, 50);
	ASSERT_EQ(ticks, 1);
	ASSERT_EQ(value, 100);
}

TEST("names of anonymous inodes are compared whole")
{
	ASSERT(link_is_anon("anon_inode:[eventfd]", "eventfd"));
	ASSERT(link_is_anon("anon_inode:inotify", "inotify"));
	ASSERT(!link_is_anon("anon_inode:[eventfd2]", "eventfd"));
	ASSERT(!link_is_anon("anon_inode:[event]", "eventfd"));
	ASSERT(!link_is_anon("anon_inode:[eventfd", "eventfd"));
	ASSERT(!link_is_anon("/anon_inode:[eventfd]", "eventfd"));
	ASSERT(!link_is_anon("anon_inode:", "eventfd"));
}

/* An ELF file with one note, in memory. */
static int elf_file(uint32_t namesz, uint32_t descsz, uint64_t note_off, uint64_t note_bytes)
{
	struct {
		Elf64_Ehdr eh;
		Elf64_Phdr ph;
		Elf64_Nhdr nh;
		char name[4];
		uint8_t desc[20];
	} f = {
		.eh = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64 },
			.e_phoff = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1 },
		.ph = { .p_type = PT_NOTE, .p_offset = note_off, .p_filesz = note_bytes },
		.nh = { namesz, descsz, NT_GNU_BUILD_ID },
		.name = "GNU",
		.desc = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
					 19, 20 },
	};
	int fd = memfd_create("elf", 0);

	ASSERT_OK(fd);
	ASSERT_OK(write_full(fd, &f, sizeof(f)));
	return fd;
}

#define NOTE_OFF (sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr))
#define NOTE_BYTES (sizeof(Elf64_Nhdr) + 4 + 20)

TEST("the build id of a program is found")
{
	uint8_t id[BUILD_ID_MAX];
	int fd = elf_file(4, 20, NOTE_OFF, NOTE_BYTES);

	ASSERT_EQ(build_id_read(fd, id), 20);
	ASSERT_EQ(id[0], 1);
	ASSERT_EQ(id[19], 20);
	close(fd);
}

TEST("an ELF file whose headers point anywhere has no build id and does no harm")
{
	static const struct {
		uint32_t namesz, descsz;
		uint64_t off, bytes;
	} cases[] = {
		{ UINT32_MAX, 20, NOTE_OFF, NOTE_BYTES }, { 4, UINT32_MAX, NOTE_OFF, NOTE_BYTES },
		{ UINT32_MAX, UINT32_MAX, NOTE_OFF, NOTE_BYTES },
		{ 4, 20, NOTE_OFF, NOTE_BYTES - 1 },
		{ 4, 20, NOTE_OFF, 3 }, { 4, 20, NOTE_OFF, UINT64_MAX }, { 4, 20, UINT64_MAX, 64 },
		{ 4, 20, INT64_MAX, 64 }, { 4, 65, NOTE_OFF, NOTE_BYTES },
		{ 4, 0, NOTE_OFF, NOTE_BYTES },
	};
	uint8_t id[BUILD_ID_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = elf_file(cases[i].namesz, cases[i].descsz, cases[i].off, cases[i].bytes);

		ASSERT_EQ(build_id_read(fd, id), 0);
		close(fd);
	}
}

TEST("a file that is cut off inside its ELF headers has no build id")
{
	uint8_t id[BUILD_ID_MAX];

	for (size_t n = 0; n < NOTE_OFF + NOTE_BYTES; n++) {
		int fd = elf_file(4, 20, NOTE_OFF, NOTE_BYTES);

		ASSERT_OK(ftruncate(fd, (off_t)n));
		ASSERT_EQ(build_id_read(fd, id), 0);
		close(fd);
	}
}
