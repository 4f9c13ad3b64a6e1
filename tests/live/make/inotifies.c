/* inotify: watch numbers with gaps, masks, and that they still report. */
#include "files_common.h"

#include <sys/inotify.h>

static int next_wd(int fd, uint32_t *mask)
{
	char buf[512] __attribute__((aligned(8)));
	struct inotify_event *ev = (struct inotify_event *)buf;

	if (read(fd, buf, sizeof(buf)) < (ssize_t)sizeof(*ev))
		return -1;
	*mask = ev->mask;
	return ev->wd;
}

int main(int argc, char **argv)
{
	int fd, dir, file, tmp;
	struct fd_look was;
	uint32_t mask = 0;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	close(file_with("watched", "x", 0));
	MAKER_MUST(!mkdir("dir", 0755) || errno == EEXIST);
	MAKER_MUST((fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) >= 0);
	for (int i = 0; i < 4; i++) {
		MAKER_MUST((tmp = inotify_add_watch(fd, ".", IN_OPEN)) > 0);
		MAKER_MUST(!inotify_rm_watch(fd, tmp));
	}
	MAKER_MUST((dir = inotify_add_watch(fd, "dir", IN_CREATE | IN_ONLYDIR)) == 5);
	MAKER_MUST((tmp = inotify_add_watch(fd, "..", IN_DELETE)) == 6);
	MAKER_MUST(!inotify_rm_watch(fd, tmp));
	MAKER_MUST((file = inotify_add_watch(fd, "watched",
					      IN_MODIFY | (maker_is_plain() ? 0 : IN_ONESHOT))) == 7);
	while (next_wd(fd, &mask) > 0)
		;
	was = fd_look(fd);

	maker_ready();
	maker_wait();

	fd_same("inotify", &was);
	MAKER_SAME("no event of the restore", next_wd(fd, &mask), -1);
	close(file_with("dir/new", "x", 0));
	MAKER_SAME("directory", next_wd(fd, &mask), dir);
	MAKER_SAME("mask", mask, IN_CREATE);
	tmp = open("watched", O_WRONLY);
	MAKER_MUST(tmp >= 0 && write(tmp, "y", 1) == 1);
	MAKER_SAME("file", next_wd(fd, &mask), file);
	MAKER_SAME("mask", mask, IN_MODIFY);
	next_wd(fd, &mask);
	MAKER_MUST(write(tmp, "z", 1) == 1);
	MAKER_SAME("once", next_wd(fd, &mask), maker_is_plain() ? file : -1);
	maker_ok();
}
