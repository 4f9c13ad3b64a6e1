/*
 * A restore, as a table of steps. Nothing of the tree runs before the last one; a failure
 * before it leaves nothing behind.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "core/files.h"
#include "core/restore_steps.h"
#include "kernel/stat.h"
#include "kind/tty.h"
#include "ns/cgroup.h"
#include "ns/ipc.h"
#include "ns/ns.h"
#include "task/mem.h"
#include "task/parts.h"
#include "util/timer.h"

#define ENDS_MSEC	50u

static pid_t root_pid(const struct restore_ctx *ctx)
{
	return ctx->n_procs && ctx->procs[0].task_made ? ctx->procs[0].threads[0].task.tid : -1;
}

static int notify(struct restore_ctx *ctx, const char *event)
{
	if (!ctx->opts->notify)
		return 0;
	return ctx->opts->notify(ctx->opts->notify_arg, event, root_pid(ctx));
}

static int step_pre_restore(struct restore_ctx *ctx)
{
	return notify(ctx, "pre-restore");
}

static int step_processor(struct restore_ctx *ctx)
{
	return ctx->opts->cpu_caps & CR_CPU_IMAGE ? cr_cpuinfo_check(ctx->store, ctx->opts->cpu_caps) : 0;
}

static int step_cgroups(struct restore_ctx *ctx)
{
	return ctx->opts->no_cgroups ? 0 : cgroup_restore_prepare(ctx, &ctx->cgroup_state);
}

static int step_tasks(struct restore_ctx *ctx)
{
	uint64_t begin = clock_usec(CLOCK_MONOTONIC);
	int r = restore_tasks(ctx);

	ctx->stats.forking_usec = clock_usec(CLOCK_MONOTONIC) - begin;
	return r;
}

/*
 * The root task is in the tree's network and IPC namespaces, and these are as they were; the others it
 * enters when it gets its files. Now an interface can be given to it, before the first socket wants its
 * address.
 */
static int step_setup_namespaces(struct restore_ctx *ctx)
{
	return ns_restore_any(ctx) ? notify(ctx, "setup-namespaces") : 0;
}

static int step_post_setup(struct restore_ctx *ctx)
{
	return ns_restore_any(ctx) ? notify(ctx, "post-setup-namespaces") : 0;
}

static int step_post_restore(struct restore_ctx *ctx)
{
	return notify(ctx, "post-restore");
}

static int step_network_unlock(struct restore_ctx *ctx)
{
	return notify(ctx, "network-unlock");
}

/* Too late to refuse anything. */
static int step_pre_resume(struct restore_ctx *ctx)
{
	if (notify(ctx, "pre-resume") < 0)
		log_warn("pre-resume failed; the tree runs nevertheless");
	return 0;
}

static int step_post_resume(struct restore_ctx *ctx)
{
	if (notify(ctx, "post-resume") < 0)
		log_warn("post-resume failed; the tree runs");
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct restore_ctx *ctx);
	/* The engine sits in the tree's own ipc and net namespaces. Never when others are notified. */
	bool inside;
} steps[] = {
	{ "pre-restore",	step_pre_restore,	false },
	{ "processor",		step_processor,		false },
	{ "images",		restore_load,		false },
	{ "file images",	restore_files_load,	false },
	/* Files of the unit's group (memory.pressure) are mounted into its namespace. */
	{ "control groups",	step_cgroups,		false },
	/* From here on our children are born into the tree's time namespace. */
	{ "namespaces",		ns_restore_prepare,	false },
	/* A kernel that was just booted has none, before its sysctls are set. */
	{ "huge pages",		restore_huge_pages,	false },
	{ "System V IPC",	ipc_restore,		true },
	{ "call zone",		restore_zone,		true },
	{ "first process",	restore_first,		true },
	/* After it: /proc inside shows its PID namespace. */
	{ "mounts",		ns_restore_mounts,	true },
	{ "terminals",		tty_restore_pairs,	true },
	{ "terminals' mounts",	ns_restore_terminals,	true },
	{ "tasks and memory",	step_tasks,		true },
	{ "setup-namespaces",	step_setup_namespaces,	false },
	/* setpgid() wants the leader to exist, and both in one session. Helpers end with it. */
	{ "process groups",	restore_groups,		true },
	{ "jobs",		tty_restore_jobs,	true },
	/* As their last users; what a process would give back (SEM_UNDO), before threads share it. */
	{ "System V IPC, users", ipc_restore_users,	true },
	{ "files and state",	restore_settle,		true },
	{ "post-setup-namespaces", step_post_setup,	false },
	{ "orphan-pts-master",	tty_restore_orphans,	false },
	{ "stopped processes",	restore_stopped,	true },
	{ "post-restore",	step_post_restore,	false },
	/* Clocks tick and privileges go from here on. */
	{ "late state",		restore_late,		true },
	{ "System V IPC, last",	ipc_restore_late,	true },
	/* Nothing of the tree's is opened or made after this; and what fails does so before the unlock. */
	{ "watches",		restore_files_watch,	true },
	{ "network unlock",	step_network_unlock,	false },
	{ "files, last",	restore_files_finish,	true },
	{ "terminals, last",	tty_restore_last,	true },
	{ "pre-resume",		step_pre_resume,	false },
	{ "registers",		restore_registers,	true },
	{ "release",		restore_release,	true },
	{ "post-resume",	step_post_resume,	false },
};

