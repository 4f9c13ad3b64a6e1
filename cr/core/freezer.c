#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/freezer.h"
#include "util/io.h"
#include "util/timer.h"

int freezer_get(const char *path)
{
	_cleanup_free_ char *text = NULL;
	char file[PATH_MAX];
	int r;

	if (snprintf(file, sizeof(file), "%s/cgroup.freeze", path) >= (int)sizeof(file))
		return -ENAMETOOLONG;
	r = read_file_at(AT_FDCWD, file, 64, &text, NULL);
	return r < 0 ? r : text[0] == '1';
}

int freezer_set(const char *path, int frozen)
{
	return write_filef(frozen ? "1" : "0", "%s/cgroup.freeze", path);
}

static int frozen_now(const char *path)
{
	_cleanup_free_ char *text = NULL;
	char file[PATH_MAX];
	const char *s;
	int r;

	if (snprintf(file, sizeof(file), "%s/cgroup.events", path) >= (int)sizeof(file))
		return -ENAMETOOLONG;
	r = read_file_at(AT_FDCWD, file, 4096, &text, NULL);
	if (r < 0)
		return r;
	s = strstr(text, "frozen ");
	return s ? s[7] == '1' : -EBADMSG;
}

int freezer_wait(const char *path, int frozen, uint64_t timeout_usec)
{
	const struct timespec pause = { .tv_nsec = 200000 };
	uint64_t begin = clock_usec(CLOCK_MONOTONIC);
	int r;

	for (;;) {
		r = frozen_now(path);
		if (r < 0 || r == frozen)
			return r < 0 ? r : 0;
		if (clock_usec(CLOCK_MONOTONIC) - begin > timeout_usec)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
}
