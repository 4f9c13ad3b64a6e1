/* What the makers of file kinds share: how a descriptor looks, compared field by field. */
#ifndef TESTS_LIVE_FILES_COMMON_H
#define TESTS_LIVE_FILES_COMMON_H

#include "maker.h"

#include <linux/kcmp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A descriptor's marks before the dump. */
struct fd_look {
	int fd, fl, fdflags;
	off_t pos;
	char link[512];
};

static void fd_read_link(int fd, char *buf, size_t room)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, buf, room - 1);
	buf[n > 0 ? n : 0] = '\0';
}

__attribute__((unused)) static struct fd_look fd_look(int fd)
{
	struct fd_look l = { .fd = fd };

	l.fl = fcntl(fd, F_GETFL);
	l.fdflags = fcntl(fd, F_GETFD);
	l.pos = lseek(fd, 0, SEEK_CUR);
	fd_read_link(fd, l.link, sizeof(l.link));
	MAKER_MUST(l.fdflags >= 0);
	return l;
}

__attribute__((unused)) static void fd_same(const char *what, const struct fd_look *was)
{
	struct fd_look is;

	if (fcntl(was->fd, F_GETFD) < 0)
		maker_fail("%s: fd %d is gone", what, was->fd);
	is = fd_look(was->fd);
	if (is.fl != was->fl)
		maker_fail("%s: flags %o, not %o", what, is.fl, was->fl);
	if (is.fdflags != was->fdflags)
		maker_fail("%s: fd flags %x, not %x", what, is.fdflags, was->fdflags);
	if (is.pos != was->pos)
		maker_fail("%s: position %lld, not %lld", what, (long long)is.pos,
			   (long long)was->pos);
	if (was->link[0] == '/' && strcmp(is.link, was->link))
		maker_fail("%s: link %s, not %s", what, is.link, was->link);
}

/* 1: both numbers are one struct file. */
__attribute__((unused)) static int fd_is_same_file(int pid_a, int a, int pid_b, int b)
{
	return syscall(SYS_kcmp, pid_a, pid_b, KCMP_FILE, a, b) == 0;
}

/* Descriptor numbers in use, so that nothing of the engine's is left behind. */
__attribute__((unused)) static int fd_count(void)
{
	int n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* A directory of our own beside the log; name is a path template's last part. */
__attribute__((unused)) static void work_dir(const char *log)
{
	static char dir[4096];

	snprintf(dir, sizeof(dir), "%s.d", log);
	MAKER_MUST(!mkdir(dir, 0755) || errno == EEXIST);
	MAKER_MUST(!chdir(dir));
}

__attribute__((unused)) static int file_with(const char *path, const char *text, int flags)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | flags, 0644);

	MAKER_MUST(fd >= 0);
	MAKER_MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return fd;
}

/* A child that does as the parent says: its exit status is its verdict. */
__attribute__((unused)) static void child_ok(pid_t pid, const char *what)
{
	int status = -1;

	MAKER_MUST(waitpid(pid, &status, 0) == pid);
	if (status)
		maker_fail("%s: the child ended with status %x", what, status);
}

#endif
