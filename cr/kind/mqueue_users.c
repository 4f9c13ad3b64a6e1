/*
 * Who has a POSIX message queue open: a look at the descriptors of all processes, once for all queues,
 * since the tree may stand still meanwhile. They are kept by name: stat(2) of anything else may hang.
 */
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "kind/mqueue.h"

struct holder {
	struct holder *next;	/* of a file of the same name */
	pid_t pid;
	int t_fd;
};

static uint64_t hash_of_name(const char *link)
{
	const char *name = strrchr(link, '/') ?: link;

	return hash_bytes(HASH_BEGIN, name, strlen(name));
}

static int holder_add(struct arena *a, struct mqueue_users *u, const char *link, pid_t pid, int t_fd)
{
	struct holder *new = ARENA_NEW(a, struct holder);
	uint64_t key = hash_of_name(link);

	if (!new)
		return -ENOMEM;
	*new = (struct holder){ map_get(&u->by_name, key), pid, t_fd };
	return map_put(&u->by_name, key, new);
}

/* One that has ended meanwhile has nothing open. */
static int process_add(struct arena *a, struct mqueue_users *u, pid_t pid)
{
	_cleanup_closedir_ DIR *d = NULL;
	const struct dirent *e;
	char path[32];
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (r >= 0 && d && (e = readdir(d))) {
		_cleanup_free_ char *link = NULL;

		if (isdigit((unsigned char)e->d_name[0]) &&
		    readlink_at(dirfd(d), e->d_name, &link) >= 0 && link[0] == '/')
			r = holder_add(a, u, link, pid, atoi(e->d_name));
	}
	return r;
}

static int look(struct arena *a, struct mqueue_users *u)
{
	_cleanup_closedir_ DIR *proc = opendir("/proc");
	const struct dirent *e;
	int r = proc ? 0 : neg_errno();

	while (r >= 0 && proc && (e = readdir(proc))) {
		pid_t pid = atoi(e->d_name);

		if (pid > 0 && pid != getpid())
			r = process_add(a, u, pid);
	}
	u->looked = r >= 0;
	return r;
}

int mqueue_user(struct arena *a, struct mqueue_users *u, int fd, bool (*skip)(void *arg, pid_t pid),
		void *arg, pid_t *ret)
{
	_cleanup_free_ char *link = NULL;
	struct stat st, other;
	char path[48];
	int r = u->looked ? 0 : look(a, u);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (r >= 0)
		r = readlink_at(AT_FDCWD, path, &link);
	if (r >= 0 && fstat(fd, &st) < 0)
		r = neg_errno();
	if (r < 0)
		return r;
	*ret = 0;
	for (const struct holder *n = map_get(&u->by_name, hash_of_name(link)); n; n = n->next) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", n->pid, n->t_fd);
		if ((skip && skip(arg, n->pid)) || stat(path, &other) < 0 ||
		    other.st_ino != st.st_ino || other.st_dev != st.st_dev)
			continue;
		*ret = n->pid;
		break;
	}
	return 0;
}

void mqueue_users_done(struct mqueue_users *u)
{
	map_done(&u->by_name);
	u->looked = false;
}
