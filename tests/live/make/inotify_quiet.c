/*
 * inotify: a program that watches what it uses itself hears nothing of the restore opening, making and
 * filling it again, whatever comes before or after the inotify among its descriptors.
 */
#include "files_common.h"

#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>

#define EVENT_BUF char __attribute__((aligned(8)))

/* A dump that lets the program run must read what has no name, and what waits in a fifo. */
static bool is_a_dumps_reading(const struct inotify_event *ev)
{
	const char *name = ev->len ? ev->name + 2 : "fifo";

	if (!strcmp(name, "fifo"))
		return ev->mask == IN_ACCESS;
	return !strcmp(name, "unlinked") && !(ev->mask & ~(IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE));
}

static void nothing_happened(const char *when, int fd)
{
	EVENT_BUF buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *ev = (const struct inotify_event *)(buf + at);

		if (!is_a_dumps_reading(ev))
			maker_fail("%s: event %x of watch %d, %s", when, ev->mask, ev->wd,
				   ev->len ? ev->name : "itself");
		at += (ssize_t)(sizeof(*ev) + ev->len);
	}
	MAKER_MUST(n > 0 || errno == EAGAIN);
}

static void reports(const char *when, int fd)
{
	EVENT_BUF buf[4096];

	MAKER_MUST(read(fd, buf, sizeof(buf)) > 0);
	MAKER_SAME(when, ((const struct inotify_event *)buf)->mask, IN_CREATE);
}

/* Of each sort that the restore opens or makes by a path. */
static void use_files(char prefix)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "dir/%c-file", prefix);
	fd = file_with(path, "x", 0);
	MAKER_MUST(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
	snprintf(path, sizeof(path), "dir/%c-unlinked", prefix);
	file_with(path, "x", 0);
	MAKER_MUST(!unlink(path));
	snprintf(path, sizeof(path), "dir/%c-fifo", prefix);
	MAKER_MUST(!mkfifo(path, 0600));
	MAKER_MUST((fd = open(path, O_RDWR)) >= 0 && write(fd, "x", 1) == 1);
	MAKER_MUST(open("dir", O_RDONLY | O_DIRECTORY) >= 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "dir/%c-socket", prefix);
	MAKER_MUST((fd = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	MAKER_MUST(!bind(fd, (struct sockaddr *)&sa, sizeof(sa)) && !listen(fd, 1));
}

int main(int argc, char **argv)
{
	int first, last;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	MAKER_MUST(!mkdir("dir", 0755));
	MAKER_MUST((first = inotify_init1(IN_NONBLOCK)) >= 0);
	use_files('a');
	MAKER_MUST((last = inotify_init1(0)) >= 0);
	use_files('b');
	MAKER_MUST(inotify_add_watch(first, "dir", IN_ALL_EVENTS) == 1);
	MAKER_MUST(inotify_add_watch(first, "dir/a-fifo", IN_ALL_EVENTS) == 2);
	/* Its own directory, which the restore takes it to. */
	MAKER_MUST(inotify_add_watch(first, ".", IN_ALL_EVENTS) == 3);
	MAKER_MUST(inotify_add_watch(last, "dir/b-file", IN_ALL_EVENTS) == 1);
	MAKER_MUST(inotify_add_watch(last, "dir", IN_ALL_EVENTS) == 2);

	maker_ready();
	maker_wait();

	MAKER_SAME("a group that waits for events", fcntl(last, F_GETFL) & O_NONBLOCK, 0);
	MAKER_MUST(!fcntl(last, F_SETFL, O_NONBLOCK));
	nothing_happened("the first", first);
	nothing_happened("the last", last);
	close(file_with("dir/new", "x", 0));
	reports("the first reports", first);
	reports("the last reports", last);
	maker_ok();
}
