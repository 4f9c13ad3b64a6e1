/* Kernels: versions, images, initrds, configurations, command lines. */
#include <fcntl.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include "crkexec/cmdline.h"
#include "crkexec/kernel.h"
#include "crkexec/phases.h"
#include "unit.h"
#include "util/io.h"

static void put_file(const char *name, const void *data, size_t n)
{
	char path[600];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	for (char *s = path + strlen(unit_tmpdir()) + 1; (s = strchr(s, '/')); s++) {
		*s = '\0';
		mkdir(path, 0700);
		*s = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ASSERT(fd >= 0);
	ASSERT_EQ(write_full(fd, data, n), 0);
	close(fd);
}

static const char *tmp(const char *name)
{
	static char path[600];

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	return path;
}

TEST("kernel versions are ordered as people expect")
{
	static const char *const ascending[] = {
		"4.19.0", "6.1.0-10-amd64", "6.9.1", "6.12.1", "6.12.10", "6.12.107+deb13-cloud-amd64",
		"7.2~rc1", "7.2", "7.2.12+deb13-cloud-amd64", "7.10",
	};
	size_t n = sizeof(ascending) / sizeof(ascending[0]);

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++) {
			int c = kernel_version_compare(ascending[i], ascending[k]);

			if ((c < 0) != (i < k) || (c == 0) != (i == k))
				unit_fail(__FILE__, __LINE__, "%s ? %s: %d", ascending[i], ascending[k], c);
		}
	ASSERT_EQ(kernel_version_compare("6.01", "6.1"), 0);
}

TEST("a version is told from a path")
{
	ASSERT(kernel_is_version("6.12.1"));
	ASSERT(!kernel_is_version("/boot/vmlinuz"));
	ASSERT(!kernel_is_version("vmlinuz"));
	ASSERT(!kernel_is_version("6.12/vmlinuz"));
	ASSERT(!kernel_is_version(""));
}

TEST("kernels are found in /boot, in the modules directory and by boot loader entries, newest last")
{
	struct kernel_list l = { 0 };

	put_file("boot/vmlinuz-6.12.1", "x", 1);
	put_file("boot/initrd.img-6.12.1", "x", 1);
	put_file("boot/vmlinuz-old", "x", 1);
	put_file("usr/lib/modules/7.2.0/vmlinuz", "x", 1);
	put_file("usr/lib/modules/7.2.0/config", "x", 1);
	put_file("usr/lib/modules/6.12.1/modules.dep", "x", 1);
	put_file("boot/loader/entries/a.conf", "title X\nversion  6.13.0\nlinux /v/linux\n"
		 "initrd /v/initrd \ninitrd /v/second\n", 70);
	put_file("boot/loader/entries/b.conf", "version 6.14\nlinux ../../etc/passwd\n", 37);
	put_file("boot/loader/entries/c.conf", "version 6.15\n", 13);
	ASSERT_EQ(kernel_list(unit_tmpdir(), &l), 0);
	ASSERT_EQ(l.n, 3u);
	ASSERT_STREQ(l.v[0].version, "6.12.1");
	ASSERT_STREQ(l.v[0].initrd, tmp("boot/initrd.img-6.12.1"));
	ASSERT_STREQ(l.v[1].version, "6.13.0");
	ASSERT_STREQ(l.v[1].image, tmp("boot//v/linux"));
	ASSERT_STREQ(l.v[1].initrd, tmp("boot//v/initrd"));
	ASSERT_STREQ(l.v[2].version, "7.2.0");
	ASSERT(!l.v[2].initrd);
	kernel_list_done(&l);
	ASSERT_STREQ(kernel_find_config(unit_tmpdir(), "7.2.0"), tmp("usr/lib/modules/7.2.0/config"));
	ASSERT(!kernel_find_config(unit_tmpdir(), "6.12.1"));
	ASSERT_STREQ(kernel_find_modules(unit_tmpdir(), "6.12.1"), tmp("usr/lib/modules/6.12.1"));
}

static void make_bzimage(uint8_t *b, size_t n, const char *version)
{
	memset(b, 0, n);
	b[0x1fe] = 0x55;
	b[0x1ff] = 0xaa;
	memcpy(b + 0x202, "HdrS", 4);
	b[0x206] = 0x0f;
	b[0x207] = 2;
	b[0x20e] = 0x00;
	b[0x20f] = 0x10;
	b[0x211] = 1;
	b[0x236] = 1;
	b[0x238] = 0xff;
	b[0x239] = 0x07;
	memcpy(b + 0x1200, version, strlen(version) + 1);
}

