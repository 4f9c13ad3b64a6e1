/* cr/ns/tar: what is packed is unpacked equal; hostile archives get nowhere. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <zlib.h>

#include "ns/tar.h"
#include "unit.h"
#include "util/log.h"

struct bytes {
	uint8_t *p;
	size_t n;
};

static int keep(void *arg, const void *p, size_t n)
{
	struct bytes *b = arg;

	b->p = realloc(b->p, b->n + n);
	ASSERT(b->p);
	memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

static int make_dir(const char *name)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	ASSERT_EQ(mkdir(path, 0755), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(fd);
	return fd;
}

static void put_file(int dirfd, const char *name, const void *p, size_t n, mode_t mode)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	ASSERT_EQ(write(fd, p, n), n);
	ASSERT_EQ(fchmod(fd, mode), 0);
	close(fd);
}

static struct bytes pack(int dirfd, const char *at)
{
	struct bytes b = { 0 };
	struct tar_writer *t;

	ASSERT_OK(tar_writer_new(keep, &b, NULL, TAR_FAST, &t));
	ASSERT_OK(tar_add_tree(t, dirfd, at));
	ASSERT_OK(tar_writer_finish(t));
	tar_writer_free(t);
	return b;
}

static void same_text(int dirfd, const char *name, const char *text)
{
	char buf[64] = "";
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	ASSERT_OK(fd);
	ASSERT_EQ(read(fd, buf, sizeof(buf) - 1), strlen(text));
	ASSERT_STREQ(buf, text);
	close(fd);
}

static struct bytes pack_one(int dirfd, const char *name)
{
	struct bytes b = { 0 };
	struct tar_writer *t;

	ASSERT_OK(tar_writer_new(keep, &b, NULL, TAR_STORED, &t));
	ASSERT_OK(tar_add_one(t, dirfd, name));
	ASSERT_OK(tar_writer_finish(t));
	tar_writer_free(t);
	return b;
}

TEST("one member is packed without what is beside and below it")
{
	int from = make_dir("from"), to = make_dir("to");
	struct bytes b;
	struct stat st;

	put_file(from, "a", "text", 4, 0640);
	put_file(from, "b", "other", 5, 0600);
	ASSERT_EQ(mkdirat(from, "d", 0711), 0);
	put_file(from, "d/x", "in d", 4, 0400);
	ASSERT_EQ(mknodat(from, "fifo", S_IFIFO | 0600, 0), 0);
	ASSERT_EQ(fchmodat(from, "fifo", 0620, 0), 0);
	ASSERT_EQ(fchmodat(from, "d", 0711, 0), 0);
	ASSERT_EQ(fchmod(from, 0751), 0);
	b = pack_one(from, "a");
	ASSERT_OK(tar_extract(b.p, b.n, to, NULL));
	b = pack_one(from, "d");
	ASSERT_OK(tar_extract_over(b.p, b.n, to, NULL));
	b = pack_one(from, "fifo");
	ASSERT_OK(tar_extract_over(b.p, b.n, to, NULL));
	b = pack_one(from, ".");
	ASSERT_OK(tar_extract_over(b.p, b.n, to, NULL));
	same_text(to, "a", "text");
	ASSERT_EQ(fstatat(to, "fifo", &st, 0), 0);
	ASSERT(S_ISFIFO(st.st_mode) && (st.st_mode & 0777) == 0620);
	ASSERT_EQ(fstatat(to, "d", &st, 0), 0);
	ASSERT_EQ(st.st_mode & 0777, 0711);
	ASSERT(faccessat(to, "b", F_OK, 0) < 0 && faccessat(to, "d/x", F_OK, 0) < 0);
	ASSERT_EQ(fstat(to, &st), 0);
	ASSERT_EQ(st.st_mode & 0777, 0751);
}

TEST("a packed tree is unpacked with names, modes, owners, times, links and nodes")
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 1234567890, 123456789 } };
	int from, to;
	char target[300], long_name[201];
	struct stat st, st2;
	struct bytes b;
	ssize_t n;

	ASSERT_EQ(geteuid(), 0);
	from = make_dir("from");
	to = make_dir("to");
	memset(long_name, 'n', 200);
	long_name[200] = '\0';
	put_file(from, "empty", "", 0, 0604);
	put_file(from, long_name, "long", 4, 04755);
	ASSERT_EQ(fchownat(from, "empty", 3000000000u, 2097152, 0), 0);
	ASSERT_EQ(mkdirat(from, "d", 01777), 0);
	ASSERT_EQ(fchmodat(from, "d", 01777, 0), 0);
	put_file(from, "d/x", "in d", 4, 0400);
	ASSERT_EQ(linkat(from, "d/x", from, "link", 0), 0);
	ASSERT_EQ(mknodat(from, "fifo", S_IFIFO | 0601, 0), 0);
	ASSERT_EQ(mknodat(from, "sock", S_IFSOCK | 0777, 0), 0);
	memset(target, 't', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	ASSERT_EQ(symlinkat(target, from, "sym"), 0);
	ASSERT_EQ(utimensat(from, "d", times, 0), 0);
	b = pack(from, "/");
	ASSERT_OK(tar_extract(b.p, b.n, to, NULL));
	same_text(to, long_name, "long");
	same_text(to, "d/x", "in d");
	ASSERT_EQ(fstatat(to, long_name, &st, 0), 0);
	ASSERT_EQ(st.st_mode & 07777, 04755);
	ASSERT_EQ(fstatat(to, "empty", &st, 0), 0);
	ASSERT_EQ(st.st_uid, 3000000000u);
	ASSERT_EQ(st.st_gid, 2097152);
	ASSERT_EQ(st.st_mode & 07777, 0604);
	ASSERT_EQ(fstatat(to, "d", &st, 0), 0);
	ASSERT_EQ(st.st_mode & 07777, 01777);
	ASSERT_EQ(st.st_mtim.tv_sec, 1234567890);
	ASSERT_EQ(st.st_mtim.tv_nsec, 123456789);
	ASSERT_EQ(fstatat(to, "d/x", &st, 0), 0);
	ASSERT_EQ(fstatat(to, "link", &st2, 0), 0);
	ASSERT_EQ(st.st_ino, st2.st_ino);
	ASSERT_EQ(fstatat(to, "fifo", &st, AT_SYMLINK_NOFOLLOW), 0);
	ASSERT(S_ISFIFO(st.st_mode));
	ASSERT_EQ(fstatat(to, "sock", &st, AT_SYMLINK_NOFOLLOW), 0);
	ASSERT(S_ISSOCK(st.st_mode));
	n = readlinkat(to, "sym", long_name, sizeof(long_name));
	ASSERT_EQ(n, sizeof(long_name));
	ASSERT_EQ(fstatat(to, "sym", &st, AT_SYMLINK_NOFOLLOW), 0);
	ASSERT_EQ(st.st_size, sizeof(target) - 1);
	free(b.p);
}

TEST("files, nodes and links make way for an archive's, directories do not")
{
	int from = make_dir("from"), to = make_dir("to");
	struct stat st;
	struct bytes b;

	ASSERT_EQ(mkdirat(from, "d", 0750), 0);
	put_file(from, "d/f", "new", 3, 0600);
	ASSERT_EQ(mknodat(from, "node", S_IFSOCK | 0600, 0), 0);
	ASSERT_EQ(symlinkat("new", from, "link"), 0);
	b = pack(from, "/");
	ASSERT_EQ(mkdirat(to, "d", 0700), 0);
	put_file(to, "d/f", "older", 5, 0644);
	put_file(to, "d/other", "stays", 5, 0644);
	put_file(to, "node", "", 0, 0644);
	ASSERT_EQ(symlinkat("d/other", to, "link"), 0);
	ASSERT_EQ(tar_extract(b.p, b.n, to, NULL), -EEXIST);
	ASSERT_OK(tar_extract_over(b.p, b.n, to, NULL));
	same_text(to, "d/f", "new");
	same_text(to, "d/other", "stays");
	ASSERT_EQ(fstatat(to, "d", &st, 0), 0);
	ASSERT_EQ(st.st_mode & 07777, 0750);
	ASSERT_EQ(fstatat(to, "node", &st, AT_SYMLINK_NOFOLLOW), 0);
	ASSERT(S_ISSOCK(st.st_mode));
	ASSERT_EQ(unlinkat(to, "node", 0), 0);
	ASSERT_EQ(mkdirat(to, "node", 0700), 0);
	ASSERT_LT(tar_extract_over(b.p, b.n, to, NULL), 0);
	free(b.p);
}

TEST("holes stay holes and a large file is equal")
{
	int from = make_dir("from"), to = make_dir("to"), fd;
	uint8_t *data = malloc(300000), *back = malloc(300000);
	struct stat st;
	struct bytes b;

	for (size_t i = 0; i < 300000; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	put_file(from, "data", data, 300000, 0600);
	put_file(from, "hole", "", 0, 0600);
	fd = openat(from, "hole", O_WRONLY);
	ASSERT_EQ(pwrite(fd, "x", 1, 64 << 20), 1);
	close(fd);
	b = pack(from, "/");
	ASSERT_LT(b.n, 2 << 20);
	ASSERT_OK(tar_extract(b.p, b.n, to, NULL));
	ASSERT_EQ(fstatat(to, "hole", &st, 0), 0);
	ASSERT_EQ(st.st_size, (64 << 20) + 1);
	ASSERT_LT(st.st_blocks, 1024);
	fd = openat(to, "data", O_RDONLY);
	ASSERT_EQ(read(fd, back, 300000), 300000);
	ASSERT_MEM_EQ(back, data, 300000);
	close(fd);
	free(data);
	free(back);
	free(b.p);
}

TEST("a part of a filesystem is unpacked under its path there")
{
	int from = make_dir("from"), to = make_dir("to");
	struct bytes b;

	put_file(from, "x", "part", 4, 0644);
	b = pack(from, "/tmp/a");
	ASSERT_OK(tar_extract(b.p, b.n, to, NULL));
	same_text(to, "tmp/a/x", "part");
	free(b.p);
}

/* One member, as an attacker would write it. */
static void member(struct bytes *raw, const char *name, char type, const char *link,
		   const char *data, const char *size)
{
	struct tar_header h = { .typeflag = type };
	char pad[TAR_BLOCK] = "";

	memcpy(h.name, name, MIN(strlen(name), sizeof(h.name)));
	memcpy(h.linkname, link, MIN(strlen(link), sizeof(h.linkname)));
	memcpy(h.mode, "0000644", 7);
	memcpy(h.uid, "0000000", 7);
	memcpy(h.gid, "0000000", 7);
	memcpy(h.mtime, "00000000000", 11);
	if (size)
		memcpy(h.size, size, 11);
	else
		snprintf(h.size, sizeof(h.size), "%011o", (unsigned int)strlen(data) & 0777);
	memcpy(h.magic, "ustar", 6);
	snprintf(h.chksum, sizeof(h.chksum), "%06o", tar_checksum(&h));
	keep(raw, &h, sizeof(h));
	if (*data) {
		memcpy(pad, data, strlen(data));
		keep(raw, pad, sizeof(pad));
	}
}

