/*
 * fanotify: groups of all sorts with marks on inodes, a mount and a file system, ignored masks, evictable
 * marks; made with and without CAP_SYS_ADMIN. All that fdinfo shows comes back, and they report.
 */
#include "files_common.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/fanotify.h>
#include <sys/mount.h>

#ifndef FAN_MARK_EVICTABLE
#define FAN_MARK_EVICTABLE	0x200
#endif
#ifndef FAN_MARK_IGNORE
#define FAN_MARK_IGNORE		0x400
#endif
#define FID_NAME_TARGET (FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME | 0x1000)

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The lines of fdinfo about the group, sorted, without the numbers that a mount gets. */
static const char *marks_of(int fd)
{
	char text[8192], *lines[64], *save, *all = calloc(1, sizeof(text)), path[48];
	int n = 0, in;
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	MAKER_MUST(all && (in = open(path, O_RDONLY)) >= 0);
	MAKER_MUST((got = read(in, text, sizeof(text) - 1)) > 0);
	close(in);
	text[got] = '\0';
	for (char *s = strtok_r(text, "\n", &save); s && n < 64; s = strtok_r(NULL, "\n", &save))
		if (!strncmp(s, "fanotify mnt_id:", 16) || !strncmp(s, "fanotify sdev:", 14))
			lines[n++] = strstr(s, "mflags:");
		else if (!strncmp(s, "fanotify", 8))
			lines[n++] = s;
	qsort(lines, (size_t)n, sizeof(*lines), by_text);
	for (int i = 0; i < n; i++)
		strcat(strcat(all, lines[i]), "\n");
	return all;
}

static int group(unsigned int flags, unsigned int event_flags)
{
	int fd = fanotify_init(flags | FAN_NONBLOCK, event_flags);

	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		maker_skip("no fanotify (CONFIG_FANOTIFY): %s", strerror(errno));
	MAKER_MUST(fd >= 0);
	return fd;
}

static void mark(int fd, unsigned int flags, uint64_t mask, const char *path)
{
	if (fanotify_mark(fd, FAN_MARK_ADD | flags, mask, AT_FDCWD, path) < 0)
		maker_fail("cannot mark %s with flags %x, mask %llx: %s", path, flags,
			   (unsigned long long)mask, strerror(errno));
}

static void sys_admin(bool on)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	MAKER_MUST(!syscall(SYS_capget, &head, data));
	if (on)
		data[0].effective |= 1u << CAP_SYS_ADMIN;
	else
		data[0].effective &= ~(1u << CAP_SYS_ADMIN);
	MAKER_MUST(!syscall(SYS_capset, &head, data));
}

/* The next event's mask, 0 if there is none. */
static uint64_t event(int fd, int *pid)
{
	char buf[512] __attribute__((aligned(8)));
	struct fanotify_event_metadata *m = (struct fanotify_event_metadata *)buf;

	if (read(fd, buf, sizeof(*m) + 232) < (ssize_t)sizeof(*m))
		return 0;
	if (m->fd >= 0)
		close(m->fd);
	if (pid)
		*pid = m->pid;
	return m->mask;
}

/* By a process that is not we. */
static pid_t touch(const char *path)
{
	pid_t pid = fork();

	MAKER_MUST(pid >= 0);
	if (!pid)
		_exit(open(path, O_RDONLY) < 0);
	child_ok(pid, "open");
	return pid;
}

