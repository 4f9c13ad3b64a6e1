/*
 * Files of a task with a mount namespace of its own: on a tmpfs only it has, on the host's
 * mounts, unlinked on a mount that is read-only in its view, opened before the namespace was
 * made, and below a chroot; O_PATH files of all sorts.
 */
#include "files_common.h"

#include <sched.h>
#include <sys/inotify.h>
#include <sys/mount.h>

static struct fd_look path_look(const char *path, int flags)
{
	int fd = open(path, O_PATH | flags);

	MAKER_MUST(fd >= 0);
	return fd_look(fd);
}

int main(int argc, char **argv)
{
	struct fd_look was[16];
	int before, covered, own, ro, gone, dir, ino, below, count, n = 0;
	char buf[64] = "", *map;
	struct stat st;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	MAKER_MUST(!mkdir("tmp", 0755) && !mkdir("ro", 0755));
	close(file_with("ro/file", "read-only", 0));
	close(file_with("ro/gone", "removed below a read-only mount", 0));
	MAKER_MUST(!mkdir("covered", 0755));
	covered = file_with("covered/file", "below", 0);
	before = file_with("before", "on the host's mount", 0);
	MAKER_MUST(!unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	MAKER_MUST(!mount("own", "tmp", "tmpfs", 0, "size=1m,mode=755"));
	MAKER_MUST(!mount("over", "covered", "tmpfs", 0, NULL));
	close(file_with("covered/file", "above", 0));
	MAKER_MUST(!mount("ro", "ro", NULL, MS_BIND, NULL));
	MAKER_MUST((gone = open("ro/gone", O_RDONLY)) >= 0);
	map = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, gone, 0);
	MAKER_MUST(map != MAP_FAILED && !unlink("ro/gone"));
	MAKER_MUST(!mount(NULL, "ro", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	own = file_with("tmp/own", "only here", 0);
	MAKER_MUST(!mkdir("tmp/root", 0755));
	MAKER_MUST((ro = open("ro/file", O_RDONLY)) >= 0);
	MAKER_MUST((dir = open("tmp", O_RDONLY | O_DIRECTORY)) >= 0);
	MAKER_MUST((ino = inotify_init1(IN_NONBLOCK)) >= 0);
	MAKER_MUST(inotify_add_watch(ino, "tmp", IN_CREATE) == 1);
	MAKER_MUST(!symlink("own", "tmp/link"));
	was[n++] = path_look("tmp/own", 0);
	was[n++] = path_look("tmp/own", O_NOFOLLOW);
	was[n++] = path_look("tmp/link", O_NOFOLLOW);
	was[n++] = path_look("tmp/root", 0);
	was[n++] = path_look("tmp/root", O_DIRECTORY | O_NOFOLLOW);
	was[n++] = path_look("tmp", 0);
	was[n++] = path_look("tmp", O_DIRECTORY);
	was[n++] = path_look("ro/file", 0);
	below = file_with("tmp/root/below", "seen from a chroot", 0);
	MAKER_MUST(!chroot("tmp/root") && !chdir("/"));
	was[n++] = fd_look(before);
	was[n++] = fd_look(covered);
	was[n++] = fd_look(own);
	was[n++] = fd_look(ro);
	was[n++] = fd_look(gone);
	was[n++] = fd_look(dir);
	was[n++] = fd_look(ino);
	was[n++] = fd_look(below);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	for (int i = 0; i < n; i++) {
		char what[32];

		snprintf(what, sizeof(what), "case %d", i);
		was[i].link[0] = '\0';	/* no /proc in here */
		fd_same(what, &was[i]);
	}
	MAKER_SAME("own", pread(own, buf, 9, 0), 9);
	if (memcmp(buf, "only here", 9))
		maker_fail("other contents: %s", buf);
	MAKER_SAME("removed", pread(gone, buf, 31, 0), 31);
	if (memcmp(buf, "removed below", 13) || memcmp(map, "removed below", 13))
		maker_fail("other contents: %s", buf);
	MAKER_MUST(!fstat(gone, &st));
	MAKER_SAME("links", st.st_nlink, 0);
	MAKER_SAME("host's", pread(before, buf, 19, 0), 19);
	MAKER_SAME("covered", pread(covered, buf, 5, 0), 5);
	if (memcmp(buf, "below", 5))
		maker_fail("the covered file is another one: %s", buf);
	MAKER_SAME("write to the host's", pwrite(before, "O", 1, 0), 1);
	MAKER_SAME("read-only", openat(dir, "../ro/file", O_RDWR), -1);
	MAKER_SAME("errno", errno, EROFS);
	MAKER_SAME("chroot", access("/below", F_OK), 0);
	MAKER_MUST(openat(dir, "new", O_CREAT | O_RDWR, 0600) >= 0);
	MAKER_MUST(read(ino, buf, sizeof(buf)) > 0);
	MAKER_SAME("inode", fstat(below, &st), 0);
	maker_ok();
}
