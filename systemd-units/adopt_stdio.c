/*
 * From the file that took a tree's output since the restore to the unit's own stream.
 *
 *   copy    most of the file, while the tree runs
 *   stop    every thread of every process that has the file open
 *   copy    what was written meanwhile
 *   inject  our stdout and stderr over each descriptor that leads to the file
 *   resume
 *
 * Nothing is written to the file after the last copy, so no line is lost and none overtakes.
 *
 * The trap: a stop ends epoll_wait(2) and its like with EINTR even if no signal came; they
 * are made to go on for the rest of their time.
 */
#include "systemd-units/adopt.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "core/dump.h"
#include "core/early.h"
#include "remote/remote.h"
#include "task/regs.h"
#include "util/io.h"
#include "util/log.h"

#define STOP_USEC	2000000u
#define ROUNDS_MAX	50
#define COPY_BYTES	(256u << 10)

struct process {
	pid_t pid;
	struct remote remote;
	struct task *tasks;
	size_t n_tasks;
	struct held_fd *fds;
	size_t n_fds;
};

struct output {
	const char *cgroup;
	int fd;
	dev_t dev;
	ino_t ino;
	off_t copied;
	struct process **processes;	/* each where it was made: tasks point to remote */
	size_t n_processes;
	struct cr_ahead *ahead;		/* when waits end that our stops interrupt; or NULL */
};

static int copy_more(struct output *o)
{
	_cleanup_free_ char *buf = malloc(COPY_BYTES);
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	while ((n = pread(o->fd, buf, COPY_BYTES, o->copied)) > 0) {
		int r = write_full(STDOUT_FILENO, buf, n);

		if (r < 0)
			return r;
		o->copied += n;
	}
	return n < 0 ? neg_errno() : 0;
}

/* While they run. What is not known begins anew. */
static struct cr_ahead *look_ahead(const char *cgroup)
{
	_cleanup_free_ pid_t *pids = NULL;
	struct cr_ahead *ahead = NULL;
	struct peek *pk;
	size_t n = 0;

	if (procs_of_cgroup(cgroup, &pids, &n) < 0 || !n)
		return NULL;
	pk = cr_peek_new();
	if (pk)
		ahead = cr_look_ahead(&(struct cr_opts){ .pid = pids[0], .more_pids = pids + 1, .n_more_pids = n - 1 }, pk);
	cr_peek_free(pk);
	return ahead;
}

/* epoll_wait(2) and its like go on instead of returning EINTR for our stop. */
static int hide_stop(const struct cr_ahead *ahead, struct task *t)
{
	struct dump_thread th = { .task = *t };
	int r = restart_hide_interrupt(&th);

	if (r < 0)
		return r;
	t->regs = th.task.regs;
	epoll_end_go_on(t, epoll_end_of(ahead, t, 1));
	return task_put_regs(t);
}

static bool is_seized(const struct process *p, pid_t tid)
{
	for (size_t i = 0; i < p->n_tasks; i++)
		if (p->tasks[i].tid == tid)
			return true;
	return false;
}

static int seize_thread(const struct output *o, struct process *p, pid_t tid)
{
	struct task *more = reallocarray(p->tasks, p->n_tasks + 1, sizeof(*more));
	struct task *t;
	int r;

	if (!more)
		return -ENOMEM;
	p->tasks = more;
	t = &p->tasks[p->n_tasks];
	*t = (struct task){ .tid = tid, .remote = &p->remote };
	r = task_seize(t, 0, STOP_USEC);
	if (r == -ESRCH)
		return 0;	/* ended meanwhile */
	/* One that does not stop in time is let go with the others. */
	p->n_tasks++;
	if (r == 0)
		r = task_get_regs(t);
	if (r == 0)
		r = hide_stop(o->ahead, t);
	return r < 0 ? log_err(r, "cannot stop thread %d of pid %d", tid, p->pid) : 1;
}

/* Threads make threads until all are stopped: until a round finds no new one. */
static int seize_process(const struct output *o, struct process *p)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		_cleanup_free_ pid_t *tids = NULL;
		size_t n = 0, fresh = 0;
		int r = proc_threads(p->pid, &tids, &n);

		if (r == -ENOENT)
			return 0;
		for (size_t i = 0; i < n && r >= 0; i++) {
			if (is_seized(p, tids[i]))
				continue;
			r = seize_thread(o, p, tids[i]);
			fresh += r > 0;
		}
		if (r < 0)
			return r;
		if (!fresh)
			return 0;
	}
	return log_fail(-EAGAIN, "pid %d makes threads faster than they can be stopped", p->pid);
}

