/*
 * Devices as they appear: the kernel's uevents tell when to look again, so nothing polls.
 *
 * The trap: a device may have come before the socket was opened. Every wait looks first, and
 * the socket is opened before the first module is loaded.
 */
#include "initramfs/early.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "util/io.h"
#include "util/log.h"

/* Events that are lost (ENOBUFS) or never sent cost this much, not the whole time-out. */
#define LOOK_AGAIN_MSEC	500

int uevent_open(void)
{
	const struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return neg_errno();
	return take_fd(&fd);
}

static void uevent_drain(int fd)
{
	char buf[8192];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) >= 0 || errno == ENOBUFS ||
	       errno == EINTR)
		;
}

int uevent_wait(int fd, uint64_t timeout_usec, int (*ready)(void *arg), void *arg)
{
	uint64_t end = clock_usec(CLOCK_BOOTTIME) + timeout_usec;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now;
		int r;

		if (fd >= 0)
			uevent_drain(fd);
		r = ready(arg);
		if (r != -EAGAIN)
			return r;
		now = clock_usec(CLOCK_BOOTTIME);
		if (now >= end)
			return -ETIMEDOUT;
		if (poll(&p, 1, MIN((end - now) / 1000 + 1, (uint64_t)LOOK_AGAIN_MSEC)) < 0 &&
		    errno != EINTR)
			return neg_errno();
	}
}

struct search {
	enum { BY_PATH, BY_UUID, BY_LABEL, BY_PARTUUID } by;
	const char *value;
	char *found;
};

static bool fs_matches(const char *path, const struct search *s)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	_cleanup_free_ uint8_t *buf = malloc(FS_PROBE_BYTES);
	struct fs_id id;
	ssize_t n;

	if (fd < 0 || !buf)
		return false;
	n = pread(fd, buf, FS_PROBE_BYTES, 0);
	if (n <= 0 || fs_probe(buf, n, &id) < 0)
		return false;
	if (s->by == BY_UUID)
		return !strcasecmp(id.uuid, s->value);
	return !strcmp(id.label, s->value);
}

static bool part_matches(const char *name, const struct search *s)
{
	_cleanup_free_ char *path = str_fmt("/sys/class/block/%s/uevent", name);
	_cleanup_free_ char *text = NULL;
	const char *at;
	size_t n = strlen(s->value);

	if (!path || read_file_at(AT_FDCWD, path, 65536, &text, NULL) < 0)
		return false;
	at = strstr(text, "PARTUUID=");
	return at && !strncasecmp(at + 9, s->value, n) && (at[9 + n] == '\n' || !at[9 + n]);
}

static int look(void *arg)
{
	struct search *s = arg;
	_cleanup_closedir_ DIR *dir = NULL;
	struct dirent *de;

	if (s->by == BY_PATH) {
		struct stat st;

		if (stat(s->value, &st) < 0)
			return -EAGAIN;
		s->found = strdup(s->value);
		return s->found ? 0 : -ENOMEM;
	}
	dir = opendir("/sys/class/block");
	if (!dir)
		return -EAGAIN;
	while ((de = readdir(dir))) {
		_cleanup_free_ char *path = NULL;

		if (de->d_name[0] == '.')
			continue;
		path = str_fmt("/dev/%s", de->d_name);
		if (!path)
			return -ENOMEM;
		/* sysfs writes '/' in names of devices as '!'. */
		for (char *p = path; *p; p++)
			if (*p == '!')
				*p = '/';
		if (s->by == BY_PARTUUID ? part_matches(de->d_name, s) : fs_matches(path, s)) {
			s->found = take_ptr(path);
			return 0;
		}
	}
	return -EAGAIN;
}

int device_find(int uevent_fd, const char *spec, uint64_t timeout_usec, char **ret)
{
	static const struct {
		const char *prefix;
		int by;
	} forms[] = {
		{ "UUID=", BY_UUID },		{ "/dev/disk/by-uuid/", BY_UUID },
		{ "LABEL=", BY_LABEL },		{ "/dev/disk/by-label/", BY_LABEL },
		{ "PARTUUID=", BY_PARTUUID },	{ "/dev/disk/by-partuuid/", BY_PARTUUID },
	};
	struct search s = { .by = BY_PATH, .value = spec };
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if (!str_starts(spec, forms[i].prefix))
			continue;
		s.by = forms[i].by;
		s.value = spec + strlen(forms[i].prefix);
	}
	if (!*s.value || (s.by == BY_PATH && !str_starts(spec, "/dev/")))
		return log_fail(-EINVAL, "%s names no device", spec);
	r = uevent_wait(uevent_fd, timeout_usec, look, &s);
	if (r < 0)
		return log_err(r, "waited %llu s for %s",
			       (unsigned long long)timeout_usec / 1000000, spec);
	*ret = s.found;
	return 0;
}