static int unpack_raw(struct bytes *raw, int to)
{
	uLong bound = compressBound(raw->n) + 64;
	uint8_t *gz = malloc(bound);
	z_stream z = { 0 };
	int r;

	ASSERT_EQ(deflateInit2(&z, 1, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = raw->p;
	z.avail_in = (uInt)raw->n;
	z.next_out = gz;
	z.avail_out = (uInt)bound;
	ASSERT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	log_init(LOGLEVEL_NONE, -1);
	r = tar_extract(gz, z.total_out, to, NULL);
	deflateEnd(&z);
	free(gz);
	free(raw->p);
	*raw = (struct bytes){ 0 };
	return r;
}

TEST("archives that reach outside of their directory are refused")
{
	int to = make_dir("to"), outside = make_dir("outside");
	struct bytes raw = { 0 };

	put_file(outside, "victim", "safe", 4, 0644);
	member(&raw, "../outside/new", '0', "", "x", NULL);
	ASSERT_EQ(unpack_raw(&raw, to), -EBADMSG);
	member(&raw, "/etc/new", '0', "", "x", NULL);
	ASSERT_EQ(unpack_raw(&raw, to), -EBADMSG);
	member(&raw, "a/../../outside/new", '0', "", "x", NULL);
	ASSERT_EQ(unpack_raw(&raw, to), -EBADMSG);
	/* A link out, then through it. */
	member(&raw, "out", '2', "../outside", "", NULL);
	member(&raw, "out/new", '0', "", "x", NULL);
	ASSERT_EQ(unpack_raw(&raw, to), -ELOOP);
	/* A link to a file, then written to. */
	member(&raw, "f", '2', "../outside/victim", "", NULL);
	member(&raw, "f", '0', "", "hurt", NULL);
	ASSERT_EQ(unpack_raw(&raw, to), -EEXIST);
	member(&raw, "h", '1', "../outside/victim", "", NULL);
	ASSERT_EQ(unpack_raw(&raw, to), -EBADMSG);
	same_text(outside, "victim", "safe");
	ASSERT_NE(faccessat(outside, "new", F_OK, 0), 0);
}

TEST("damaged archives are refused: sizes, checksums, records, ends")
{
	int to = make_dir("to");
	struct bytes raw = { 0 };

	member(&raw, "big", '0', "", "", "77777777777");
	ASSERT_EQ(unpack_raw(&raw, to), -EBADMSG);
	member(&raw, "bad", '0', "", "x", "99999999999");
	ASSERT_EQ(unpack_raw(&raw, to), -EBADMSG);
	member(&raw, "sum", '0', "", "x", NULL);
	raw.p[0] ^= 1;
	ASSERT_EQ(unpack_raw(&raw, to), -EBADMSG);
	member(&raw, "p", 'x', "", "99 path=a\n", NULL);
	ASSERT_EQ(unpack_raw(&raw, to), -EBADMSG);
	member(&raw, "p", 'x', "", "9 path=a", NULL);
	ASSERT_EQ(unpack_raw(&raw, to), -EBADMSG);
	member(&raw, "p", 'x', "", "", "00100000000");
	ASSERT_EQ(unpack_raw(&raw, to), -E2BIG);
	member(&raw, "odd", 'Z', "", "", NULL);
	ASSERT_EQ(unpack_raw(&raw, to), -EOPNOTSUPP);
	ASSERT_EQ(tar_extract("not gzip at all", 15, to, NULL), -EBADMSG);
}

TEST("every cut of an archive is refused, every flipped bit too unless nothing changes")
{
	int from = make_dir("from");
	struct bytes b;
	char name[32];

	put_file(from, "x", "some text", 9, 0644);
	ASSERT_EQ(fsetxattr(from, "user.k", "v", 1, 0) == 0 || errno == ENOTSUP, 1);
	b = pack(from, "/");
	log_init(LOGLEVEL_NONE, -1);
	for (size_t n = 0; n < b.n; n++) {
		int to;

		snprintf(name, sizeof(name), "to%zu", n);
		to = make_dir(name);
		ASSERT_LT(tar_extract(b.p, n, to, NULL), 0);
		close(to);
	}
	for (size_t n = 10; n < b.n; n++) {
		int to;

		snprintf(name, sizeof(name), "flip%zu", n);
		to = make_dir(name);
		b.p[n] ^= 0x10;
		/* Some bits say nothing: which of the zeros to repeat. */
		if (tar_extract(b.p, b.n, to, NULL) >= 0)
			same_text(to, "x", "some text");
		b.p[n] ^= 0x10;
		close(to);
	}
	free(b.p);
}

TEST("GNU tar reads what is written here, and what it writes is read")
{
	int from = make_dir("from"), to = make_dir("to"), back = make_dir("back");
	char path[200], command[600];
	struct bytes b;
	int fd;

	if (system("command -v tar >/dev/null") != 0)
		unit_skip("no tar here");
	put_file(from, "x", "for tar", 7, 0640);
	ASSERT_EQ(mkdirat(from, "d", 0750), 0);
	b = pack(from, "/");
	snprintf(path, sizeof(path), "%s/a.tgz", unit_tmpdir());
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	ASSERT_EQ(write(fd, b.p, b.n), b.n);
	close(fd);
	free(b.p);
	snprintf(command, sizeof(command), "cd %s && tar -xzf a.tgz -C to && "
		 "tar --numeric-owner --one-file-system -C from -czf b.tgz .", unit_tmpdir());
	ASSERT_EQ(system(command), 0);
	same_text(to, "x", "for tar");
	snprintf(path, sizeof(path), "%s/b.tgz", unit_tmpdir());
	fd = open(path, O_RDONLY);
	b.p = malloc(1 << 20);
	b.n = (size_t)read(fd, b.p, 1 << 20);
	ASSERT_OK(tar_extract(b.p, b.n, back, NULL));
	same_text(back, "x", "for tar");
	close(fd);
	free(b.p);
}
