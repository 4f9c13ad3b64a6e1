/*
 * Restore: which numbers tasks get. In the images' PID namespace they are those of the images, always. For
 * a tree with one of its own these are inside; outside, where the restore runs, it gets what it had if
 * that is free, or else any number. Images of CRIU do not tell what it had. In namespaces nested in
 * the images' a task always has what it had.
 *
 * Rests on clone3(2), set_tid: one number for each PID namespace, the innermost first; each wants
 * CAP_CHECKPOINT_RESTORE in the user namespace that owns it. EEXIST: taken; EINVAL: beyond pid_max.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "core/restore_pids.h"
#include "kernel/stat.h"
#include "ns/ns.h"

#define PF_EXITING	0x4u		/* include/linux/sched.h of the kernel */
#define REAP_TRIES	1000u		/* of 10 ms, each */
#define REAP_TRIES_ALL	100u		/* all together, where any other number will do */
#define FREE_TRIES	2000u		/* of 1 ms */

/* No process has it. */
static bool is_no_process(pid_t pid)
{
	return kill(pid, 0) < 0 && errno == ESRCH;
}

static bool is_ending(uint32_t pid)
{
	struct proc_stat st;

	/* Or gone meanwhile; the first of a PID namespace ends when all others in it have been reaped. */
	return proc_stat_of((pid_t)pid, &st) < 0 || st.state == 'Z' || st.flags & PF_EXITING;
}

/* What a dump has just ended may wait to be reaped by init. */
static bool is_free(uint32_t pid, unsigned int *tries)
{
	for (;;) {
		if (is_no_process((pid_t)pid))
			return true;
		if (!*tries || !is_ending(pid))
			return false;
		--*tries;
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
}

int restore_pid_check_free(uint32_t pid)
{
	_cleanup_free_ char *comm = NULL;
	unsigned int tries = REAP_TRIES;
	char path[48];

	if (is_free(pid, &tries))
		return 0;
	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	if (read_file_at(AT_FDCWD, path, 64, &comm, NULL) >= 0)
		comm[strcspn(comm, "\n")] = '\0';
	return log_fail(-EEXIST, "pid %u is in use%s%s%s", pid, comm ? " (" : "", comm ? comm : "",
			comm ? ")" : "");
}

uint32_t restore_pid_outer(const struct restore_process *p, size_t thread)
{
	return p->pst->n_numbers && ns_restore_has_pidns(p->ctx) ? p->pst->numbers[thread]->at[0] : 0;
}

uint32_t restore_pid_inside(const struct restore_process *p, size_t thread)
{
	const PstreeEntry *e = p->pst;

	if (e->n_numbers)
		return e->numbers[thread]->at[e->numbers[thread]->n_at - 1];
	return thread ? e->threads[thread] : e->pid;
}

uint32_t restore_pid_for(const struct restore_process *p, const struct restore_process *by)
{
	const PidNumbersEntry *e = p->pst->n_numbers ? p->pst->numbers[0] : NULL;
	size_t level = by->pst->n_numbers ? by->pst->numbers[0]->n_at : 0;

	return e && level && level <= e->n_at ? e->at[level - 1] : p->pst->pid;
}

uint32_t restore_pgid_inside(const struct restore_process *p, uint32_t pgid)
{
	const PidNumbersEntry *e = p->pst->group_numbers;

	return e && p->pst->pgid == pgid ? e->at[e->n_at - 1] : pgid;
}

/* In those from the outside that show it: how many numbers are not 0, and none after. -EBADMSG. */
static int levels_of(const PidNumbersEntry *e)
{
	size_t n = 0;

	while (n < e->n_at && e->at[n] && e->at[n] < PIDS_MAX)
		n++;
	for (size_t i = n; i < e->n_at; i++)
		if (e->at[i])
			return -EBADMSG;
	return (int)n;
}

/* id: what the images call it. levels: of the process. */
static bool numbers_are_sane(const PidNumbersEntry *e, uint32_t id, size_t own, size_t levels, bool of_task)
{
	return e->n_at == levels && e->at[own] == id && levels_of(e) >= (of_task ? (int)levels : 0);
}

int restore_pids_check(struct restore_ctx *ctx, const PstreeEntry *e)
{
	size_t n = MAX(e->n_threads, (size_t)1), own = ns_restore_has_pidns(ctx);
	size_t levels = e->n_numbers ? e->numbers[0]->n_at : 0;
	bool nested = e->has_pid_ns_id;
	bool sane = e->n_numbers == n && e->group_numbers && e->session_numbers &&
		    levels > own && levels <= SET_TID_MAX && (levels > own + 1) == nested && (!nested || e->pid_ns_id);

	if (!e->n_numbers && !e->group_numbers && !e->session_numbers && !nested)
		return 0;
	for (size_t i = 0; sane && i < n; i++)
		sane = numbers_are_sane(e->numbers[i], i ? e->threads[i] : e->pid, own, levels, true);
	if (sane && numbers_are_sane(e->group_numbers, e->pgid, own, levels, false) &&
	    numbers_are_sane(e->session_numbers, e->sid, own, levels, false))
		return 0;
	return log_fail(-EBADMSG, "pstree.img: process %u has malformed numbers in other PID namespaces", e->pid);
}

struct pid_place restore_place(const struct restore_process *p)
{
	const PstreeEntry *e = p->pst;
	struct pid_place ret = { 0 };

	if (!e->n_numbers)
		return ret;
	ret.ns = e->has_pid_ns_id ? e->pid_ns_id : 0;
	ret.first = restore_pid_inside(p, 0) == 1;
	ret.levels = (unsigned int)e->numbers[0]->n_at;
	ret.sid_levels = (unsigned int)levels_of(e->session_numbers);
	ret.pgid_levels = (unsigned int)levels_of(e->group_numbers);
	return ret;
}

/* A leader that is gone is known by those whom it led. */
static PidNumbersEntry *numbers_of_leader(const struct restore_ctx *ctx, uint32_t pid)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		const PstreeEntry *e = ctx->procs[i].pst;

		if (e->sid == pid && e->session_numbers)
			return e->session_numbers;
		if (e->pgid == pid && e->group_numbers)
			return e->group_numbers;
	}
	return NULL;
}

