/*
 * See pids.h; proc_pid_status(5), pid_namespaces(7).
 *
 * NSpid and its like have one number for each namespace from that of /proc down to the task's own. A
 * process that is nested deeper has more; those of the root's level are what the root sees.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "core/pids.h"
#include "kernel/status.h"
#include "task/parts.h"
#include "util/child.h"

int pids_find_level(struct dump_ctx *ctx, pid_t pid, int proc_fd)
{
	_cleanup_proc_status_ struct proc_status status = { 0 };
	struct stat ours, its;
	int r;

	if (fstatat(proc_fd, "ns/pid", &its, 0) < 0 || stat("/proc/self/ns/pid", &ours) < 0)
		return errno == ENOENT ? -ESRCH : neg_errno();
	if (its.st_ino == ours.st_ino)
		return 0;
	r = proc_status_read(proc_fd, pid, &status);
	if (r < 0)
		return r;
	/* Of one that is not below ours only 0 shows. */
	if (status.ns_pid.n < 2)
		return -EXDEV;
	ctx->pid_level = (unsigned int)status.ns_pid.n - 1;
	return 0;
}

static int id_at(const struct status_ids *ids, unsigned int level, uint32_t *ret)
{
	if (ids->n <= level)
		return -EXDEV;
	*ret = ids->id[level];
	return 0;
}

int pids_of_process(struct dump_process *p)
{
	_cleanup_proc_status_ struct proc_status status = { 0 };
	unsigned int level = p->ctx->pid_level;
	int r = proc_status_read(p->proc_fd, p->pid, &status);

	if (r >= 0)
		r = id_at(&status.ns_pid, level, &p->pid_virtual);
	if (r >= 0)
		r = id_at(&status.ns_pgid, level, &p->pgid);
	return r < 0 ? r : id_at(&status.ns_sid, level, &p->sid);
}

int pids_of_thread(const struct dump_process *p, pid_t tid, uint32_t *ret)
{
	_cleanup_proc_status_ struct proc_status status = { 0 };
	int r = proc_status_read(p->proc_fd, tid, &status);

	return r < 0 ? r : id_at(&status.ns_pid, p->ctx->pid_level, ret);
}

/* 0 in those that do not show it. */
static unsigned int levels_of(const struct status_ids *ids)
{
	unsigned int n = 0;

	while (n < ids->n && ids->id[n])
		n++;
	return n;
}

int pids_place(struct dump_process *p, struct pid_place *ret)
{
	_cleanup_proc_status_ struct proc_status status = { 0 };
	int r;

	*ret = (struct pid_place){ 0 };
	if (!p->ctx->nested_pids)
		return 0;
	r = proc_status_read(p->proc_fd, p->pid, &status);
	if (r >= 0 && !status.ns_pid.n)
		r = -EBADMSG;
	if (r < 0)
		return log_err(r, "cannot read the ids of process %d (%s)", p->pid, p->comm);
	ret->ns = p->pid_ns;
	ret->first = status.ns_pid.id[status.ns_pid.n - 1] == 1;
	ret->levels = levels_of(&status.ns_pid);
	ret->sid_levels = levels_of(&status.ns_sid);
	ret->pgid_levels = levels_of(&status.ns_pgid);
	return 0;
}

static PidNumbersEntry *numbers_entry(struct arena *a, const struct status_ids *ids)
{
	PidNumbersEntry *e = ARENA_MSG(a, PidNumbersEntry, pid_numbers_entry);

	if (!e)
		return NULL;
	e->at = arena_memdup(a, ids->id, ids->n * sizeof(*e->at));
	e->n_at = ids->n;
	return e->at ? e : NULL;
}

int pids_dump_numbers(struct dump_process *p, PstreeEntry *e)
{
	struct arena *a = &p->ctx->arena;

	if (!p->ctx->pid_level && !p->ctx->nested_pids)
		return 0;
	e->has_pid_ns_id = p->pid_ns;
	e->pid_ns_id = p->pid_ns;
	e->has_pid_ns_for_children = p->pid_ns_for_children;
	e->pid_ns_for_children = p->pid_ns_for_children;
	e->numbers = arena_alloc(a, e->n_threads * sizeof(PidNumbersEntry *));
	if (!e->numbers)
		return -ENOMEM;
	for (size_t i = 0; i < e->n_threads; i++) {
		_cleanup_proc_status_ struct proc_status of_ended = { 0 };
		const struct proc_status *status = &of_ended;
		/* A main thread that has ended is in no list of ours. */
		bool ended = i < p->main_ended || !p->n_threads;
		int r = ended ? proc_status_read(p->proc_fd, p->pid, &of_ended) :
				task_status(p->ctx, p, &p->threads[i - p->main_ended], &status);

		if (r >= 0 && !status->ns_pid.n)
			r = -EBADMSG;
		if (r < 0)
			return log_err(r, "cannot read the ids of process %d", p->pid);
		e->numbers[e->n_numbers++] = numbers_entry(a, &status->ns_pid);
		if (!i) {
			e->group_numbers = numbers_entry(a, &status->ns_pgid);
			e->session_numbers = numbers_entry(a, &status->ns_sid);
		}
		if (!e->numbers[i] || !e->group_numbers || !e->session_numbers)
			return -ENOMEM;
	}
	return 0;
}

uint32_t dump_pid_virtual(struct dump_ctx *ctx, pid_t pid)
{
	const struct dump_process *p = dump_process_find(ctx, pid);

	if (p)
		return p->pid_virtual;
	for (size_t i = 0; i < ctx->n_procs; i++)
		for (size_t k = 0; k < ctx->procs[i]->n_threads; k++)
			if (ctx->procs[i]->threads[k].task.tid == pid)
				return ctx->procs[i]->threads[k].tid_virtual;
	return 0;
}

uint32_t dump_pgid_virtual(struct dump_ctx *ctx, pid_t pgid)
{
	for (size_t i = 0; i < ctx->n_procs; i++)
		if (ctx->procs[i]->host_pgid == pgid)
			return ctx->procs[i]->pgid;
	return 0;
}

struct dump_process *dump_process_find_virtual(struct dump_ctx *ctx, uint32_t pid)
{
	if (!ctx->pid_level)
		return dump_process_find(ctx, (pid_t)pid);
	for (size_t i = 0; i < ctx->n_procs; i++)
		if (ctx->procs[i]->pid_virtual == pid)
			return ctx->procs[i];
	return NULL;
}

int dump_ask_inside(struct dump_ctx *ctx, int (*fn)(void *arg), void *arg)
{
	_cleanup_close_ int fd = -EBADF;

	if (!ctx->pid_level)
		return fn(arg);
	fd = openat(ctx->procs[0]->proc_fd, "ns/pid", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot open the tree's PID namespace");
	return child_call_in_pidns(fd, fn, arg);
}
