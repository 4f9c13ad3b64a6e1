/*
 * Restore, third part: every task exists and has its memory. Descriptors, namespaces, working
 * directories, threads, the parts' state; then what runs by the clock; then the end of remote
 * control.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "core/files.h"
#include "core/restore_pids.h"
#include "core/restore_steps.h"
#include "kernel/stat.h"
#include "ns/ns.h"
#include "task/part.h"
#include "task/parts.h"
#include "task/regs.h"
#include "util/timer.h"

#define END_TRIES	10000u	/* of 1 ms */

static int parts_restore(struct restore_ctx *ctx, struct restore_process *p, size_t i,
			 enum part_stage stage)
{
	struct restore_thread *th = &p->threads[i];
	int r;

	LOG_SCOPE("thread %d", th->task.tid);
	batch_begin(&ctx->batch, &th->task);
	/* Not earlier: a child that shares the table has fetched its directories by now. */
	if (stage == STAGE_LATE && !i && !p->shares_fds)
		batch_call(&ctx->batch, SYS_close, ctx->pidfd_t_fd);
	for (size_t k = 0; task_parts[k]; k++) {
		const struct task_part *part = task_parts[k];

		if (part->stage != stage || !part->restore_calls || !part_is_for_leader(part, !i))
			continue;
		r = batch_make_room(&ctx->batch, 256, 64u << 10);
		if (r >= 0)
			r = part->restore_calls(ctx, p, th, &ctx->batch);
		if (r < 0)
			return log_err(r, "%s", part->name);
	}
	return batch_run(&ctx->batch);
}

/*
 * When all its threads are there: these cannot be born into another PID namespace. And before the late state
 * of others: who shares its descriptors closes the one that others are fetched by.
 */
static int children_elsewhere(struct restore_ctx *ctx, struct restore_process *p)
{
	struct batch *b = &ctx->batch;
	int fd, get, r;

	if (!p->pst->has_pid_ns_for_children)
		return 0;
	fd = ns_restore_pidns(ctx, p->pst->pid_ns_for_children);
	if (fd < 0)
		return fd;
	batch_begin(b, &p->threads[0].task);
	get = batch_call(b, SYS_pidfd_getfd, ctx->pidfd_t_fd, fd, 0);
	r = batch_run(b);
	if (r < 0)
		return r;
	fd = (int)batch_ret(b, get);
	batch_begin(b, &p->threads[0].task);
	batch_call(b, SYS_setns, fd, CLONE_NEWPID);
	batch_call(b, SYS_close, fd);
	return batch_run(b);
}

static int settle_process(struct restore_ctx *ctx, struct restore_process *p)
{
	int r;

	LOG_SCOPE("process %u", p->pst->pid);
	r = p->shares_fds ? 0 : restore_fds_install(ctx, p);
	if (r >= 0)
		r = restore_fs(ctx, p);
	if (r >= 0)
		r = restore_threads(ctx, p);
	if (r >= 0)
		r = restore_fs_threads(ctx, p);
	for (size_t i = 0; r >= 0 && i < p->n_threads; i++)
		r = parts_restore(ctx, p, i, STAGE_STATE);
	return r < 0 ? r : children_elsewhere(ctx, p);
}

/*
 * A zombie comes back by dying again with its status; its parent has not run yet, and the SIGCHLD
 * is flushed with the parent's signal handlers. There is no second core dump.
 */
static int zombie_end(struct restore_ctx *ctx, struct restore_process *p)
{
	uint32_t status = p->core->tc->exit_code;
	struct task *t = &p->threads[0].task;
	uint64_t arg[6] = { status >> 8 & 0xff };
	struct batch *b = &ctx->batch;
	int r;

	LOG_SCOPE("process %u", p->pst->pid);
	if (WCOREDUMP(status))
		log_warn("its parent will not be told that it left a core file");
	batch_begin(b, t);
	batch_call(b, SYS_close_range, 0, ~0u, 0);
	batch_call(b, SYS_prctl, PR_SET_NAME, batch_str(b, p->core->tc->comm));
	batch_call(b, SYS_prctl, PR_SET_DUMPABLE, 0);
	r = batch_run(b);
	if (r < 0)
		return r;
	if (WIFEXITED(status))
		return task_end(t, SYS_exit_group, arg);
	arg[0] = restore_pid_inside(p, 0);
	arg[1] = (uint64_t)WTERMSIG(status);
	return task_end(t, SYS_kill, arg);
}

