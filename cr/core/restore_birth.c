/*
 * Restore: a task is made by another one of the tree, as its child, its sibling, or an orphan; in its maker's
 * PID namespace, in a new one, or in one further down (lineage.h).
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "core/restore_pids.h"
#include "core/restore_steps.h"
#include "kernel/stat.h"
#include "kernel/status.h"
#include "ns/ns.h"

struct remote *restore_remote(struct restore_ctx *ctx)
{
	struct remote *r = ARENA_NEW(&ctx->arena, struct remote);

	if (r)
		*r = (struct remote){ .mem_fd = -EBADF, .zone = ctx->zone, .zone_bytes = ZONE_BYTES,
				      .mirror = ctx->zone_mirror, .shared = true };
	return r;
}

/* A root's parent is another one than it was, and what it expects is SIGCHLD. */
uint32_t restore_exit_signal(const struct restore_process *p)
{
	const TaskCoreEntry *tc = p->core ? p->core->tc : NULL;

	return p->parent && tc && tc->has_exit_signal ? tc->exit_signal : SIGCHLD;
}

struct birth {
	uint64_t flags;
	uint32_t exit_signal;
	struct set_tid want;
	int ns_fds[2];			/* of the PID namespace it is born into, and of its maker's; -EBADF: the same */
};

/* The numbers are needed twice, so they make a round. */
static int fetch_fds(struct restore_ctx *ctx, struct task *maker, const int fds[2], int64_t ret[2])
{
	struct batch *b = &ctx->batch;
	int calls[2], r;

	batch_begin(b, maker);
	for (size_t i = 0; i < 2; i++)
		calls[i] = batch_call(b, SYS_pidfd_getfd, ctx->pidfd_t_fd, fds[i], 0);
	r = batch_run(b);
	for (size_t i = 0; i < 2; i++)
		ret[i] = batch_ret(b, calls[i]);
	return r;
}

/* Who is born is what the maker sees in *ret_pid, or why not: -errno. */
static int clone_call(struct restore_ctx *ctx, struct task *maker, const struct birth *birth, int64_t *ret_pid)
{
	struct clone_args args = {
		.flags = birth->flags,
		/* With CLONE_PARENT the signal is the maker's own. */
		.exit_signal = birth->flags & CLONE_PARENT ? 0 : birth->exit_signal,
		.set_tid_size = birth->want.n,
	};
	bool enters = birth->ns_fds[0] >= 0;
	struct batch *b = &ctx->batch;
	int64_t t_fds[2];
	int call, r = enters ? fetch_fds(ctx, maker, birth->ns_fds, t_fds) : 0;

	if (r < 0)
		return r;
	batch_begin(b, maker);
	if (enters)
		batch_call(b, SYS_setns, t_fds[0], CLONE_NEWPID);
	if (birth->want.n)
		args.set_tid = batch_put(b, birth->want.v, birth->want.n * sizeof(*birth->want.v));
	call = batch_try(b, SYS_clone3, batch_put(b, &args, sizeof(args)), sizeof(args));
	if (enters)
		batch_call(b, SYS_setns, t_fds[1], CLONE_NEWPID);
	for (size_t i = 0; enters && i < 2; i++)
		batch_call(b, SYS_close, t_fds[i]);
	r = batch_run(b);
	*ret_pid = batch_ret(b, call);
	return r;
}

/* A clone made by a task -> stopped, registers read. Its remote is set already if it may become a maker itself. */
static int clone_by(struct restore_ctx *ctx, struct task *maker, struct birth birth, struct remote *remote,
		    struct task *ret, pid_t *ret_pid)
{
	unsigned int tries = 0;
	int64_t pid;
	int r;

	do
		r = clone_call(ctx, maker, &birth, &pid);
	while (r >= 0 && pid < 0 && restore_set_tid_again(ctx, &birth.want, (int)pid, &tries));
	if (r < 0)
		return r;
	if (pid < 0)
		return restore_clone_failed(&birth.want, (int)pid);
	if (maker->remote->n_born != 1)
		return log_fail(-EIO, "process %d: clone3 did not yield it", birth.want.v[0]);
	*ret_pid = (pid_t)pid;
	task_adopt(ret, maker->remote->born[0], remote);
	return task_get_regs(ret);
}

/* The maker's descriptors of PID namespaces, which a newborn has a copy of. */
static int close_copies(struct restore_ctx *ctx, struct task *t, uint64_t flags)
{
	if (flags & CLONE_FILES)
		return 0;
	batch_begin(&ctx->batch, t);
	batch_call(&ctx->batch, SYS_close_range, 0, ctx->pidfd_t_fd - 1, 0);
	batch_call(&ctx->batch, SYS_close_range, ctx->pidfd_t_fd + 1, ~0u, 0);
	return batch_run(&ctx->batch);
}

