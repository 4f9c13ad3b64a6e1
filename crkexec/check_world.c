/*
 * Part of phase "check": what the trees share with things that will not be there, or not yet,
 * when they come back: PID 1's own sockets (units activated by a socket), file systems that are
 * mounted only later in the boot.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/machine.h"
#include "crkexec/phases.h"
#include "crkexec/sockets.h"
#include "crkexec/tree.h"
#include "kernel/mountinfo.h"
#include "util/io.h"
#include "util/log.h"
#include "util/map.h"

struct world {
	struct upgrade *u;
	const struct unit *unit;
	struct map init_sockets;	/* inodes that PID 1 holds */
	struct map late_devices;	/* device → its struct mount */
	struct arena arena;
	struct map said;		/* inodes that have been complained about */
	int r;
};

static int add_init_socket(void *arg, pid_t pid, int fd, const char *link)
{
	struct world *w = arg;
	uint64_t ino;

	(void)pid;
	(void)fd;
	return socket_inode(link, &ino) < 0 ? 0 : map_put(&w->init_sockets, ino, w);
}

static int add_late_mounts(struct world *w)
{
	_cleanup_close_ int fd = open("/proc/1", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mount_table t;
	int r = fd < 0 ? neg_errno() : mountinfo_read(&w->arena, fd, &t);

	for (size_t i = 0; r == 0 && i < t.n; i++)
		if (mount_comes_late(t.mounts[i].fstype))
			r = map_put(&w->late_devices, t.mounts[i].dev, &t.mounts[i]);
	return r;
}

static int complain_once(struct world *w, uint64_t key, bool *ret_first)
{
	*ret_first = !map_get(&w->said, key);
	return *ret_first ? map_put(&w->said, key, w) : 0;
}

static int check_socket(struct world *w, pid_t pid, int fd, uint64_t ino)
{
	bool first;
	int r;

	if (!map_get(&w->init_sockets, ino))
		return 0;
	r = complain_once(w, ino, &first);
	if (r == 0 && first)
		w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
			"start the service without its .socket unit, or leave it out",
			"pid %d: fd %d: a socket that belongs to systemd (socket activation): the new "
			"boot makes it anew", pid, fd);
	return r;
}

static int check_file(struct world *w, pid_t pid, const char *what, const char *path)
{
	const struct mount *m;
	struct stat st;
	bool first;
	int r;

	/* Closed since it was listed. */
	if (stat(path, &st) < 0)
		return 0;
	m = map_get(&w->late_devices, dev_to_kernel(st.st_dev));
	if (!m)
		return 0;
	r = complain_once(w, st.st_ino ^ (uint64_t)m->dev << 40, &first);
	if (r == 0 && first)
		w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
			"move the file to a local disk, or leave the service out",
			"pid %d: %s is on %s (%s), which is mounted only later in the boot", pid, what,
			m->mountpoint, m->fstype);
	return r;
}

static int check_fd(void *arg, pid_t pid, int fd, const char *link)
{
	struct world *w = arg;
	uint64_t ino;
	char path[48], what[80];

	if (socket_inode(link, &ino) == 0)
		return check_socket(w, pid, fd, ino);
	if (link[0] != '/' || !w->late_devices.n)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	snprintf(what, sizeof(what), "fd %d (%.60s)", fd, link);
	return check_file(w, pid, what, path);
}

static int check_pid(void *arg, pid_t pid)
{
	static const char *const links[] = { "exe", "cwd", "root" };
	struct world *w = arg;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(links) && r == 0 && w->late_devices.n; i++) {
		char path[48];

		snprintf(path, sizeof(path), "/proc/%d/%s", pid, links[i]);
		r = check_file(w, pid, links[i], path);
	}
	return r;
}

static int check_units(struct world *w)
{
	int r = pid_each_fd(1, add_init_socket, w);

	if (r == 0)
		r = add_late_mounts(w);
	for (size_t i = 0; i < w->u->n_units && r == 0; i++) {
		w->unit = w->u->units[i];
		r = tree_each_fd(&w->unit->tree, check_fd, w);
		if (r == 0)
			r = tree_each_pid(&w->unit->tree, check_pid, w);
	}
	return r < 0 ? log_err(r, "cannot look through the files of %s",
			       w->unit ? w->unit->name : "PID 1") : w->r;
}

int check_world(struct upgrade *u)
{
	struct world w = { .u = u };
	int r;

	arena_init(&w.arena);
	r = check_units(&w);
	arena_done(&w.arena);
	map_done(&w.init_sockets);
	map_done(&w.late_devices);
	map_done(&w.said);
	return r;
}
