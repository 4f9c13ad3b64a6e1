/*
 * What shortens the stop if it is done before, and what the stop itself destroys.
 *
 * For each descriptor the kernel makes two entries of /proc when somebody looks, and keeps them for as long as the
 * process lives; listing makes them all. Of 1,000 descriptors that is a tenth of the time that their process stands still.
 *
 * An interrupted epoll_wait(2) is over for the kernel: when it would have ended is known while it sleeps only.
 *
 * Nothing here can fail, and nothing is sure afterwards: the tree runs.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/early.h"
#include "task/regs.h"

#define MANY_FDS	64	/* with fewer there is nothing to win */
#define PROCESSES_MAX	50000u	/* one that forks and ends, and so its child, has no end */

static void list(int proc_fd, const char *name)
{
	_cleanup_closedir_ DIR *d = dir_open_at(proc_fd, name);

	while (d && readdir(d))
		;
}

/* Before Linux 6.2 the size does not tell how many there are. */
static void look_at_fds(int proc_fd)
{
	struct stat st;

	if (fstatat(proc_fd, "fd", &st, 0) < 0 || st.st_size < MANY_FDS)
		return;
	list(proc_fd, "fd");
	list(proc_fd, "fdinfo");
}

struct pids {
	pid_t *v;
	size_t n;
};

static void add_children(struct cr_ahead *ahead, int task_fd, const char *tid, struct pids *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[64], *save = NULL;

	snprintf(path, sizeof(path), "%.20s/children", tid);
	if (read_file_at(task_fd, path, READ_FILE_MAX, &text, NULL) < 0)
		return;
	for (char *s = strtok_r(text, " ", &save); s; s = strtok_r(NULL, " ", &save)) {
		pid_t *slot = ret->n < PROCESSES_MAX ? ARENA_PUSH(&ahead->arena, ret->v, ret->n) : NULL;

		if (!slot)
			return;
		*slot = atoi(s);
	}
}

static void look_at(struct cr_ahead *ahead, struct peek *pk, pid_t pid, struct pids *ret_children)
{
	_cleanup_closedir_ DIR *tasks = NULL;
	_cleanup_close_ int proc_fd = -EBADF;
	const struct dirent *de;
	char path[32];

	/* A child of one that was looked at for its own sake. */
	if (map_get(&ahead->processes, (uint64_t)pid) || map_put(&ahead->processes, (uint64_t)pid, ahead) < 0)
		return;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc_fd < 0)
		return;
	look_at_fds(proc_fd);
	tasks = dir_open_at(proc_fd, "task");
	while (tasks && (de = readdir(tasks))) {
		if (de->d_name[0] == '.')
			continue;
		if (pk)
			epoll_end_look(ahead, pk, proc_fd, pid, atoi(de->d_name));
		add_children(ahead, dirfd(tasks), de->d_name, ret_children);
	}
}

struct cr_ahead *cr_look_ahead(const struct cr_opts *opts, struct peek *pk)
{
	struct cr_ahead *ahead = calloc(1, sizeof(*ahead));
	struct pids pids = { 0 };

	if (!ahead)
		return NULL;
	arena_init(&ahead->arena);
	look_at(ahead, pk, opts->pid, &pids);
	for (size_t i = 0; i < opts->n_more_pids; i++)
		look_at(ahead, pk, opts->more_pids[i], &pids);
	for (size_t i = 0; i < pids.n; i++)
		look_at(ahead, pk, pids.v[i], &pids);
	return ahead;
}

void cr_ahead_free(struct cr_ahead *ahead)
{
	if (!ahead)
		return;
	map_done(&ahead->processes);
	map_done(&ahead->waits);
	arena_done(&ahead->arena);
	free(ahead);
}
