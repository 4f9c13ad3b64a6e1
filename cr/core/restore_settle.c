/*
 * Restore, third part: every task exists and has its memory. Descriptors, namespaces, working
 * directory, threads, the parts' state; then what runs by the clock; then the end of remote
 * control.
 */
#include <fcntl.h>
#include <linux/sched.h>
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
#include "ns/cgroup.h"
#include "ns/ns.h"
#include "task/part.h"
#include "task/parts.h"
#include "task/regs.h"

#define THREAD_FLAGS	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
#define TID_TRIES	200u
#define TID_WAIT_NSEC	10000000
#define END_TRIES	10000u	/* of 1 ms */
/* Threads cloned in one batch: few enough for remote->born and the zone's data. */
#define THREADS_A_BATCH	32u

/* A descriptor of the engine in the task, wherever it lands. Run before a user namespace. */
static int fetch_fd(struct restore_ctx *ctx, struct restore_process *p, uint32_t file_id, int *ret)
{
	struct batch *b = &ctx->batch;
	int fd, call, r;

	r = restore_file_get(ctx, file_id, &fd);
	if (r < 0)
		return r;
	batch_begin(b, &p->threads[0].task);
	call = batch_call(b, SYS_pidfd_getfd, ctx->pidfd_t_fd, fd, 0);
	r = batch_run(b);
	*ret = (int)batch_ret(b, call);
	return r;
}

static bool root_is_plain(struct restore_ctx *ctx, const struct restore_process *p)
{
	const struct restore_file *f = restore_file_find(ctx, p->fs->root_id);

	return f && f->fe->reg && !strcmp(f->fe->reg->name, "/");
}

/*
 * Working directory and root, around the change of namespaces: setns() of a mount namespace
 * resets both, and inside a user namespace the engine's descriptors cannot be fetched.
 */
static int settle_fs(struct restore_ctx *ctx, struct restore_process *p)
{
	struct batch *b = &ctx->batch;
	int cwd, root = -1, r;

	r = fetch_fd(ctx, p, p->fs->cwd_id, &cwd);
	if (r >= 0 && !root_is_plain(ctx, p))
		r = fetch_fd(ctx, p, p->fs->root_id, &root);
	if (r < 0)
		return log_err(r, "cannot open its working or root directory");
	batch_begin(b, &p->threads[0].task);
	r = ns_restore_enter_calls(ctx, p, b);
	if (r < 0)
		return r;
	r = batch_make_room(b, 8, 64);
	if (r < 0)
		return r;
	if (root >= 0) {
		batch_call(b, SYS_fchdir, root);
		batch_call(b, SYS_chroot, batch_str(b, "."));
		batch_call(b, SYS_close, root);
	}
	batch_call(b, SYS_fchdir, cwd);
	batch_call(b, SYS_close, cwd);
	return batch_run(b);
}

static int thread_begin(struct restore_ctx *ctx, struct restore_process *p, size_t i)
{
	struct restore_thread *th = &p->threads[i];
	int r = task_get_regs(&th->task);

	if (r < 0 || !ctx->cgroup_state)
		return r;
	return cgroup_restore_thread(ctx, ctx->cgroup_state, th->task.tid, th->core->thread_core->cg_set,
				     p->threads[0].core->thread_core->cg_set);
}

/* Any stack will do: a thread's registers are set before it runs. */
static struct clone_args thread_args(const struct restore_process *p)
{
	return (struct clone_args){
		.flags = THREAD_FLAGS,
		.stack = p->remote->zone + ZONE_BYTES - 2 * PAGE_BYTES,
		.stack_size = PAGE_BYTES,
	};
}

struct newborn {
	size_t thread;
	struct set_tid want;
	int call;
};

/* All of them at once: restore_kill() has to know whom to reap. */
static int threads_adopt(struct restore_ctx *ctx, struct restore_process *p, const struct newborn *v, size_t n)
{
	size_t born = 0, made = 0;

	for (size_t k = 0; k < n; k++) {
		if (batch_ret(&ctx->batch, v[k].call) < 0)
			continue;
		made++;
		if (born < p->remote->n_born)
			task_adopt(&p->threads[v[k].thread].task, p->remote->born[born++], p->remote);
	}
	return born == made ? 0 : log_fail(-EIO, "%zu of %zu threads were made", born, made);
}

/* One batch. Those that are to be tried once more are left in v. */
static int threads_clone(struct restore_ctx *ctx, struct restore_process *p, struct newborn *v, size_t *n)
{
	struct batch *b = &ctx->batch;
	size_t left = 0;
	int r, adopted;

	batch_begin(b, &p->threads[0].task);
	for (size_t k = 0; k < *n; k++) {
		struct clone_args args = thread_args(p);

		args.set_tid = batch_put(b, v[k].want.v, v[k].want.n * sizeof(*v[k].want.v));
		args.set_tid_size = v[k].want.n;
		v[k].call = batch_try(b, SYS_clone3, batch_put(b, &args, sizeof(args)), sizeof(args));
	}
	r = batch_run(b);
	adopted = threads_adopt(ctx, p, v, *n);
	r = r < 0 ? r : adopted;
	for (size_t k = 0; r >= 0 && k < *n; k++) {
		int res = (int)batch_ret(b, v[k].call);

		if (res < 0 && restore_set_tid_less(ctx, &v[k].want, res))
			v[left++] = v[k];
		else
			r = res < 0 ? restore_clone_failed(&v[k].want, res) : thread_begin(ctx, p, v[k].thread);
	}
	*n = left;
	return r;
}

