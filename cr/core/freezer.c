/* cgroup v2: Documentation/admin-guide/cgroup-v2.rst; v1: cgroup-v1/freezer-subsystem.rst. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/freezer.h"
#include "util/io.h"
#include "util/timer.h"

#define FREEZING	2	/* v1: on the way */
/* In looks at it. */
#define ASK_EVERY	10u
#define THAW_EVERY	200u

/* A file of the group: its text (heap), or -errno. */
static int read_group(const char *path, const char *name, char **ret)
{
	char file[PATH_MAX];

	if (snprintf(file, sizeof(file), "%s/%s", path, name) >= (int)sizeof(file))
		return -ENAMETOOLONG;
	return read_file_at(AT_FDCWD, file, 4096, ret, NULL);
}

bool freezer_is_v1(const char *path)
{
	_cleanup_free_ char *state = NULL;

	return read_group(path, "freezer.state", &state) >= 0;
}

static int get_v1(const char *path)
{
	_cleanup_free_ char *self = NULL, *parent = NULL;
	int r = read_group(path, "freezer.parent_freezing", &parent);

	if (r >= 0)
		r = read_group(path, "freezer.self_freezing", &self);
	if (r < 0)
		return r;
	return parent[0] == '1' ? -EBUSY : self[0] == '1';
}

int freezer_get(const char *path)
{
	_cleanup_free_ char *text = NULL;
	int r = read_group(path, "cgroup.freeze", &text);

	if (r == -ENOENT)
		return get_v1(path);
	return r < 0 ? r : text[0] == '1';
}

int freezer_set(const char *path, int frozen)
{
	if (freezer_is_v1(path))
		return write_filef(frozen ? "FROZEN" : "THAWED", "%s/freezer.state", path);
	return write_filef(frozen ? "1" : "0", "%s/cgroup.freeze", path);
}

/* As freezer_wait() wants it, or FREEZING. */
static int frozen_now(const char *path)
{
	_cleanup_free_ char *text = NULL;
	const char *s;
	int r = read_group(path, "cgroup.events", &text);

	if (r == -ENOENT) {
		r = read_group(path, "freezer.state", &text);
		return r < 0 ? r : str_starts(text, "FROZEN") ? 1 : str_starts(text, "THAWED") ? 0 :
		       FREEZING;
	}
	if (r < 0)
		return r;
	s = strstr(text, "frozen ");
	return s ? s[7] == '1' : -EBADMSG;
}

/*
 * A task that has just been made may miss it that its group (v1) freezes, and the group stays on the way.
 * Who asks again finds it; who asks often gives up now and then what keeps others from coming along.
 */
static void ask_again(const char *path, unsigned int n)
{
	if (n % THAW_EVERY == THAW_EVERY - 1)
		(void)!freezer_set(path, 0);
	if (n % ASK_EVERY == ASK_EVERY - 1)
		(void)!freezer_set(path, 1);
}

int freezer_wait(const char *path, int frozen, uint64_t timeout_usec)
{
	const struct timespec pause = { .tv_nsec = 200000 };
	uint64_t begin = clock_usec(CLOCK_MONOTONIC);
	int r;

	for (unsigned int n = 0;; n++) {
		r = frozen_now(path);
		if (r < 0 || r == frozen)
			return r < 0 ? r : 0;
		if (clock_usec(CLOCK_MONOTONIC) - begin > timeout_usec)
			return -ETIMEDOUT;
		if (r == FREEZING && frozen)
			ask_again(path, n);
		nanosleep(&pause, NULL);
	}
}
