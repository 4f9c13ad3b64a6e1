/*
 * pidfd_open(2): a reference to a process, alive or dead.
 *
 *   dump     fdinfo "Pid:" (-1: dead and reaped) and "NSpid:"
 *   restore  pidfd_open() of the restored process; of a child that has ended for a dead one
 *
 * All descriptors of one dead process share an inode (pidfs, Linux 6.9) and get one child.
 * A pidfd with PIDFD_THREAD (O_EXCL) refers to a thread.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kind/kinds.h"
#include "ns/ns.h"

#define PIDFD_THREAD_FLAG	((uint32_t)O_EXCL)
#define PIDFD_FLAGS_KNOWN	(PIDFD_THREAD_FLAG | (uint32_t)O_NONBLOCK)

static bool pidfd_match(const struct dump_file *f)
{
	return link_is_anon(f->link, "pidfd") || str_starts(f->link, "pidfd:[");
}

static const struct dump_thread *thread_find(struct dump_ctx *ctx, pid_t tid)
{
	for (size_t i = 0; i < ctx->n_procs; i++)
		for (size_t k = 0; k < ctx->procs[i]->n_threads; k++)
			if (ctx->procs[i]->threads[k].task.tid == tid)
				return &ctx->procs[i]->threads[k];
	return NULL;
}

static int pidfd_target(struct dump_ctx *ctx, const struct dump_file *f, int *ret_nspid)
{
	const char *line = strstr(f->fdinfo, "\nPid:");
	const struct dump_process *p;
	const struct dump_thread *th;
	int pid;

	if (!line || sscanf(line, "\nPid: %d", &pid) != 1)
		return log_err(-EBADMSG, "pidfd: no pid in fdinfo");
	*ret_nspid = -1;
	if (pid == -1)
		return 0;
	p = dump_process_find(ctx, pid);
	th = p ? NULL : thread_find(ctx, pid);
	if (!p && !th)
		return log_obstacle("close it before, or dump the tree that has both",
				    "a pidfd of process %d, which is not in the tree", pid);
	/* Threads are made when their process has its descriptors. */
	if (!p)
		return log_obstacle("close it before", "a pidfd of thread %d (PIDFD_THREAD)", pid);
	*ret_nspid = (int)p->pid_virtual;
	return 0;
}

static int pidfd_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	PidfdEntry *e = ARENA_MSG(&ctx->arena, PidfdEntry, pidfd_entry);
	int r;

	if (!e)
		return log_err(-ENOMEM, "pidfd");
	e->id = f->id;
	e->ino = (uint32_t)f->st.st_ino;
	/* pidfd_open()'s own flags; the file is always O_RDWR. */
	e->flags = f->flags & PIDFD_FLAGS_KNOWN;
	f->fe->pidfd = e;
	r = pidfd_target(ctx, f, &e->nspid);
	return r < 0 ? r : dump_fown(ctx, f, &e->fown);
}

struct dead_pidfd {
	int fd;
	struct dead_pidfd *next;
};

struct pidfd_state {
	struct map by_ino;
	struct dead_pidfd *list;
};

/* A pidfd of a child that has ended and is reaped. */
static int dead_make(struct restore_ctx *ctx, uint32_t flags, int *ret_fd)
{
	struct ns_visit v;
	int fd, r = ns_restore_visit_pids(ctx, 0, &v), left;
	pid_t pid;

	if (r < 0)
		return r;
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	r = pid < 0 ? neg_errno() : 0;
	left = ns_visit_end(&v);
	if (r < 0)
		return r;
	fd = (int)syscall(SYS_pidfd_open, pid, flags & (uint32_t)O_NONBLOCK);
	if (fd < 0)
		r = neg_errno();
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	*ret_fd = fd;
	return r < 0 ? r : left;
}

static int dead_get(struct restore_ctx *ctx, const PidfdEntry *e, int *ret_fd)
{
	struct pidfd_state *s = ctx->kind_state[FD_TYPES__PIDFD];
	struct dead_pidfd *d;
	int r;

	if (!s)
		s = ctx->kind_state[FD_TYPES__PIDFD] = ARENA_NEW(&ctx->arena, struct pidfd_state);
	if (!s)
		return -ENOMEM;
	d = map_get(&s->by_ino, e->ino);
	if (!d) {
		d = ARENA_NEW(&ctx->arena, struct dead_pidfd);
		if (!d)
			return -ENOMEM;
		r = dead_make(ctx, e->flags, &d->fd);
		if (r < 0)
			return r;
		d->next = s->list;
		s->list = d;
		r = map_put(&s->by_ino, e->ino, d);
		if (r < 0)
			return r;
	}
	/* A struct file of its own where the kernel lets us (pidfs), else the same one. */
	r = reopen_fd(d->fd, O_RDWR, ret_fd);
	if (r >= 0)
		return 0;
	*ret_fd = fcntl(d->fd, F_DUPFD_CLOEXEC, 0);
	return *ret_fd < 0 ? neg_errno() : 0;
}

static int live_get(struct restore_ctx *ctx, const PidfdEntry *e, int *ret_fd)
{
	const struct restore_process *p = restore_process_find(ctx, (uint32_t)e->nspid);

	if (!p || !p->n_threads)
		return -ESRCH;
	*ret_fd = (int)syscall(SYS_pidfd_open, p->threads[0].task.tid,
			       e->flags & PIDFD_FLAGS_KNOWN);
	return *ret_fd < 0 ? neg_errno() : 0;
}

static int pidfd_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const PidfdEntry *e = f->fe->pidfd;
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (e->nspid == 0 || e->nspid < -1)
		return log_fail(-EBADMSG, "process %d is out of range", e->nspid);
	r = e->nspid == -1 ? dead_get(ctx, e, &fd) : live_get(ctx, e, &fd);
	if (r < 0)
		return log_err(r, "cannot make a pidfd of process %d", e->nspid);
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

static void pidfd_restore_done(struct restore_ctx *ctx)
{
	struct pidfd_state *s = ctx->kind_state[FD_TYPES__PIDFD];

	for (struct dead_pidfd *d = s ? s->list : NULL; d; d = d->next)
		close(d->fd);
	if (s) {
		s->list = NULL;
		map_done(&s->by_ino);
	}
}

const struct kind kind_pidfd = {
	.name = "pidfd",
	.type = FD_TYPES__PIDFD,
	.match = pidfd_match,
	.dump = pidfd_dump,
	.restore = pidfd_restore,
	.restore_done = pidfd_restore_done,
};
