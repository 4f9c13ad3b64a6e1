/*
 * Files with a path: positions, flags, close-on-exec, gaps between numbers, directories, O_PATH,
 * devices, /proc and /sys, append mode, shared and separate struct files.
 */
#include "files_common.h"

#include <dirent.h>

enum { RDONLY, WRONLY, RDWR, APPEND, DIRECTORY, PATH, PATHLINK, ZERO, URANDOM, PROC, SYS, SYNC,
       NOATIME, NONBLOCK, NOFOLLOW, NULLDEV, HIGH, N };

static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";

int main(int argc, char **argv)
{
	struct fd_look was[N];
	int fd[N], dup_low, dup_high, count;
	char buf[64] = "";
	struct stat st;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	close(file_with("data", text, 0));
	MAKER_MUST(!symlink("data", "link") || errno == EEXIST);

	MAKER_MUST((fd[RDONLY] = open("data", O_RDONLY)) >= 0);
	MAKER_MUST(lseek(fd[RDONLY], 10, SEEK_SET) == 10);
	MAKER_MUST((fd[WRONLY] = open("data", O_WRONLY | O_CLOEXEC)) >= 0);
	MAKER_MUST(lseek(fd[WRONLY], 3, SEEK_SET) == 3);
	MAKER_MUST((fd[RDWR] = open("data", O_RDWR | O_DSYNC)) >= 0);
	/* Behind the end of the file. */
	MAKER_MUST(lseek(fd[RDWR], 1 << 20, SEEK_SET) == 1 << 20);
	MAKER_MUST((fd[APPEND] = open("log", O_WRONLY | O_APPEND | O_CREAT, 0600)) >= 0);
	MAKER_MUST(write(fd[APPEND], "one\n", 4) == 4);
	MAKER_MUST((fd[DIRECTORY] = open(".", O_RDONLY | (maker_is_plain() ? 0 : O_DIRECTORY))) >= 0);
	MAKER_MUST((fd[PATH] = open("data", O_PATH | O_CLOEXEC)) >= 0);
	MAKER_MUST((fd[PATHLINK] = open("link", O_PATH | O_NOFOLLOW)) >= 0);
	MAKER_MUST((fd[ZERO] = open("/dev/zero", O_RDWR)) >= 0);
	MAKER_MUST((fd[URANDOM] = open("/dev/urandom", O_RDONLY)) >= 0);
	MAKER_MUST((fd[PROC] = open("/proc/sys/kernel/ostype", O_RDONLY)) >= 0);
	MAKER_MUST((fd[SYS] = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY)) >= 0 ||
		   (fd[SYS] = open("/sys/kernel/profiling", O_RDONLY)) >= 0);
	MAKER_MUST((fd[SYNC] = open("data", O_RDONLY | O_SYNC)) >= 0);
	MAKER_MUST((fd[NOATIME] = open("data", O_RDONLY | O_NOATIME)) >= 0);
	MAKER_MUST((fd[NONBLOCK] = open("data", O_RDONLY | O_NONBLOCK)) >= 0);
	MAKER_MUST((fd[NOFOLLOW] = open("data", O_RDONLY | O_NOFOLLOW)) >= 0);
	MAKER_MUST((fd[NULLDEV] = open("/dev/null", O_RDWR | O_APPEND)) >= 0);
	MAKER_MUST(dup2(fd[RDONLY], 700) == 700);
	fd[HIGH] = 700;
	/* A hole in the table. */
	close(fd[SYNC]);
	MAKER_MUST((dup_low = dup(fd[RDWR])) >= 0);
	MAKER_MUST((fd[SYNC] = open("data", O_RDONLY | O_SYNC)) >= 0);
	MAKER_MUST((dup_high = fcntl(fd[WRONLY], F_DUPFD_CLOEXEC, 300)) == 300);
	MAKER_MUST(read(fd[PROC], buf, 2) == 2);
	for (int i = 0; i < N; i++)
		was[i] = fd_look(fd[i]);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	for (int i = 0; i < N; i++) {
		char what[32];

		snprintf(what, sizeof(what), "case %d", i);
		fd_same(what, &was[i]);
	}
	if (!fd_is_same_file(getpid(), fd[HIGH], getpid(), fd[RDONLY]) ||
	    !fd_is_same_file(getpid(), dup_low, getpid(), fd[RDWR]) ||
	    !fd_is_same_file(getpid(), dup_high, getpid(), fd[WRONLY]))
		maker_fail("duplicates do not share their file");
	if (fd_is_same_file(getpid(), fd[RDONLY], getpid(), fd[NONBLOCK]))
		maker_fail("two opens became one");
	MAKER_SAME("close-on-exec of the duplicate", fcntl(dup_high, F_GETFD), FD_CLOEXEC);
	/* They still work, and move together. */
	MAKER_SAME("read", read(fd[RDONLY], buf, 4), 4);
	if (memcmp(buf, text + 10, 4))
		maker_fail("read %.4s", buf);
	MAKER_SAME("shared position", lseek(fd[HIGH], 0, SEEK_CUR), 14);
	MAKER_SAME("append", write(fd[APPEND], "two\n", 4), 4);
	MAKER_MUST(!stat("log", &st));
	MAKER_SAME("appended file", st.st_size, 8);
	MAKER_SAME("write", write(dup_high, "X", 1), 1);
	MAKER_SAME("pread", pread(fd[NOATIME], buf, 1, 3), 1);
	MAKER_SAME("byte", buf[0], 'X');
	MAKER_SAME("zero", read(fd[ZERO], buf, 8), 8);
	MAKER_SAME("rest of /proc file", read(fd[PROC], buf, 8), 4);
	MAKER_SAME("fstatat by O_PATH", fstatat(fd[PATHLINK], "", &st, AT_EMPTY_PATH), 0);
	MAKER_SAME("is a link", S_ISLNK(st.st_mode), 1);
	MAKER_MUST(fdopendir(fd[DIRECTORY]));
	maker_ok();
}