TEST("a kernel image tells its version and the length of command lines")
{
	uint8_t b[0x2000];
	struct bzimage bz;
	const char *why;

	make_bzimage(b, sizeof(b), "7.2.12+deb13-cloud-amd64 (debian@x) #1 SMP");
	ASSERT_EQ(bzimage_parse(b, sizeof(b), &bz, &why), 0);
	ASSERT_STREQ(bz.version, "7.2.12+deb13-cloud-amd64");
	ASSERT_EQ(bz.cmdline_max, 2047u);
	ASSERT(!bz.has_high_memory);
	b[0x236] |= 0x60;
	ASSERT_EQ(bzimage_parse(b, sizeof(b), &bz, &why), 0);
	ASSERT(bz.has_high_memory);
}

TEST("a word of a command line is found as a whole and without value only")
{
	ASSERT(cmdline_has("no5lvl", "no5lvl"));
	ASSERT(cmdline_has(" quiet\tno5lvl\n", "no5lvl"));
	ASSERT(!cmdline_has("no5lvlx xno5lvl no5lvl=1 \"a no5lvl b\"", "no5lvl"));
	ASSERT(!cmdline_has("", "no5lvl"));
	ASSERT(!cmdline_has("  ", "no5lvl"));
}

TEST("memory above 47 bits is found, and the kernel's own page is none")
{
	static const char low[] = "7ffff7fc1000-7ffff7fc3000 r-xp 00000000 00:00 0    [vdso]\n"
				  "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0    [stack]\n"
				  "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n";
	uint64_t start;

	ASSERT(!maps_have_high_memory(low, &start));
	ASSERT(!maps_have_high_memory("", &start));
	ASSERT(!maps_have_high_memory("\n\nx\n", &start));
	ASSERT(maps_have_high_memory("1000-2000 r--p 0 00:00 0 \n7ffffffff000-800000001000 rw-p 0 00:00 0 \n",
				     &start));
	ASSERT_EQ(start, 0x7ffffffff000);
	ASSERT(maps_have_high_memory("ffffffffffe000-fffffffffff000 rw-p 0 00:00 0 ", &start));
}

TEST("a kernel image that is cut short is refused")
{
	static uint8_t b[0x4000];
	struct bzimage bz;
	const char *why;

	make_bzimage(b, sizeof(b), "6.1 x");
	b[0x1f1] = 15;
	b[0x1f5] = 2;	/* 0x200 paragraphs behind 16 sectors */
	put_file("whole", b, 0x4000);
	ASSERT_EQ(bzimage_read(tmp("whole"), &bz, &why), 0);
	ASSERT_EQ(bz.file_bytes, 0x4000u);
	put_file("cut", b, 0x3fff);
	ASSERT_EQ(bzimage_read(tmp("cut"), &bz, &why), -ENOEXEC);
	ASSERT_CONTAINS(why, "short");
}

TEST("what is not a kernel image is refused with the reason")
{
	uint8_t b[0x2000];
	struct bzimage bz;
	const char *why;

	make_bzimage(b, sizeof(b), "6.1");
	for (size_t n = 0; n < 0x1204; n++)
		ASSERT_EQ(bzimage_parse(b, n, &bz, &why), -ENOEXEC);
	memset(b, 0, sizeof(b));
	ASSERT_EQ(bzimage_parse(b, sizeof(b), &bz, &why), -ENOEXEC);
	memcpy(b, "MZ", 2);
	ASSERT_EQ(bzimage_parse(b, sizeof(b), &bz, &why), -ENOEXEC);
	ASSERT_CONTAINS(why, "unified");
	memcpy(b, "\x7f" "ELF", 4);
	ASSERT_EQ(bzimage_parse(b, sizeof(b), &bz, &why), -ENOEXEC);
	ASSERT_CONTAINS(why, "ELF");
	make_bzimage(b, sizeof(b), "");
	ASSERT_EQ(bzimage_parse(b, sizeof(b), &bz, &why), -ENOEXEC);
	make_bzimage(b, sizeof(b), "../../x");
	ASSERT_EQ(bzimage_parse(b, sizeof(b), &bz, &why), 0);
	ASSERT_STREQ(bz.version, "..");
	make_bzimage(b, sizeof(b), "6.1");
	b[0x236] = 0;
	ASSERT_EQ(bzimage_parse(b, sizeof(b), &bz, &why), -ENOEXEC);
	ASSERT_CONTAINS(why, "64-bit");
	make_bzimage(b, sizeof(b), "6.1");
	b[0x20f] = 0xff;
	ASSERT_EQ(bzimage_parse(b, sizeof(b), &bz, &why), -ENOEXEC);
	ASSERT_EQ(bzimage_read(unit_tmpdir(), &bz, &why), -ENOEXEC);
	ASSERT_EQ(bzimage_read(tmp("none"), &bz, &why), -ENOENT);
}