/* maker: a task in the PID namespace of k's maker. */
static int process_clone(struct restore_ctx *ctx, struct kin *k, struct task *maker, uint64_t flags)
{
	struct birth birth = { flags, restore_exit_signal(k->process), restore_set_tid(k->process, 0),
			       { -EBADF, -EBADF } };
	bool first = k->place.ns && k->place.first;
	struct restore_process *p = k->process;
	pid_t pid;
	int r;

	/* A zombie's parent has been told. With no signal it is waited for by __WCLONE as with any other. */
	if (k->dead && birth.exit_signal != SIGCHLD)
		birth.exit_signal = 0;
	if (first)
		birth.flags |= CLONE_NEWPID;
	if (!first && k->place.ns != k->maker->place.ns) {
		birth.ns_fds[0] = ns_restore_pidns(ctx, k->place.ns);
		birth.ns_fds[1] = ns_restore_pidns(ctx, k->maker->place.ns);
		if (birth.ns_fds[0] < 0 || birth.ns_fds[1] < 0)
			return -EBADMSG;
	}
	r = clone_by(ctx, maker, birth, p->remote, &p->threads[0].task, &pid);
	p->task_made = r >= 0;
	if (r < 0)
		return r;
	p->pid = p->threads[0].task.tid;
	if (birth.ns_fds[0] >= 0)
		return close_copies(ctx, &p->threads[0].task, flags);
	return first ? ns_restore_pidns_made(ctx, p->pid, k->place.ns) : 0;
}

/* Whoever is above the maker gets orphans only if it is a reaper; tasks get their own value later. */
static int reaper_set(struct restore_ctx *ctx, struct kin *heir, bool on)
{
	struct restore_process *p;

	if (!heir)
		return ctx->opts->sibling ? 0 : prctl(PR_SET_CHILD_SUBREAPER, on) < 0 ? neg_errno() : 0;
	p = heir->process;
	batch_begin(&ctx->batch, &p->threads[0].task);
	batch_call(&ctx->batch, SYS_prctl, PR_SET_CHILD_SUBREAPER, on);
	return batch_run(&ctx->batch);
}

static int check_parent(struct restore_ctx *ctx, const struct kin *k)
{
	const struct restore_process *p = k->process, *parent = k->parent ? k->parent->process : NULL;
	pid_t want = parent ? parent->pid : ctx->opts->sibling ? getppid() : getpid();
	struct proc_stat st;
	int r = proc_stat_of(p->pid, &st);

	if (r < 0)
		return log_err(r, "cannot read /proc/%d/stat", p->pid);
	if (st.ppid != want)
		return log_fail(-EINVAL, "it fell to process %d and not to %d, which is no reaper",
				st.ppid, want);
	return 0;
}

/* Has it a number that k is to have? Which one is of which PID namespace does not matter: the next are others. */
static bool is_in_the_way(pid_t tid, const struct kin *k)
{
	const struct set_tid want = restore_set_tid(k->process, 0);
	_cleanup_proc_status_ struct proc_status status = { 0 };
	_cleanup_close_ int fd = -EBADF;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", tid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || proc_status_read(fd, tid, &status) < 0)
		return false;
	for (size_t i = 0; i < status.ns_pid.n; i++)
		for (size_t j = 0; j < want.n; j++)
			if ((pid_t)status.ns_pid.id[i] == want.v[j])
				return true;
	return false;
}

/*
 * The task between: made by the maker, makes the orphan, ends. It takes whatever pid comes; one
 * that is the orphan's own is in the way, then the next one is not.
 */
static int orphan_create(struct restore_ctx *ctx, struct kin *k)
{
	const struct birth any = { .exit_signal = SIGCHLD, .ns_fds = { -EBADF, -EBADF } };
	struct restore_process *maker = k->maker->process;
	const uint64_t none[6] = { 0 };
	struct task between;
	bool again;
	int r;

	r = reaper_set(ctx, k->parent, true);
	do {
		struct remote *remote = restore_remote(ctx);
		pid_t pid;

		if (r >= 0)
			r = remote ? clone_by(ctx, &maker->threads[0].task, any, remote, &between, &pid) : -ENOMEM;
		if (r < 0)
			return r;
		again = is_in_the_way(between.tid, k);
		if (!again)
			r = process_clone(ctx, k, &between, 0);
		if (r >= 0)
			r = task_end(&between, SYS_exit_group, none);
		if (r < 0)
			return r;
		batch_begin(&ctx->batch, &maker->threads[0].task);
		batch_call(&ctx->batch, SYS_wait4, pid, 0, __WALL, 0);
		r = batch_run(&ctx->batch);
	} while (r >= 0 && again);
	if (r >= 0)
		r = check_parent(ctx, k);
	return r < 0 ? r : reaper_set(ctx, k->parent, false);
}

static int child_create(struct restore_ctx *ctx, struct kin *k)
{
	const struct restore_process *p = k->process;
	struct restore_process *maker = k->maker->process;
	/* A helper makes its maker's children: they may share what it shares. */
	bool shares = p->shares_fds || k->helper;
	uint64_t flags = k->maker == k->parent ? 0 : CLONE_PARENT;

	if (shares)
		flags |= CLONE_FILES;
	return process_clone(ctx, k, &maker->threads[0].task, flags);
}

int restore_birth(struct restore_ctx *ctx, struct kin *k)
{
	if (k->maker == k->parent || k->maker->parent == k->parent)
		return child_create(ctx, k);
	return orphan_create(ctx, k);
}