int restore_settle(struct restore_ctx *ctx)
{
	int r = restore_files_begin(ctx);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ctx->n_procs; i++) {
		struct restore_process *p = &ctx->procs[i];

		r = p->alive ? settle_process(ctx, p) : zombie_end(ctx, p);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * A main thread that had ended ends again when the process's state is complete: before filters
 * come that may not let it, and before children have parent-death signals, which would be sent
 * now. Its tracer would have to stay: it is let go.
 */
static int main_thread_end(struct restore_process *p)
{
	const uint64_t arg[6] = { p->core->tc->exit_code >> 8 & 0xff };
	struct proc_stat st;
	int r;

	r = task_leave(&p->threads[0].task, SYS_exit, arg);
	for (unsigned int i = 0; r >= 0; i++) {
		r = proc_stat_of(p->pid, &st);
		if (r >= 0 && st.state == 'Z')
			return 0;
		if (i == END_TRIES)
			r = -ETIMEDOUT;
		nanosleep(&(struct timespec){ .tv_nsec = i < 100 ? 1000 : 1000000 }, NULL);
	}
	return log_err(r, "cannot end its main thread");
}

int restore_late(struct restore_ctx *ctx)
{
	int r;

	for (size_t i = 0; i < ctx->n_procs; i++) {
		struct restore_process *p = &ctx->procs[i];

		LOG_SCOPE("process %u", p->pst->pid);
		for (size_t k = 0; p->alive && k < p->n_threads; k++) {
			r = parts_restore(ctx, p, k, STAGE_LATE);
			if (r >= 0 && !k && p->main_ended)
				r = main_thread_end(p);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int zone_unmap(struct restore_process *p)
{
	struct task *leader = &p->threads[p->main_ended].task;
	struct kernel_sigaction sa;
	int64_t res;
	int r;

	if (sigactions_trap_ignored(p->core, &sa)) {
		const uint64_t arg[6] = { SIGTRAP, p->remote->zone + ZONE_DATA_OFF, 0, 8 };

		memcpy(p->remote->mirror + ZONE_DATA_OFF, &sa, sizeof(sa));
		r = task_syscall(leader, &res, SYS_rt_sigaction, arg);
		if (r < 0 || res < 0)
			return log_err(r < 0 ? r : (int)res, "cannot ignore SIGTRAP again");
	}
	r = task_syscall(leader, &res, SYS_munmap,
			 (const uint64_t[6]){ p->remote->zone, ZONE_BYTES });
	if (r < 0 || res < 0)
		return log_err(r < 0 ? r : (int)res, "cannot unmap the call zone");
	return 0;
}

int restore_registers(struct restore_ctx *ctx)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++) {
		struct restore_process *p = &ctx->procs[i];

		LOG_SCOPE("process %u", p->pst->pid);
		if (!p->alive)
			continue;
		for (size_t k = p->main_ended; r >= 0 && k < p->n_threads; k++)
			r = timeout_restore(ctx, &p->threads[k]);
		if (r >= 0)
			r = zone_unmap(p);
		for (size_t k = p->main_ended; r >= 0 && k < p->n_threads; k++) {
			const CoreEntry *core = p->threads[k].core;
			uint64_t mask = k ? core->thread_core->blk_sigset : core->tc->blk_sigset;

			for (size_t q = 0; r >= 0 && task_parts[q]; q++)
				if (task_parts[q]->finish && part_is_for_leader(task_parts[q], !k))
					r = task_parts[q]->finish(ctx, p, &p->threads[k]);
			if (r >= 0)
				r = regs_restore(&p->threads[k], mask);
		}
	}
	return r;
}

/*
 * What lives already may execute a program, or end: its siblings that we still trace are killed then, and whoever
 * executes waits for us to reap them. The root is left to those who want to know its exit status.
 */
static size_t reap_ended(struct restore_ctx *ctx)
{
	size_t left = 0;

	for (size_t i = ctx->n_procs; i-- > 0;) {
		struct restore_process *p = &ctx->procs[i];

		for (size_t k = p->alive ? p->n_threads : 0; k-- > 0;)
			left += (i || k) && p->threads[k].task.seized && !task_reap(&p->threads[k].task);
	}
	return left;
}

static void reap_all_ended(struct restore_ctx *ctx)
{
	const uint64_t until = clock_usec(CLOCK_MONOTONIC) + REAP_USEC;
	size_t left;

	while ((left = reap_ended(ctx))) {
		if (clock_usec(CLOCK_MONOTONIC) > until) {
			log_warn("%zu tasks that have ended as they were let go cannot be reaped", left);
			return;
		}
		nanosleep(&(struct timespec){ .tv_nsec = REAP_NSEC }, NULL);
	}
}

int restore_release(struct restore_ctx *ctx)
{
	int bad = 0;

	for (size_t i = ctx->n_procs; i-- > 0;) {
		struct restore_process *p = &ctx->procs[i];
		int r;

		if (!p->alive)
			continue;
		if (ctx->opts->leave_stopped)
			kill(p->pid, SIGSTOP);
		for (size_t k = p->n_threads; k-- > 0;) {
			r = task_detach(&p->threads[k].task);
			if (r == -ESRCH)
				log_debug("task %d has ended as it was let go", p->threads[k].task.tid);
			else if (r < 0)
				bad = log_err(r, "cannot let task %d go", p->threads[k].task.tid);
		}
	}
	reap_all_ended(ctx);
	return bad;
}