/* A newc archive of empty files. */
static size_t make_cpio(uint8_t *b, const char *const *names)
{
	size_t n = 0;

	for (int last = 0; !last;) {
		const char *name = *names ? *names++ : "TRAILER!!!";

		last = !strcmp(name, "TRAILER!!!");
		n += (size_t)sprintf((char *)b + n, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x"
				     "%08x%08x", 1, 0100644, 0, 0, 1, 0, last ? 0 : 5, 0, 0, 0, 0,
				     (unsigned int)strlen(name) + 1, 0);
		memcpy(b + n, name, strlen(name) + 1);
		n += strlen(name) + 1;
		while (n % 4)
			b[n++] = 0;
		if (!last) {
			memcpy(b + n, "hello\0\0\0", 8);
			n += 8;
		}
	}
	return n;
}

static const char *const early_names[] = { "kernel/x86/microcode/GenuineIntel.bin", NULL };
static const char *const main_names[] = {
	"etc", "usr/lib/modules/7.2.0/kernel/a.ko", "usr/lib/modules/7.2.0/modules.dep",
	"usr/lib/crkexec/crkexec-early", NULL
};

static void check_scan(const char *name)
{
	struct initrd_info info;

	ASSERT_EQ(initrd_scan(tmp(name), &info), 0);
	ASSERT(!info.unreadable);
	ASSERT(info.has_early);
	ASSERT_EQ(info.versions.n, 1u);
	ASSERT_STREQ(info.versions.v[0], "7.2.0");
	initrd_info_done(&info);
}

