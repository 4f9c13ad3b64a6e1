/* /proc/PID/cgroup (cgroups(7)) and the mounts of its hierarchies. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "ns/cgroup_state.h"
#include "ns/mountapi.h"
#include "ns/state.h"

#define BUSY_TRIES	100u
#define BUSY_NSEC	10000000

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct cg_member *)a)->name, ((const struct cg_member *)b)->name);
}

int cgroup_parse(struct arena *a, const char *text, struct cg_set *ret)
{
	char *copy = arena_strdup(a, text), *save = NULL;

	if (!copy)
		return -ENOMEM;
	*ret = (struct cg_set){ 0 };
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *name = strchr(line, ':'), *path = name ? strchr(name + 1, ':') : NULL, *gone;
		struct cg_member *m;

		if (!path || path[1] != '/' || ret->n >= CG_HIERARCHIES_MAX)
			return -EBADMSG;
		*path++ = '\0';
		gone = strstr(path, " (deleted)");
		if (gone && !gone[strlen(" (deleted)")])
			*gone = '\0';
		m = ARENA_PUSH(a, ret->members, ret->n);
		if (!m)
			return -ENOMEM;
		*m = (struct cg_member){ .name = name + 1, .path = path };
	}
	if (ret->n)
		qsort(ret->members, ret->n, sizeof(*ret->members), compare);
	return 0;
}

bool cgroup_sets_equal(const struct cg_set *a, const struct cg_set *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->members[i].name, b->members[i].name) ||
		    strcmp(a->members[i].path, b->members[i].path))
			return false;
	return true;
}

const char *cgroup_path_in(const struct cg_set *set, const char *name)
{
	for (size_t i = 0; set && i < set->n; i++)
		if (!strcmp(set->members[i].name, name))
			return set->members[i].path;
	return NULL;
}

/* Is each of the comma list's words among the mount's options? */
static bool has_options(const char *options, const char *names)
{
	while (*names) {
		size_t n = strcspn(names, ",");
		bool found = false;

		for (const char *o = options; *o && !found;) {
			size_t k = strcspn(o, ",");

			found = k == n && !strncmp(o, names, n);
			o += k + (o[k] == ',');
		}
		if (!found)
			return false;
		names += n + (names[n] == ',');
	}
	return true;
}

bool cgroup_names_equal(const char *a, const char *b)
{
	return strlen(a) == strlen(b) && has_options(a, b);
}

bool cgroup_is_called(const char *name, const char *controller, size_t n)
{
	char word[NAME_MAX + 8];

	if (!n || !*name || n > NAME_MAX)
		return !n && !*name;
	snprintf(word, sizeof(word), "name=%.*s", (int)n, controller);
	return has_options(name, word) || has_options(name, word + strlen("name="));
}

static int mount_v1(const char *name)
{
	_cleanup_close_ int fs = (int)syscall(SYS_fsopen, "cgroup", FSOPEN_CLOEXEC);
	_cleanup_free_ char *words = strdup(name);
	char *save = NULL;
	int fd;

	if (!words)
		return -ENOMEM;
	if (fs < 0)
		return neg_errno();
	/* A name alone: without controllers, which the kernel wants to be said. */
	if (str_starts(name, "name=") && syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "none", NULL, 0) < 0)
		return neg_errno();
	for (char *w = strtok_r(words, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		long r = str_starts(w, "name=") ? syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "name",
							  w + strlen("name="), 0)
						: syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, w, NULL, 0);

		if (r < 0)
			return neg_errno();
	}
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return neg_errno();
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? neg_errno() : fd;
}

/*
 * One that is just going away after its last unmount makes the kernel begin the call again, which for
 * fsconfig(2) fails: a context can be used once.
 */
int cgroup_mount_v1(const char *name)
{
	int fd;

	for (unsigned int i = 0; (fd = mount_v1(name)) == -EBUSY && i < BUSY_TRIES; i++)
		nanosleep(&(struct timespec){ .tv_nsec = BUSY_NSEC }, NULL);
	return fd;
}

void cgroup_find_mount(const struct mount_table *t, struct cg_hierarchy *h)
{
	const char *fstype = *h->name ? "cgroup" : "cgroup2";
	const struct mount *best = NULL;

	h->fd = -EBADF;
	for (size_t i = 0; i < t->n; i++) {
		const struct mount *m = &t->mounts[i];

		if (strcmp(m->fstype, fstype) || !has_options(m->options, h->name))
			continue;
		/* The one that shows most. */
		if (!best || strlen(m->root) < strlen(best->root))
			best = m;
	}
	if (!best) {
		/* Where no path leads, for as long as we are. */
		h->fd = *h->name ? cgroup_mount_v1(h->name) : -EBADF;
		return;
	}
	h->root = best->root;
	h->fd = open(best->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int cgroup_open_dir(const struct cg_hierarchy *h, const char *path)
{
	const char *rel = path_below(path, h->root);

	if (!rel)
		return -EXDEV;
	return open_on_mount(h->fd, rel, O_PATH | O_DIRECTORY);
}

/* What is asked for, up to the root, which has no such file. */
static bool is_held_up(int dir)
{
	_cleanup_close_ int at = fcntl(dir, F_DUPFD_CLOEXEC, 0);

	while (at >= 0) {
		_cleanup_free_ char *text = NULL;
		int up;

		if (read_file_at(at, "cgroup.freeze", 64, &text, NULL) < 0)
			return false;
		if (text[0] == '1')
			return true;
		up = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = up;
	}
	return false;
}

bool cgroup_is_held(pid_t pid)
{
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int dir = -EBADF;
	struct cg_hierarchy h = { .name = "", .root = "/", .fd = -EBADF };
	struct mount_table mounts;
	struct arena a;
	struct cg_set set;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	arena_init(&a);
	if (self >= 0 && mountinfo_read(&a, self, &mounts) >= 0 &&
	    read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL) >= 0 && cgroup_parse(&a, text, &set) >= 0) {
		cgroup_find_mount(&mounts, &h);
		for (size_t i = 0; i < set.n && dir < 0 && h.fd >= 0; i++)
			if (!*set.members[i].name)
				dir = cgroup_open_dir(&h, set.members[i].path);
	}
	close_fdp(&h.fd);
	arena_done(&a);
	return dir >= 0 && is_held_up(dir);
}

bool cgroup_is_frozen(const struct dump_process *p)
{
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL, *state = NULL;
	_cleanup_close_ int dir = -EBADF;
	struct cg_hierarchy h = { .root = "/", .fd = -EBADF };
	struct mount_table mounts;
	struct arena a;
	struct cg_set set;

	arena_init(&a);
	if (self >= 0 && mountinfo_read(&a, self, &mounts) >= 0 &&
	    read_file_at(p->proc_fd, "cgroup", READ_FILE_MAX, &text, NULL) >= 0 &&
	    cgroup_parse(&a, text, &set) >= 0) {
		for (size_t i = 0; i < set.n && dir < 0; i++) {
			h.name = set.members[i].name;
			if (!*h.name || !has_options(h.name, "freezer"))
				continue;
			cgroup_find_mount(&mounts, &h);
			dir = h.fd < 0 ? -EBADF : cgroup_open_dir(&h, set.members[i].path);
		}
	}
	close_fdp(&h.fd);
	arena_done(&a);
	return dir >= 0 && read_file_at(dir, "freezer.state", 64, &state, NULL) >= 0 &&
	       !str_starts(state, "THAWED");
}
