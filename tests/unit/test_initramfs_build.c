/* initramfs_build(): what it writes is read back as the kernel does, byte by byte. */
#include <fcntl.h>
#include <lzma.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include "initramfs/build.h"
#include "tests/unit/unit.h"
#include "util/io.h"
#include "util/log.h"

struct entry {
	char name[256];
	uint32_t mode, bytes, nlink, ino;
	const char *data;
};

/* Small things live until the test's process ends; a leak checker sees that we know them. */
static void *keep(void *p)
{
	static void *kept[128];
	static size_t n;

	ASSERT(p && n < ARRAY_SIZE(kept));
	return kept[n++] = p;
}

static uint32_t hex8(const char *p)
{
	char text[9] = { 0 };

	memcpy(text, p, 8);
	return (uint32_t)strtoul(text, NULL, 16);
}

/* Fills list up to the trailer; the count. at: where the segment begins. */
static size_t parse(const char *all, size_t bytes, size_t at, struct entry *list, size_t max)
{
	for (size_t n = 0;; n++) {
		struct entry *e = &list[n];
		uint32_t name_bytes;

		ASSERT(n < max && at % 4 == 0 && at + 110 <= bytes);
		ASSERT(!memcmp(all + at, "070701", 6));
		e->ino = hex8(all + at + 6);
		e->mode = hex8(all + at + 14);
		e->nlink = hex8(all + at + 38);
		e->bytes = hex8(all + at + 54);
		name_bytes = hex8(all + at + 94);
		ASSERT(name_bytes && name_bytes < sizeof(e->name));
		memcpy(e->name, all + at + 110, name_bytes);
		ASSERT_EQ(strlen(e->name) + 1, name_bytes);
		at = (at + 110 + name_bytes + 3) / 4 * 4;
		e->data = all + at;
		at = (at + e->bytes + 3) / 4 * 4;
		ASSERT(at <= bytes);
		if (!strcmp(e->name, "TRAILER!!!"))
			return n;
	}
}

static const struct entry *find(const struct entry *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(list[i].name, name))
			return &list[i];
	unit_fail(__FILE__, __LINE__, "%s is not in the archive", name);
}

static char *path_of(const char *name)
{
	return keep(str_fmt("%s/%s", unit_tmpdir(), name));
}

static char *make_file(const char *name, const char *text)
{
	char *path = path_of(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);

	ASSERT_OK(fd);
	ASSERT_OK(write_full(fd, text, strlen(text)));
	close(fd);
	return path;
}

static int make_images(void)
{
	char *images = path_of("images"), *dir = path_of("images/a.service");

	ASSERT_OK(mkdir(images, 0700));
	ASSERT_OK(mkdir(dir, 0700));
	ASSERT_OK(mkdir(path_of("images/a.service/0"), 0700));
	make_file("images/a.service/0/core-1.img", "core");
	make_file("images/a.service/0/empty.img", "");
	ASSERT_OK(symlink("../1", path_of("images/a.service/0/parent")));
	return open(images, O_RDONLY | O_DIRECTORY);
}

static int build_into(const struct initramfs_spec *spec, char **ret, size_t *ret_bytes)
{
	char *path = path_of("out");
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	int r;

	ASSERT_OK(fd);
	r = initramfs_build(spec, fd);
	close(fd);
	if (r == 0)
		ASSERT_OK(read_file_at(AT_FDCWD, path, READ_FILE_MAX, ret, ret_bytes));
	if (r == 0)
		keep(*ret);
	return r;
}

