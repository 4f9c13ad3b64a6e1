/*
 * Restore: the threads of a process, with their ids in all PID namespaces. In a user namespace of its own
 * nobody can choose one.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "core/restore_pids.h"
#include "core/restore_steps.h"
#include "ns/cgroup.h"
#include "ns/ns.h"

#define THREAD_FLAGS	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
#define TID_TRIES	200u
#define TID_WAIT_NSEC	10000000
/* Threads cloned in one batch: few enough for remote->born and the zone's data. */
#define THREADS_A_BATCH	32u

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
	unsigned int tries;
};

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

		if (res < 0 && restore_set_tid_again(ctx, &v[k].want, res, &v[k].tries))
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
int restore_threads(struct restore_ctx *ctx, struct restore_process *p)
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