static bool is_known(const struct output *o, pid_t pid)
{
	for (size_t i = 0; i < o->n_processes; i++)
		if (o->processes[i]->pid == pid)
			return true;
	return false;
}

static struct process *add_process(struct output *o, pid_t pid)
{
	struct process **more = reallocarray(o->processes, o->n_processes + 1, sizeof(*more));
	struct process *p = calloc(1, sizeof(*p));

	if (more)
		o->processes = more;
	if (!more || !p) {
		free(p);
		return NULL;
	}
	p->pid = pid;
	p->remote.mem_fd = -EBADF;
	return o->processes[o->n_processes++] = p;
}

static int find_held(const struct output *o, struct process *p)
{
	int r;

	free(p->fds);
	p->fds = NULL;
	p->n_fds = 0;
	r = proc_held_fds(p->pid, o->dev, o->ino, &p->fds, &p->n_fds);
	return r == -ENOENT || r == -ESRCH ? 0 : r;
}

/* 1: the process holds the file and was stopped now. */
static int stop_if_holder(struct output *o, pid_t pid)
{
	struct process *p = add_process(o, pid);
	int r;

	if (!p)
		return -ENOMEM;
	r = find_held(o, p);
	if (r < 0 || !p->n_fds)
		return r;
	r = remote_open(&p->remote, pid);
	if (r == 0)
		r = seize_process(o, p);
	/* What it opened until it stood counts too. */
	if (r == 0)
		r = find_held(o, p);
	return r < 0 ? r : 1;
}

static int stop_holders(struct output *o)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		_cleanup_free_ pid_t *pids = NULL;
		size_t n = 0, fresh = 0;
		int r = procs_of_cgroup(o->cgroup, &pids, &n);

		for (size_t i = 0; i < n && r >= 0; i++) {
			if (is_known(o, pids[i]))
				continue;
			r = stop_if_holder(o, pids[i]);
			fresh += r > 0;
		}
		if (r < 0)
			return log_err(r, "cannot stop the processes of %s", o->cgroup);
		if (!fresh)
			return 0;
	}
	return log_fail(-EAGAIN, "%s makes processes faster than they can be stopped", o->cgroup);
}

static int inject_all(struct output *o)
{
	for (size_t i = 0; i < o->n_processes; i++) {
		struct process *p = o->processes[i];
		int r;

		if (!p->n_tasks || !p->n_fds)
			continue;
		r = stdio_inject(&p->tasks[0], p->pid, p->fds, p->n_fds);
		if (r < 0)
			return r;
	}
	return 0;
}

static void resume_all(struct output *o)
{
	for (size_t i = 0; i < o->n_processes; i++) {
		struct process *p = o->processes[i];

		for (size_t t = 0; t < p->n_tasks; t++) {
			int r = task_detach(&p->tasks[t]);

			/* One that never stopped is let go when we end. */
			if (r < 0 && r != -ESRCH)
				log_err(r, "cannot detach from %d", p->tasks[t].tid);
		}
		remote_close(&p->remote);
		free(p->tasks);
		free(p->fds);
		free(p);
	}
	free(o->processes);
}

int stdio_switch(const char *cgroup, const char *path)
{
	struct output o = { .cgroup = cgroup };
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : log_err(neg_errno(), "cannot open %s", path);
	if (fstat(fd, &st) < 0)
		return log_err(neg_errno(), "cannot stat %s", path);
	o.fd = fd;
	o.dev = st.st_dev;
	o.ino = st.st_ino;
	r = copy_more(&o);
	o.ahead = look_ahead(cgroup);
	if (r == 0)
		r = stop_holders(&o);
	if (r == 0)
		r = copy_more(&o);
	if (r == 0)
		r = inject_all(&o);
	resume_all(&o);
	cr_ahead_free(o.ahead);
	/* Half injected is written to both; what went to the file since is still to come. */
	if (r < 0 && copy_more(&o) < 0)
		log_warn("%s holds output that the journal lacks", path);
	if (r == 0 && unlink(path) < 0)
		log_warn("cannot remove %s", path);
	return r;
}