static int threads_create(struct restore_ctx *ctx, struct restore_process *p)
{
	struct newborn v[THREADS_A_BATCH];

	for (size_t i = 1; i < p->n_threads; i += THREADS_A_BATCH) {
		size_t n = MIN(p->n_threads - i, THREADS_A_BATCH);

		for (size_t k = 0; k < n; k++)
			v[k] = (struct newborn){ .thread = i + k, .want = restore_set_tid(p, i + k) };
		while (n) {
			int r = threads_clone(ctx, p, v, &n);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* A thread with the wrong id: ends, and we see it end. */
static int thread_dismiss(struct restore_process *p, pid_t tid)
{
	const uint64_t none[6] = { 0 };
	struct task t;
	int r;

	task_adopt(&t, tid, p->remote);
	r = task_get_regs(&t);
	return r < 0 ? r : task_end(&t, SYS_exit, none);
}

/* Whoever was faster has it until its end. */
static bool number_is_taken(uint32_t pid)
{
	return pid && !kill((pid_t)pid, 0);
}

/*
 * Inside a user namespace no tid can be chosen; outside, the engine can say which comes next: where
 * we are last, for to say it inside takes processes. Another process may be faster, so it is tried again.
 */
static int thread_create_by_last_pid(struct restore_ctx *ctx, struct restore_process *p, size_t i)
{
	bool own = ns_restore_has_pidns(ctx), keep = ctx->opts->keep_outer_pids;
	uint32_t want = restore_pid_inside(p, i), outer = own ? restore_pid_outer(p, i) : want;
	struct batch *b = &ctx->batch;
	int r;

	for (unsigned int try = 0; try < TID_TRIES; try++) {
		struct clone_args args = thread_args(p);
		int call;

		if ((!own || keep) && number_is_taken(outer)) {
			nanosleep(&(struct timespec){ .tv_nsec = TID_WAIT_NSEC }, NULL);
			continue;
		}
		batch_begin(b, &p->threads[0].task);
		call = batch_call(b, SYS_clone3, batch_put(b, &args, sizeof(args)), sizeof(args));
		r = own ? ns_restore_set_last_pid(ctx, want - 1) : 0;
		if (r >= 0 && outer)
			r = ns_last_pid_write(outer - 1);
		if (r < 0)
			return log_err(r, "cannot write /proc/sys/kernel/ns_last_pid");
		r = batch_run(b);
		if (r < 0)
			return r;
		if (p->remote->n_born != 1)
			return log_fail(-EIO, "thread %u was not made", want);
		if (batch_ret(b, call) == want && ((own && !keep) || p->remote->born[0] == (pid_t)outer)) {
			task_adopt(&p->threads[i].task, p->remote->born[0], p->remote);
			return thread_begin(ctx, p, i);
		}
		r = thread_dismiss(p, p->remote->born[0]);
		if (r < 0)
			return r;
	}
	r = outer ? restore_pid_check_free(outer) : 0;
	return r < 0 ? r : log_fail(-EBUSY, "cannot get thread id %u in %u tries: others take pids too fast",
				    want, TID_TRIES);
}

/*
 * Where new ids begin is put back afterwards: others' processes must not get the ids of trees
 * that are still to be restored.
 */
static int settle_threads(struct restore_ctx *ctx, struct restore_process *p)
{
	_cleanup_free_ char *text = NULL;
	uint32_t last;
	int r;

	if (!ns_restore_has_userns(ctx))
		return threads_create(ctx, p);
	if (p->n_threads < 2)
		return 0;
	r = read_file_at(AT_FDCWD, "/proc/sys/kernel/ns_last_pid", 64, &text, NULL);
	if (r >= 0) {
		text[strcspn(text, "\n")] = '\0';
		r = parse_u32(text, 10, &last);
	}
	if (r < 0)
		return log_err(r, "cannot read /proc/sys/kernel/ns_last_pid");
	for (size_t i = 1; r >= 0 && i < p->n_threads; i++)
		r = thread_create_by_last_pid(ctx, p, i);
	if (ns_last_pid_write(last) < 0)
		log_warn("cannot write /proc/sys/kernel/ns_last_pid again");
	return r;
}

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

static int settle_process(struct restore_ctx *ctx, struct restore_process *p)
{
	int r;

	LOG_SCOPE("process %u", p->pst->pid);
	r = p->shares_fds ? 0 : restore_fds_install(ctx, p);
	if (r >= 0)
		r = settle_fs(ctx, p);
	if (r >= 0)
		r = settle_threads(ctx, p);
	for (size_t i = 0; r >= 0 && i < p->n_threads; i++)
		r = parts_restore(ctx, p, i, STAGE_STATE);
	return r;
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

/* When all its threads are there: these cannot be born into another PID namespace. */
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
		r = p->alive ? children_elsewhere(ctx, p) : 0;
		if (r < 0)
			return r;
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
			bad = r < 0 ? log_err(r, "cannot let task %d go", p->threads[k].task.tid) : bad;
		}
	}
	return bad;
}
