/* A tree let go: running, stopped, frozen or killed. */
#include <signal.h>
#include <time.h>

#include "core/freezer.h"
#include "core/tree.h"
#include "remote/reaper.h"
#include "task/regs.h"
#include "util/log.h"
#include "util/timer.h"

#define SEIZE_TIMEOUT_USEC	(10ull * 1000000)
/* Those of a running tree end within microseconds, or have executed a program and are others now. */
#define RELEASED_REAP_USEC	1000000ull

uint64_t tree_timeout_usec(const struct dump_ctx *ctx)
{
	return ctx->opts->timeout_usec ? ctx->opts->timeout_usec : SEIZE_TIMEOUT_USEC;
}

static int process_kill(struct dump_process *p)
{
	if (p->life == TASK_DEAD)
		return 0;
	return kill(p->pid, SIGKILL) < 0 && errno != ESRCH ? neg_errno() : 0;
}

/* Those that end: as its tracer we reap its threads; the leader stays for its own parent. How many are left? */
static size_t process_reap(struct dump_process *p)
{
	size_t left = 0;

	for (size_t i = p->n_threads; i-- > 0;)
		left += p->threads[i].task.seized && !task_reap(&p->threads[i].task);
	return left;
}

/*
 * All that have been killed, or end by themselves as they are let go. In any order: the last thread of a PID
 * namespace's first process waits for all others in there to be reaped, wherever they are in the tree; by others, if
 * their parents are outside of that namespace.
 */
static void tree_reap(struct dump_ctx *ctx, bool killed)
{
	uint64_t until = clock_usec(CLOCK_MONOTONIC) + (killed ? REAP_USEC : RELEASED_REAP_USEC);

	for (;;) {
		size_t left = 0;

		/* A main thread that ended before the others is in no list any more. */
		reaper_look(0);
		for (size_t i = ctx->n_procs; i-- > 0;)
			left += process_reap(ctx->procs[i]);
		if (!left)
			return;
		if (clock_usec(CLOCK_MONOTONIC) > until && !killed)
			return;
		if (clock_usec(CLOCK_MONOTONIC) > until) {
			log_warn("%zu of its tasks have been killed and do not end: their parents do not reap them", left);
			return;
		}
		nanosleep(&(struct timespec){ .tv_nsec = REAP_NSEC }, NULL);
	}
}

static int process_release(struct dump_process *p, enum cr_final_state state)
{
	int r = 0, bad = 0;

	remote_close(&p->remote);
	if (state == CR_KILL)
		return process_kill(p);
	if (state == CR_LEAVE_STOPPED && p->n_threads)
		kill(p->pid, SIGSTOP);
	for (size_t i = 0; i < p->n_threads; i++) {
		struct task *t = &p->threads[i].task;

		if (!t->seized)
			continue;
		/* One that has not stopped in time has none of ours, and the kernel lets it go when we end. */
		epoll_end_go_on(t, p->threads[i].sleep_end_nsec);
		r = t->regs_read ? task_put_regs(t) : 0;
		bad = r < 0 && r != -ESRCH ? r : bad;
		r = task_detach(t);
		bad = r < 0 && r != -ESRCH ? r : bad;
		t->seized &= t->regs_read;
	}
	return bad < 0 ? log_err(bad, "cannot let process %d go", p->pid) : 0;
}

int tree_release(struct dump_ctx *ctx, enum cr_final_state state)
{
	const char *cg = ctx->freezer_used ? ctx->opts->freeze_cgroup : NULL;
	bool freeze = cg && (state == CR_LEAVE_FROZEN || (ctx->was_frozen && state != CR_KILL));
	int r, bad = 0;

	/* Zones are unmapped by calls in the tasks, which do not run in a frozen group. */
	for (size_t i = 0; i < ctx->n_procs; i++) {
		struct dump_process *p = ctx->procs[i];

		if (p->n_threads && state != CR_KILL) {
			r = remote_unmap(&p->remote, &p->threads[0].task);
			bad = r < 0 ? r : bad;
		}
	}
	if (cg) {
		r = freezer_set(cg, freeze);
		bad = r < 0 ? log_err(r, "cannot %s %s", freeze ? "freeze" : "thaw", cg) : bad;
	}
	for (size_t i = ctx->n_procs; i-- > 0;) {
		r = process_release(ctx->procs[i], state);
		bad = r < 0 ? r : bad;
	}
	tree_reap(ctx, state == CR_KILL);
	reaper_forget_all();
	if (freeze) {
		r = freezer_wait(cg, 1, tree_timeout_usec(ctx));
		bad = r < 0 ? log_err(r, "%s does not freeze again", cg) : bad;
	}
	for (size_t i = 0; i < ctx->n_procs; i++) {
		close_fdp(&ctx->procs[i]->proc_fd);
		close_fdp(&ctx->procs[i]->pidfd);
	}
	return bad;
}
