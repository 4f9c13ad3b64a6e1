/*
 * Files whose name is gone while they are open or mapped: contents, holes, attributes, several
 * struct files of one inode, another file under the old name, a removed directory, extended
 * attributes, a file that never had a name and gets one now.
 */
#include "files_common.h"

#include <sys/xattr.h>

#define BIG (4 << 20)

static const char small[] = "a few bytes that have no name";

int main(int argc, char **argv)
{
	struct fd_look was[7];
	int a, b, big, dir, tmp, tmp_again, sub, replaced, map_fd, n = 0;
	bool has_xattr;
	struct timespec old[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1100000000 } };
	const char *in_gone;
	char *map, buf[64] = "";
	struct stat st;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	a = file_with("small", small, 0);
	MAKER_MUST((b = open("small", O_RDONLY | O_CLOEXEC)) >= 0);
	MAKER_MUST(!fchown(a, 12, 34) && !fchmod(a, 0640) && !futimens(a, old));
	MAKER_MUST(lseek(b, 5, SEEK_SET) == 5);
	has_xattr = !fsetxattr(a, "user.short", "value", 5, 0) &&
		    !fsetxattr(a, "user.empty", "", 0, 0);
	MAKER_MUST(has_xattr || errno == ENOTSUP);
	/* Data at both ends, a hole between. */
	MAKER_MUST((big = open("big", O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0);
	MAKER_MUST(pwrite(big, "begin", 5, 0) == 5 && pwrite(big, "end", 3, BIG - 3) == 3);
	MAKER_MUST(!mkdir("gone", 0750));
	MAKER_MUST((dir = open("gone", O_RDONLY | (maker_is_plain() ? 0 : O_DIRECTORY))) >= 0);
	in_gone = maker_is_plain() ? "sub" : "gone/sub";
	MAKER_MUST((sub = open(in_gone, O_RDWR | O_CREAT, 0600)) >= 0);
	MAKER_MUST(write(sub, "deep", 4) == 4);
	MAKER_MUST((tmp = open(".", O_TMPFILE | O_RDWR, 0600)) >= 0);
	MAKER_MUST(write(tmp, "never named", 11) == 11);
	/* Another struct file of it comes first. */
	MAKER_MUST(dup2(tmp, 100) == 100 && !close(tmp));
	tmp = 100;
	MAKER_MUST((tmp_again = open("/proc/self/fd/100", O_RDONLY)) >= 0 && tmp_again < tmp);
	replaced = file_with("replaced", "old", 0);
	map_fd = file_with("mapped", "mapped bytes", 0);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	MAKER_MUST(map != MAP_FAILED && !close(map_fd));
	MAKER_MUST(!unlink("small") && !unlink("big") && !unlink(in_gone) && !rmdir("gone") &&
		   !unlink("replaced") && !unlink("mapped"));
	close(file_with("replaced", "new contents", 0));
	was[n++] = fd_look(a);
	was[n++] = fd_look(b);
	was[n++] = fd_look(big);
	was[n++] = fd_look(sub);
	was[n++] = fd_look(dir);
	was[n] = fd_look(tmp);
	/* Its name is the inode's number, which is another one then. */
	was[n].link[0] = '\0';
	if (maker_is_plain())
		was[n].fl &= ~O_TMPFILE;
	n++;

	maker_ready();
	maker_wait();

	for (int i = 0; i < n; i++) {
		char what[32];

		snprintf(what, sizeof(what), "case %d", i);
		if (was[i].fd == tmp && maker_is_plain() && (fcntl(tmp, F_GETFL) & O_TMPFILE) == O_TMPFILE)
			was[i].fl |= O_TMPFILE;	/* the dump left it running */
		fd_same(what, &was[i]);
	}
	MAKER_MUST(!fstat(a, &st));
	MAKER_SAME("links", st.st_nlink, 0);
	MAKER_SAME("owner", st.st_uid, 12);
	MAKER_SAME("group", st.st_gid, 34);
	MAKER_SAME("mode", st.st_mode, S_IFREG | 0640);
	MAKER_SAME("access time", st.st_atime, 1000000000);
	MAKER_SAME("modification time", st.st_mtime, 1100000000);
	MAKER_SAME("read", pread(a, buf, sizeof(buf), 0), (long)strlen(small));
	if (strcmp(buf, small))
		maker_fail("small file holds \"%s\"", buf);
	/* One inode, two struct files. */
	MAKER_SAME("write", pwrite(a, "A", 1, 5), 1);
	MAKER_SAME("read by the other", read(b, buf, 1), 1);
	MAKER_SAME("byte", buf[0], 'A');
	MAKER_MUST(!fstat(big, &st));
	MAKER_SAME("size", st.st_size, BIG);
	if (st.st_blocks * 512 > BIG / 2)
		maker_fail("the hole is filled: %lld blocks", (long long)st.st_blocks);
	MAKER_SAME("read", pread(big, buf, 3, BIG - 3), 3);
	if (memcmp(buf, "end", 3) || pread(big, buf, 5, 0) != 5 || memcmp(buf, "begin", 5))
		maker_fail("big file holds something else");
	MAKER_SAME("read", pread(replaced, buf, sizeof(buf), 0), 3);
	if (memcmp(buf, "old", 3))
		maker_fail("the replaced file holds \"%s\"", buf);
	MAKER_MUST(!stat("replaced", &st));
	MAKER_SAME("the new file", st.st_size, 12);
	MAKER_SAME("read", pread(sub, buf, 4, 0), 4);
	MAKER_SAME("read", pread(tmp, buf, sizeof(buf), 0), 11);
	MAKER_SAME("read", pread(tmp_again, buf, sizeof(buf), 0), 11);
	if (!maker_is_plain()) {
		unlink("named");
		if (linkat(AT_FDCWD, "/proc/self/fd/100", AT_FDCWD, "named", AT_SYMLINK_FOLLOW) < 0)
			maker_fail("a file from O_TMPFILE gets no name: %s", strerror(errno));
		MAKER_SAME("write by the new name", truncate("named", 5), 0);
		MAKER_SAME("read by the other", pread(tmp_again, buf, sizeof(buf), 0), 5);
		MAKER_MUST(!unlink("named"));
	}
	if (has_xattr && !maker_is_plain()) {
		MAKER_SAME("extended attribute", fgetxattr(a, "user.short", buf, sizeof(buf)), 5);
		if (memcmp(buf, "value", 5))
			maker_fail("the extended attribute is \"%.5s\"", buf);
		MAKER_SAME("empty one", fgetxattr(a, "user.empty", buf, sizeof(buf)), 0);
	}
	MAKER_SAME("no directory left", access("gone", F_OK), -1);
	MAKER_SAME("no file left", access("small", F_OK), -1);
	MAKER_MUST(!fstat(dir, &st));
	MAKER_SAME("removed directory's mode", st.st_mode, S_IFDIR | 0750);
	if (strcmp(map, "mapped bytes"))
		maker_fail("the mapping holds \"%.12s\"", map);
	map[0] = 'M';
	maker_ok();
}