int main(int argc, char **argv)
{
	int inodes, whole, names, removals, unprivileged, audit, count, pid = -1, n = 0;
	struct fd_look was[8];
	const char *marks[8];

	maker_begin(argc, argv);
	work_dir(argv[1]);
	for (const char *const *f = (const char *const[]){ "file", "other", "written", "evictable", NULL }; *f; f++)
		close(file_with(*f, "x", 0));
	MAKER_MUST(!mkdir("dir", 0755) && !mkdir("mnt", 0755) && !mkdir("ign", 0755));
	MAKER_MUST(!unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	MAKER_MUST(!mount("own", "mnt", "tmpfs", 0, "size=1m"));
	close(file_with("mnt/file", "x", 0));

	inodes = group(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS,
		       O_RDWR | O_LARGEFILE | O_CLOEXEC | O_NOATIME);
	mark(inodes, 0, FAN_OPEN, "file");
	mark(inodes, FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_CLOSE, "file");
	mark(inodes, FAN_MARK_IGNORED_MASK, FAN_ACCESS, "written");
	mark(inodes, FAN_MARK_EVICTABLE, FAN_OPEN, "evictable");
	mark(inodes, FAN_MARK_EVICTABLE | FAN_MARK_IGNORED_MASK, FAN_MODIFY, "evictable");
	mark(inodes, 0, FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD | FAN_ONDIR, "dir");
	mark(inodes, FAN_MARK_IGNORE | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN | FAN_EVENT_ON_CHILD, "ign");
	whole = group(FAN_CLASS_CONTENT | FAN_REPORT_TID, 0);
	mark(whole, FAN_MARK_MOUNT, FAN_OPEN, "mnt");
	mark(whole, FAN_MARK_MOUNT | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_CLOSE, "mnt");
	mark(whole, FAN_MARK_FILESYSTEM, FAN_MODIFY, "mnt");
	names = group(FID_NAME_TARGET | FAN_REPORT_PIDFD, 0);
	mark(names, 0, FAN_OPEN, "other");
	mark(names, 0, FAN_CREATE | FAN_ONDIR, "dir");
	/* Not both in one group: some file systems' ids do not go together with others'. */
	removals = group(FID_NAME_TARGET, 0);
	mark(removals, FAN_MARK_FILESYSTEM, FAN_DELETE, "mnt");
	sys_admin(false);
	unprivileged = group(FAN_REPORT_FID, 0);
	mark(unprivileged, 0, FAN_OPEN, "file");
	sys_admin(true);
	audit = fanotify_init(FAN_CLASS_PRE_CONTENT | FAN_ENABLE_AUDIT, O_RDONLY);
	for (int *fd = (int[]){ inodes, whole, names, removals, unprivileged, audit, -1 }; *fd >= 0; fd++) {
		was[n] = fd_look(*fd);
		marks[n++] = marks_of(*fd);
	}
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	MAKER_SAME("no event of the restore", event(inodes, NULL), 0);
	for (int i = 0; i < n; i++) {
		fd_same("fanotify", &was[i]);
		if (strcmp(marks_of(was[i].fd), marks[i]))
			maker_fail("group %d has\n%s, not\n%s", i, marks_of(was[i].fd), marks[i]);
	}
	pid = touch("file");
	MAKER_SAME("event of the file", event(inodes, &n), FAN_OPEN);
	MAKER_SAME("whose it is", n, pid);
	MAKER_SAME("what is ignored", event(inodes, NULL), 0);
	MAKER_SAME("event told to the unprivileged", event(unprivileged, &n), FAN_OPEN);
	MAKER_SAME("not whose it is", n, 0);
	while (event(whole, NULL))
		;
	touch("mnt/file");
	MAKER_SAME("event on the mount", event(whole, NULL), FAN_OPEN);
	close(file_with("mnt/file", "yy", 0));
	MAKER_SAME("event on the file system", event(whole, NULL), FAN_OPEN | FAN_MODIFY);
	MAKER_MUST(!unlink("mnt/file"));
	MAKER_SAME("another group's", event(removals, NULL), FAN_DELETE);
	MAKER_MUST(!mkdir("dir/new", 0755));
	MAKER_SAME("a new directory", event(names, NULL), FAN_CREATE | FAN_ONDIR);
	if (audit >= 0) {
		struct fanotify_response r = { INT32_MAX, FAN_ALLOW | FAN_AUDIT };

		MAKER_SAME("answer to nothing", write(audit, &r, sizeof(r)), -1);
		MAKER_SAME("may be audited", errno, ENOENT);
	}
	maker_ok();
}