int restore_pids_of_helper(struct restore_ctx *ctx, PstreeEntry *e, uint32_t ns)
{
	const PidNumbersEntry *known = numbers_of_leader(ctx, e->pid);
	PidNumbersEntry *numbers;

	/* With images of CRIU, or one that this kernel does not show. */
	if (!known || levels_of(known) <= (int)ns_restore_has_pidns(ctx))
		return 0;
	numbers = arena_memdup(&ctx->arena, known, sizeof(*known));
	e->numbers = numbers ? arena_memdup(&ctx->arena, &numbers, sizeof(numbers)) : NULL;
	if (!e->numbers)
		return -ENOMEM;
	numbers->n_at = (size_t)levels_of(known);
	e->n_numbers = 1;
	e->has_pid_ns_id = ns;
	e->pid_ns_id = ns;
	return 0;
}

static int check_task(struct restore_ctx *ctx, const struct restore_process *p, size_t thread, unsigned int *tries)
{
	uint32_t outer = restore_pid_outer(p, thread);

	if (!ns_restore_has_pidns(ctx))
		return restore_pid_check_free(thread ? p->pst->threads[thread] : p->pst->pid);
	if (!ctx->opts->keep_outer_pids) {
		(void)(outer && is_free(outer, tries));
		return 0;
	}
	if (!outer)
		return log_fail(-ENODATA, "process %u: the images do not tell its pid outside of its PID namespace; "
				"restore without --keep-outer-pids", p->pst->pid);
	return restore_pid_check_free(outer);
}

int restore_pids_check_free(struct restore_ctx *ctx)
{
	unsigned int tries = REAP_TRIES_ALL;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ctx->lineage.n; i++) {
		const struct restore_process *p = ctx->lineage.kin[i]->process;

		for (size_t k = 1; r >= 0 && k < p->n_threads; k++)
			r = check_task(ctx, p, k, &tries);
		if (r >= 0)
			r = check_task(ctx, p, 0, &tries);
	}
	return r;
}

struct set_tid restore_set_tid(const struct restore_process *p, size_t thread)
{
	const PstreeEntry *e = p->pst;
	struct set_tid ret = { .n = 1, .must = 1 };

	ret.v[0] = (pid_t)restore_pid_inside(p, thread);
	for (size_t i = e->n_numbers ? e->numbers[thread]->n_at - 1 : 0; i-- > 0;)
		ret.v[ret.n++] = (pid_t)e->numbers[thread]->at[i];
	ret.must = ret.n - (restore_pid_outer(p, thread) != 0);
	return ret;
}

struct set_tid restore_set_tid_session(const struct restore_process *root)
{
	const PidNumbersEntry *e = root->pst->session_numbers;
	struct set_tid ret = { 0 };

	if (e && e->at[0] && !root->pst->sid && ns_restore_has_pidns(root->ctx))
		ret.v[ret.n++] = (pid_t)e->at[0];
	return ret;
}

bool restore_set_tid_again(struct restore_ctx *ctx, struct set_tid *want, int r, unsigned int *tries)
{
	pid_t outer = want->n ? want->v[want->n - 1] : 0;
	bool needed = ctx->opts->keep_outer_pids || want->n <= want->must;

	/* One that we can do without is waited for only where nobody has it any more. */
	if (r == -EEXIST && want->n && (needed || is_no_process(outer)) && ++*tries <= FREE_TRIES) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		return true;
	}
	if (needed || (r != -EEXIST && r != -EINVAL && r != -EPERM))
		return false;
	if (!ctx->outer_given_up)
		log_warn("pid %d outside of the tree's PID namespace %s: there it gets another one, as may others",
			 outer, r == -EEXIST ? "is in use" : "cannot be chosen");
	ctx->outer_given_up = true;
	want->n--;
	return true;
}

int restore_clone_failed(const struct set_tid *want, int r)
{
	pid_t pid = want->n ? want->v[0] : 0, outer = want->n > 1 ? want->v[want->n - 1] : 0;

	if (r == -EEXIST && outer)
		return log_fail(r, "pid %d, or outside of its PID namespace %d, is in use", pid, outer);
	if (r == -EEXIST)
		return log_fail(r, "pid %d is in use%s", pid,
				is_no_process(pid) ? ": a process group or session outlives its leader" : "");
	if (r == -EPERM)
		return log_err(r, "cannot choose pid %d (CAP_CHECKPOINT_RESTORE is needed%s)", pid,
			       outer ? ", outside of its PID namespace, too" : "");
	return log_err(r, "cannot create process %d", pid);
}