TEST("the version of an initrd is found behind microcode, plain, in gzip and in zstd")
{
	static uint8_t plain[8192], packed[16384];
	size_t early = make_cpio(plain, early_names), n, z;
	z_stream gz = { 0 };

	memset(plain + early, 0, 512);
	early = (early + 511) / 512 * 512;
	n = make_cpio(plain + early, main_names);
	put_file("plain", plain, early + n);
	check_scan("plain");

	memcpy(packed, plain, early);
	z = ZSTD_compress(packed + early, sizeof(packed) - early, plain + early, n, 1);
	ASSERT(!ZSTD_isError(z));
	put_file("zstd", packed, early + z);
	check_scan("zstd");

	ASSERT_EQ(deflateInit2(&gz, 1, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	gz.next_in = plain + early;
	gz.avail_in = (uInt)n;
	gz.next_out = packed + early;
	gz.avail_out = (uInt)(sizeof(packed) - early);
	ASSERT_EQ(deflate(&gz, Z_FINISH), Z_STREAM_END);
	put_file("gzip", packed, early + gz.total_out);
	check_scan("gzip");
}

TEST("a damaged or unknown initrd is called unreadable and never crashes")
{
	static uint8_t plain[8192], packed[8192];
	size_t n = make_cpio(plain, main_names);
	size_t z = ZSTD_compress(packed, sizeof(packed), plain, n, 1);
	struct initrd_info info;

	/* The padding behind the trailer may be missing. */
	for (size_t i = 4; i < n - 4; i += 3) {
		put_file("cut", plain, i);
		ASSERT_EQ(initrd_scan(tmp("cut"), &info), 0);
		ASSERT(info.unreadable);
		initrd_info_done(&info);
	}
	for (size_t i = 0; i < z; i++) {
		packed[i] ^= 0x5a;
		put_file("flip", packed, z);
		ASSERT_EQ(initrd_scan(tmp("flip"), &info), 0);
		initrd_info_done(&info);
		packed[i] ^= 0x5a;
	}
	put_file("lz4", "\x02\x21\x4c\x18 and so on", 14);
	ASSERT_EQ(initrd_scan(tmp("lz4"), &info), 0);
	ASSERT(info.unreadable);
	put_file("text", "this is no initrd", 17);
	ASSERT_EQ(initrd_scan(tmp("text"), &info), 0);
	ASSERT(info.unreadable);
	ASSERT_EQ(initrd_scan(tmp("nothing"), &info), -ENOENT);
}

TEST("missing options of a kernel configuration are found, modules count as present")
{
	static const struct kconfig_need needs[] = {
		{ "A", "" }, { "B", "" }, { "C", "" }, { "AA", "" }, { "D", "" }, { NULL, NULL }
	};
	struct strv missing = { 0 };

	ASSERT_EQ(kconfig_missing("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\nCONFIG_D=n\n"
				  "#CONFIG_AA=y\nXCONFIG_B=y\n", needs, &missing), 0);
	ASSERT_STREQ(strv_text(&missing), "B, AA, D");
	strv_done(&missing);
}

static char *build(const char *current, const char *append, bool own)
{
	char *line = NULL;

	ASSERT_EQ(cmdline_build(current, "crkexec=new", append, own, 2047, &line), 0);
	return line;
}

TEST("the command line is kept, cleaned of boot loaders and earlier upgrades, and extended")
{
	ASSERT_STREQ(build("BOOT_IMAGE=/vmlinuz root=/dev/vda  ro quiet\n", NULL, true),
		     "root=/dev/vda ro quiet crkexec=new");
	ASSERT_STREQ(build("initrd=\\x root=UUID=1 crkexec=old rdinit=/x", "debug", true),
		     "root=UUID=1 crkexec=new debug");
	ASSERT_STREQ(build("rdinit=/x a", NULL, false), "rdinit=/x a crkexec=new");
	ASSERT_STREQ(build("a=\"b initrd=c\" d", NULL, true), "a=\"b initrd=c\" d crkexec=new");
	ASSERT_STREQ(build("a -- single initrd=x\n", "z", true), "a crkexec=new z -- single initrd=x");
	ASSERT_STREQ(build("", NULL, true), "crkexec=new");
}

TEST("memory that an earlier upgrade took is given back, the operator's own memmap= stays")
{
	ASSERT_STREQ(build("a crkexec=o,store=pmem:0x1+0x2:3 memmap=128M!0x1,64T%0-12+0xe mem=1G",
			   NULL, true), "a mem=1G crkexec=new");
	ASSERT_STREQ(build("a memmap=1G!4G", NULL, true), "a memmap=1G!4G crkexec=new");
	ASSERT_STREQ(build("memmap=1G!4G crkexec=o,store=pmem:0x1+0x2:3 modprobe.blacklist=nd_e820 "
			   "memmap=128M!0x1 b memmap=2G!8G", NULL, true),
		     "memmap=1G!4G b memmap=2G!8G crkexec=new");
	ASSERT_STREQ(build("crkexec=o memmap=1G!4G", NULL, true), "memmap=1G!4G crkexec=new");
}

TEST("a command line that the kernel would cut is refused")
{
	char *line;

	ASSERT_EQ(cmdline_build("aaaa", "bb", "cc", true, 10, &line), 0);
	ASSERT_STREQ(line, "aaaa bb cc");
	ASSERT_EQ(cmdline_build("aaaa", "bb", "ccc", true, 10, &line), -E2BIG);
}

TEST("the last value of a key counts, what is for init does not")
{
	ASSERT_STREQ(cmdline_get("init=/a x init=/b -- init=/c", "init"), "/b");
	ASSERT(!cmdline_get("xinit=/a initx=/b init", "init"));
	ASSERT_STREQ(cmdline_get("a=\"b c\" d", "a"), "\"b c\"");
}

TEST("firmware is found where the kernel looks for it, packed or not, by name or pattern, and nowhere else")
{
	_cleanup_strv_ struct strv found = { 0 };

	put_file("lib/firmware/nic/a.bin.xz", "x", 1);
	put_file("lib/firmware/7.2.0/nic/b.bin", "x", 1);
	put_file("lib/firmware/updates/nic/c-1.bin", "x", 1);
	put_file("lib/firmware/updates/nic/c-2.bin.zst", "x", 1);
	put_file("lib/firmware/6.12.1/nic/a.bin", "x", 1);
	put_file("lib/other", "x", 1);
	ASSERT_OK(firmware_find(unit_tmpdir(), "7.2.0", "nic/a.bin", &found));
	ASSERT_OK(firmware_find(unit_tmpdir(), "7.2.0", "nic/a.bin", &found));
	ASSERT_OK(firmware_find(unit_tmpdir(), "7.2.0", "nic/b.bin", &found));
	ASSERT_OK(firmware_find(unit_tmpdir(), "7.2.0", "nic/c-*.bin", &found));
	ASSERT_OK(firmware_find(unit_tmpdir(), "7.2.0", "nic/missing.bin", &found));
	ASSERT_OK(firmware_find(unit_tmpdir(), "7.2.0", "../other", &found));
	ASSERT_OK(firmware_find(unit_tmpdir(), "7.2.0", "nic", &found));
	ASSERT_EQ(found.n, 4u);
	ASSERT_STREQ(found.v[0], "/lib/firmware/nic/a.bin.xz");
	ASSERT_STREQ(found.v[1], "/lib/firmware/7.2.0/nic/b.bin");
	ASSERT_STREQ(found.v[2], "/lib/firmware/updates/nic/c-1.bin");
	ASSERT_STREQ(found.v[3], "/lib/firmware/updates/nic/c-2.bin.zst");
}