TEST("an initramfs of our own has the early program as /init, modules, manifest and images")
{
	const char *modules[] = { make_file("a.ko.xz", "module a"), make_file("b.ko", "b") };
	struct initramfs_spec spec = {
		.early_path = make_file("early", "\177ELF early"), .modules = modules,
		.n_modules = 2, .manifest = "{}\n", .manifest_bytes = 3,
		.images_fd = make_images(), .base_fd = -1,
	};
	struct entry list[32] = { 0 };
	const struct entry *e;
	size_t bytes, n;
	char *all;

	ASSERT_OK(build_into(&spec, &all, &bytes));
	n = parse(all, bytes, 0, list, 32);
	e = find(list, n, "init");
	ASSERT_EQ(e->mode, S_IFREG | 0700);
	ASSERT(e->bytes == 10 && !memcmp(e->data, "\177ELF early", 10));
	e = find(list, n, "crkexec/modules/a.ko.xz");
	ASSERT(e->bytes == 8 && !memcmp(e->data, "module a", 8));
	e = find(list, n, "crkexec/manifest.json");
	ASSERT_EQ(e->mode, S_IFREG | 0600);
	ASSERT(e->bytes == 3 && !memcmp(e->data, "{}\n", 3));
	e = find(list, n, "crkexec/a.service/0/core-1.img");
	ASSERT_EQ(e->mode, S_IFREG | 0640);
	ASSERT(e->bytes == 4 && !memcmp(e->data, "core", 4));
	ASSERT_EQ(find(list, n, "crkexec/a.service/0/empty.img")->bytes, 0);
	e = find(list, n, "crkexec/a.service/0/parent");
	ASSERT_EQ(e->mode & S_IFMT, S_IFLNK);
	ASSERT(e->bytes == 4 && !memcmp(e->data, "../1", 4));
}

TEST("firmware lies where the kernel looks for it, behind its directories")
{
	const char *firmware[] = { make_file("intel.bin", "some code") };
	struct initramfs_spec spec = {
		.early_path = make_file("early", "\177ELF early"), .firmware = firmware, .n_firmware = 1,
		.images_fd = -1, .base_fd = -1,
	};
	_cleanup_free_ char *dir = strdup(firmware[0] + 1);
	struct entry list[32] = { 0 };
	const struct entry *e, *of;
	size_t bytes, n;
	char *all;

	*strrchr(dir, '/') = '\0';
	ASSERT_OK(build_into(&spec, &all, &bytes));
	n = parse(all, bytes, 0, list, 32);
	e = find(list, n, firmware[0] + 1);
	ASSERT(e->bytes == 9 && !memcmp(e->data, "some code", 9));
	ASSERT_EQ(e->mode, S_IFREG | 0644);
	of = find(list, n, dir);
	ASSERT_EQ(of->mode, S_IFDIR | 0755);
	ASSERT(of < e && find(list, n, "tmp") < of);
	firmware[0] = "/tmp/crk-none/at/all";
	ASSERT_EQ(build_into(&spec, &all, &bytes), -ENOENT);
	ASSERT_CONTAINS(log_first_error(), "cannot open /tmp/crk-none/at/all");
}

static const char *make_packed(const char *name, const char *text, size_t cut)
{
	size_t n = strlen(text), out_bytes = 0;
	uint8_t out[512];
	const char *path = make_file(name, "");
	int fd;

	if (strstr(name, ".xz")) {
		ASSERT_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, (const uint8_t *)text,
						  n, out, &out_bytes, sizeof(out)), LZMA_OK);
	} else if (strstr(name, ".zst")) {
		out_bytes = ZSTD_compress(out, sizeof(out), text, n, 3);
		ASSERT(!ZSTD_isError(out_bytes));
	} else {
		z_stream z = { .next_in = (Bytef *)(uintptr_t)text, .avail_in = (uInt)n,
			       .next_out = out, .avail_out = sizeof(out) };

		ASSERT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
		ASSERT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
		out_bytes = z.total_out;
		deflateEnd(&z);
	}
	fd = open(path, O_WRONLY | O_TRUNC);
	ASSERT_EQ(write(fd, out, out_bytes - cut), (ssize_t)(out_bytes - cut));
	close(fd);
	return path;
}

TEST("modules lie unpacked in the initramfs under their own names; a damaged one is refused")
{
	static const char *const names[] = { "a.ko.xz", "b.ko.zst", "c.ko.gz" };
	const char text[] = "\177ELF a module, a module, a module";

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *modules[] = { make_packed(names[i], text, 0) };
		struct initramfs_spec spec = {
			.modules = modules, .n_modules = 1, .images_fd = -1, .base_fd = -1,
		};
		struct entry list[8] = { 0 };
		const struct entry *e;
		char name[64];
		size_t bytes;
		char *all;

		ASSERT_OK(build_into(&spec, &all, &bytes));
		snprintf(name, sizeof(name), "crkexec/modules/%s", names[i]);
		e = find(list, parse(all, bytes, 0, list, 8), name);
		ASSERT_EQ(e->bytes, strlen(text));
		ASSERT(!memcmp(e->data, text, strlen(text)));
		modules[0] = make_packed(names[i], text, 7);
		ASSERT_EQ(build_into(&spec, &all, &bytes), -EBADMSG);
	}
}

