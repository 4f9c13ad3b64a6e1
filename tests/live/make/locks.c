/*
 * File locks: POSIX ranges, OFD, flock, a lease; a child that holds nothing.
 *
 * cr-options: --file-locks
 */
#include "files_common.h"

#include <sys/file.h>

/* The lock that stands in the way of another process; l_type F_UNLCK: none. */
static struct flock in_the_way(const char *path, short type, off_t start, off_t len)
{
	struct flock fl = { .l_type = type, .l_start = start, .l_len = len };
	int p[2], status;
	pid_t pid;

	MAKER_MUST(!pipe(p));
	pid = fork();
	if (!pid) {
		int fd = open(path, O_RDWR);

		if (fcntl(fd, F_GETLK, &fl) < 0 || write(p[1], &fl, sizeof(fl)) != sizeof(fl))
			_exit(1);
		_exit(0);
	}
	MAKER_MUST(waitpid(pid, &status, 0) == pid);
	MAKER_SAME("asking child", status, 0);
	MAKER_MUST(read(p[0], &fl, sizeof(fl)) == sizeof(fl));
	close(p[0]);
	close(p[1]);
	return fl;
}

int main(int argc, char **argv)
{
	struct flock fl = { .l_type = F_WRLCK, .l_start = 100, .l_len = 10 };
	int posix, ofd, fl_fd, dup_fd, lease, other;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	posix = file_with("posix", "x", 0);
	MAKER_MUST(!fcntl(posix, F_SETLK, &fl));
	fl = (struct flock){ .l_type = F_RDLCK, .l_start = 1000 };
	MAKER_MUST(!fcntl(posix, F_SETLK, &fl));
	ofd = file_with("ofd", "x", 0);
	fl = (struct flock){ .l_type = F_WRLCK, .l_start = 5, .l_len = 1 };
	MAKER_MUST(!fcntl(ofd, F_OFD_SETLK, &fl));
	fl_fd = file_with("flock", "x", 0);
	MAKER_MUST(!flock(fl_fd, LOCK_EX) && (dup_fd = dup(fl_fd)) >= 0);
	close(file_with("lease", "x", 0));
	MAKER_MUST((lease = open("lease", O_RDONLY)) >= 0 && !fcntl(lease, F_SETLEASE, F_RDLCK));

	maker_ready();
	maker_wait();

	fl = in_the_way("posix", F_RDLCK, 0, 0);
	MAKER_SAME("type", fl.l_type, F_WRLCK);
	MAKER_SAME("start", fl.l_start, 100);
	MAKER_SAME("length", fl.l_len, 10);
	MAKER_SAME("holder", fl.l_pid, getpid());
	fl = in_the_way("posix", F_WRLCK, 500, 0);
	MAKER_SAME("type", fl.l_type, F_RDLCK);
	MAKER_SAME("start", fl.l_start, 1000);
	MAKER_SAME("length", fl.l_len, 0);
	fl = in_the_way("posix", F_WRLCK, 110, 890);
	MAKER_SAME("gap", fl.l_type, F_UNLCK);
	fl = in_the_way("ofd", F_RDLCK, 0, 0);
	MAKER_SAME("OFD type", fl.l_type, F_WRLCK);
	MAKER_SAME("OFD start", fl.l_start, 5);
	MAKER_SAME("OFD holder", fl.l_pid, -1);
	MAKER_MUST((other = open("flock", O_RDWR)) >= 0);
	MAKER_SAME("flock", flock(other, LOCK_SH | LOCK_NB), -1);
	MAKER_SAME("errno", errno, EWOULDBLOCK);
	MAKER_MUST(!flock(dup_fd, LOCK_UN));
	MAKER_SAME("after unlocking", flock(other, LOCK_SH | LOCK_NB), 0);
	MAKER_SAME("lease", fcntl(lease, F_GETLEASE), F_RDLCK);
	maker_ok();
}