static int run_inside(struct restore_ctx *ctx, int (*run)(struct restore_ctx *ctx))
{
	int r = ns_restore_enter(ctx), left;

	if (r < 0)
		return r;
	r = run(ctx);
	left = ns_restore_leave(ctx);
	return r < 0 ? r : left;
}

static pid_t who_ended(const struct restore_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		const struct restore_process *p = &ctx->procs[i];
		struct proc_stat st;

		if (!p->task_made || !p->alive || p->main_ended)
			continue;
		if (proc_stat_of(p->pid, &st) < 0 || proc_stat_is_ending(&st))
			return p->pid;
	}
	return 0;
}

/* What a call for a process that is gone fails with says little. One that is killed may be on its way yet. */
static int failed(const struct restore_ctx *ctx, int r, const char *step)
{
	pid_t pid = who_ended(ctx);

	for (unsigned int ms = 0; !pid && r == -ESRCH && ms < ENDS_MSEC; ms++) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		pid = who_ended(ctx);
	}
	if (!pid)
		return log_err(r, "restore failed (%s)", step);
	return log_fail(r, "restore failed (%s): process %d has ended, killed from outside or by the kernel, for want of memory perhaps (see dmesg)",
			step, pid);
}

static int restore_run(struct restore_ctx *ctx)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		int r;

		log_debug("step: %s", steps[i].name);
		r = steps[i].inside ? run_inside(ctx, steps[i].run) : steps[i].run(ctx);
		if (r < 0)
			return failed(ctx, r, steps[i].name);
	}
	return 0;
}

static int wait_for_root(pid_t root)
{
	int status;

	while (waitpid(root, &status, 0) < 0)
		if (errno != EINTR)
			return log_err(neg_errno(), "cannot wait for process %d", root);
	return 0;
}

static void restore_done(struct restore_ctx *ctx)
{
	if (ctx->zone_mirror)
		munmap(ctx->zone_mirror, ZONE_BYTES);
	for (size_t i = 0; i < ctx->n_procs; i++) {
		mem_restore_done(&ctx->procs[i]);
		if (ctx->procs[i].remote)
			close_fdp(&ctx->procs[i].remote->mem_fd);
	}
	close_fdp(&ctx->pidfd_self);
	ipc_restore_done(ctx, ctx->failed);
	restore_files_done(ctx);
	restore_huge_pages_end(ctx, ctx->failed);
	cgroup_restore_done(ctx->cgroup_state, ctx->failed);
	ns_restore_done(ctx);
	lineage_done(&ctx->lineage);
	map_done(&ctx->procs_by_pid);
	map_done(&ctx->files_by_id);
	arena_done(&ctx->arena);
}

int cr_restore(const struct cr_opts *opts, pid_t *ret_root, struct cr_stats *ret_stats)
{
	struct restore_ctx *ctx = calloc(1, sizeof(*ctx));
	uint64_t begin = clock_usec(CLOCK_MONOTONIC);
	pid_t root = -1;
	int r;

	if (!ctx)
		return -ENOMEM;
	arena_init(&ctx->arena);
	lineage_init(&ctx->lineage, &ctx->arena);
	ctx->opts = opts;
	ctx->store = opts->store;
	ctx->pidfd_self = -EBADF;
	r = restore_run(ctx);
	cpus_unpin(ctx);
	ctx->failed = r < 0;
	if (ctx->failed)
		restore_kill(ctx);
	else
		root = ctx->procs[0].pid;
	ctx->stats.restore_usec = clock_usec(CLOCK_MONOTONIC) - begin;
	if (ret_stats)
		*ret_stats = ctx->stats;
	if (ret_root)
		*ret_root = root;
	restore_done(ctx);
	free(ctx);
	if (r >= 0 && !opts->detached)
		r = wait_for_root(root);
	return r;
}