TEST("every directory of an initramfs comes before what is in it, every entry is one file")
{
	struct initramfs_spec spec = {
		.early_path = make_file("early", "e"), .images_fd = make_images(), .base_fd = -1,
	};
	struct entry list[32] = { 0 };
	size_t bytes, n;
	char *all;

	ASSERT_OK(build_into(&spec, &all, &bytes));
	n = parse(all, bytes, 0, list, 32);
	for (size_t i = 0; i < n; i++) {
		char parent[256];
		char *slash;
		bool seen = false;

		ASSERT_EQ(list[i].nlink, 1);
		strcpy(parent, list[i].name);
		slash = strrchr(parent, '/');
		if (slash)
			*slash = '\0';
		for (size_t j = 0; j < i; j++) {
			ASSERT_NE(list[i].ino, list[j].ino);
			seen |= !strcmp(list[j].name, parent) && S_ISDIR(list[j].mode);
		}
		ASSERT(!slash || seen);
	}
}

TEST("images are appended to a distribution's initrd of any length, aligned")
{
	for (size_t len = 1; len <= 5; len++) {
		char base[6] = "xxxxx";
		struct initramfs_spec spec = {
			.manifest = "m", .manifest_bytes = 1, .images_fd = -1,
		};
		struct entry list[8] = { 0 };
		size_t bytes, n;
		char *all;

		base[len] = '\0';
		spec.base_fd = open(make_file("base", base), O_RDONLY);
		ASSERT_OK(build_into(&spec, &all, &bytes));
		ASSERT(!memcmp(all, base, len));
		for (size_t i = len; i % 4; i++)
			ASSERT_EQ(all[i], 0);
		n = parse(all, bytes, (len + 3) / 4 * 4, list, 8);
		ASSERT_EQ(n, 2);
		ASSERT_EQ(find(list, n, "crkexec/manifest.json")->data[0], 'm');
		close(spec.base_fd);
	}
}

TEST("a file of 4 GiB does not fit into an initramfs")
{
	struct initramfs_spec spec = { .base_fd = -1 };
	char *path;

	spec.images_fd = make_images();
	path = make_file("images/a.service/0/pages-1.img", "");
	if (truncate(path, 1ll << 32) < 0 && errno == EFBIG)
		unit_skip("no sparse file of 4 GiB in %s: %s", unit_tmpdir(), strerror(errno));
	ASSERT_EQ(build_into(&spec, NULL, NULL), -EFBIG);
}

TEST("what is no file, directory or link is refused in an initramfs")
{
	struct initramfs_spec spec = { .base_fd = -1 };

	spec.images_fd = make_images();
	ASSERT_OK(mkfifo(path_of("images/a.service/0/fifo"), 0600));
	ASSERT_EQ(build_into(&spec, NULL, NULL), -EINVAL);
}

TEST("two modules of one name, and missing files, are refused in an initramfs")
{
	const char *twice[] = { "/x/a.ko", "/y/a.ko" };
	const char *missing[] = { "/nonexistent/a.ko" };
	struct initramfs_spec spec = { .images_fd = -1, .base_fd = -1 };

	make_file("a.ko", "a");
	twice[0] = make_file("a.ko", "a");
	spec.modules = twice;
	spec.n_modules = 2;
	ASSERT_EQ(build_into(&spec, NULL, NULL), -EEXIST);
	spec.modules = missing;
	spec.n_modules = 1;
	ASSERT_EQ(build_into(&spec, NULL, NULL), -ENOENT);
	spec.n_modules = 0;
	spec.early_path = "/nonexistent/early";
	ASSERT_EQ(build_into(&spec, NULL, NULL), -ENOENT);
}

TEST("an initramfs that cannot be written is an error")
{
	struct initramfs_spec spec = { .manifest = "m", .manifest_bytes = 1, .images_fd = -1,
				       .base_fd = -1 };
	int fd = open("/dev/full", O_WRONLY);

	ASSERT_OK(fd);
	ASSERT_EQ(initramfs_build(&spec, fd), -ENOSPC);
}
