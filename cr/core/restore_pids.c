/*
 * Restore: which numbers tasks get. In the images' PID namespace they are those of the images, always. For
 * a tree with one of its own these are inside; outside, where the restore runs, it gets what it had if
 * that is free, or else any number. Images of CRIU do not tell what it had.
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

#define REAP_TRIES	1000u		/* of 10 ms, each */
#define REAP_TRIES_ALL	100u		/* all together, where any other number will do */

static bool is_zombie(uint32_t pid)
{
	struct proc_stat st;

	/* Or gone meanwhile. */
	return proc_stat_of((pid_t)pid, &st) < 0 || st.state == 'Z';
}

/* What a dump has just ended may wait to be reaped by init. */
static bool is_free(uint32_t pid, unsigned int *tries)
{
	for (;;) {
		if (kill((pid_t)pid, 0) < 0 && errno == ESRCH)
			return true;
		if (!*tries || !is_zombie(pid))
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
	return p->pst->n_numbers ? p->pst->numbers[thread]->at[0] : 0;
}

/* numbers: by whom others know a session or a group, which may have come from outside: 0. */
static bool numbers_are_sane(const PidNumbersEntry *e, uint32_t pid, bool of_task)
{
	if (e->n_at != 2 || e->at[1] != pid)
		return false;
	for (size_t i = 0; i < e->n_at; i++)
		if (e->at[i] >= PIDS_MAX || (of_task && !e->at[i]))
			return false;
	return true;
}

int restore_pids_check(struct restore_ctx *ctx, const PstreeEntry *e)
{
	size_t n = MAX(e->n_threads, (size_t)1);
	bool sane = e->n_numbers == n && e->group_numbers && e->session_numbers;

	if (!e->n_numbers && !e->group_numbers && !e->session_numbers)
		return 0;
	for (size_t i = 0; sane && i < n; i++)
		sane = numbers_are_sane(e->numbers[i], i ? e->threads[i] : e->pid, true);
	if (sane && ns_restore_has_pidns(ctx) && numbers_are_sane(e->group_numbers, e->pgid, false) &&
	    numbers_are_sane(e->session_numbers, e->sid, false))
		return 0;
	return log_fail(-EBADMSG, "pstree.img: process %u has malformed numbers in other PID namespaces", e->pid);
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

int restore_pids_of_helper(struct restore_ctx *ctx, PstreeEntry *e)
{
	PidNumbersEntry *numbers = numbers_of_leader(ctx, e->pid);

	/* With images of CRIU, or one that this kernel does not show. */
	if (!numbers || !numbers->at[0])
		return 0;
	e->numbers = arena_memdup(&ctx->arena, &numbers, sizeof(numbers));
	e->n_numbers = 1;
	return e->numbers ? 0 : -ENOMEM;
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
	struct set_tid ret = { .n = 1 };

	ret.v[0] = (pid_t)(thread ? e->threads[thread] : e->pid);
	for (size_t i = e->n_numbers ? e->numbers[thread]->n_at - 1 : 0; i-- > 0;)
		ret.v[ret.n++] = (pid_t)e->numbers[thread]->at[i];
	return ret;
}

struct set_tid restore_set_tid_session(const struct restore_process *root)
{
	const PidNumbersEntry *e = root->pst->session_numbers;
	struct set_tid ret = { 0 };

	if (e && e->at[0] && !root->pst->sid)
		ret.v[ret.n++] = (pid_t)e->at[0];
	return ret;
}

bool restore_set_tid_less(struct restore_ctx *ctx, struct set_tid *want, int r)
{
	pid_t outer = want->v[want->n - 1];

	if (ctx->opts->keep_outer_pids || want->n < 2 || (r != -EEXIST && r != -EINVAL && r != -EPERM))
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
		return log_fail(r, "pid %d is in use", pid);
	if (r == -EPERM)
		return log_err(r, "cannot choose pid %d (CAP_CHECKPOINT_RESTORE is needed%s)", pid,
			       outer ? ", outside of its PID namespace, too" : "");
	return log_err(r, "cannot create process %d", pid);
}
