/*
 * Restore, second part: the tasks.
 *
 * The engine clones a seed with the root's pid; nearly everything else is cloned by the task that
 * is its parent, after that parent's memory is in place. A new task stands in a ptrace stop
 * before its first instruction and runs nothing but our batches until the end.
 *
 * A session id can only be inherited or made (setsid). Who makes whom, and when, so that all have
 * theirs and their parents, is planned beforehand: lineage.h.
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

#include "core/restore_pids.h"
#include "core/restore_steps.h"
#include "kernel/stat.h"
#include "kernel/status.h"
#include "kind/tty.h"
#include "ns/cgroup.h"
#include "ns/ns.h"
#include "task/mem.h"
#include "task/parts.h"
#include "task/regs.h"

static struct remote *remote_for(struct restore_ctx *ctx)
{
	struct remote *r = ARENA_NEW(&ctx->arena, struct remote);

	if (r)
		*r = (struct remote){ .mem_fd = -EBADF, .zone = ctx->zone,
				      .mirror = ctx->zone_mirror, .shared = true };
	return r;
}

/*
 * The engine's pidfd, at a number above all of the images' and free here: seeds inherit it
 * and nothing else.
 */
static int place_pidfd(struct restore_ctx *ctx)
{
	int fd;

	ctx->pidfd_self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (ctx->pidfd_self < 0)
		return log_err(neg_errno(), "pidfd_open");
	fd = fcntl(ctx->pidfd_self, F_DUPFD_CLOEXEC, MAX(ctx->pidfd_t_fd, 64));
	if (fd < 0)
		return log_err(neg_errno(), "cannot place the engine's pidfd at %d or above",
			       ctx->pidfd_t_fd);
	close(ctx->pidfd_self);
	ctx->pidfd_self = ctx->pidfd_t_fd = fd;
	return 0;
}

int restore_zone(struct restore_ctx *ctx)
{
	struct remote zone;
	int r;

	r = vdso_read_own(&ctx->arena, &ctx->own_vdso);
	if (r < 0)
		return log_err(r, "cannot read the engine's own vDSO");
	/* The kernel's vDSO may have to stay behind the zone. */
	r = mem_find_free(ctx, vdso_own_vvar_bytes(ctx->own_vdso) +
				vdso_bytes(ctx->own_vdso) + PAGE_BYTES, &ctx->zone);
	if (r >= 0)
		r = remote_map_shared(&zone, ctx->zone);
	if (r < 0)
		return log_err(r, "cannot map the call zone at 0x%lx", ctx->zone);
	ctx->zone_mirror = zone.mirror;
	return place_pidfd(ctx);
}

struct birth {
	uint64_t flags;
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
		.exit_signal = birth->flags & CLONE_PARENT ? 0 : SIGCHLD,
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
	int64_t pid;
	int r;

	do
		r = clone_call(ctx, maker, &birth, &pid);
	while (r >= 0 && pid < 0 && restore_set_tid_less(ctx, &birth.want, (int)pid));
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
	struct birth birth = { flags, restore_set_tid(k->process, 0), { -EBADF, -EBADF } };
	bool first = k->place.ns && k->place.first;
	struct restore_process *p = k->process;
	pid_t pid;
	int r;

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

static void kill_and_reap(pid_t tid)
{
	int status;

	kill(tid, SIGKILL);
	while (waitpid(tid, &status, __WALL) < 0 && errno == EINTR)
		;
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
	const struct birth any = { .ns_fds = { -EBADF, -EBADF } };
	struct restore_process *maker = k->maker->process;
	const uint64_t none[6] = { 0 };
	struct task between;
	bool again;
	int r;

	r = reaper_set(ctx, k->parent, true);
	do {
		struct remote *remote = remote_for(ctx);
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
		if (r < 0) {	/* it is in no list that restore_kill() goes by */
			kill_and_reap(between.tid);
			return r;
		}
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

static int move_to_cgroup(struct restore_ctx *ctx, struct restore_process *p)
{
	uint32_t from = 0, to;

	if (!ctx->cgroup_state || !p->alive)
		return 0;
	to = p->threads[0].core->thread_core->cg_set;
	if (p->mem_from)
		from = p->mem_from->threads[0].core->thread_core->cg_set;
	return cgroup_restore_process(ctx, ctx->cgroup_state, p->pid, to, from);
}

static int process_create(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process, *maker = k->maker ? k->maker->process : NULL;

	p->remote = remote_for(ctx);
	if (p->remote && !p->threads) {	/* a helper or zombie to be has no thread state */
		p->threads = ARENA_NEW(&ctx->arena, struct restore_thread);
		p->n_threads = 1;
	}
	if (!p->remote || !p->threads)
		return -ENOMEM;
	if (!maker)
		return restore_seed(ctx, p);
	p->made_early = !ctx->early_done;
	if (!p->made_early)
		p->mem_from = maker->alive ? maker : maker->mem_from;
	if (!kin_may_share_files(k) && p->shares_fds)
		return log_fail(-EOPNOTSUPP, "it shares its descriptors with its parent and cannot be made by it");
	if (k->maker == k->parent || k->maker->parent == k->parent)
		return child_create(ctx, k);
	return orphan_create(ctx, k);
}

/* Whose memory k's begins with, as process_create() will find it. */
static struct restore_process *mem_source(const struct kin *k)
{
	while (k) {
		const struct restore_process *p = k->process;

		if (p->made_early)
			return NULL;
		k = k->maker;
		if (k && ((struct restore_process *)k->process)->alive)
			return k->process;
	}
	return NULL;
}

/* The page images of a process stay open for those whose memory begins with its own. */
static void pages_count_users(const struct lineage *l)
{
	for (size_t i = 0; i < l->n_steps; i++) {
		const struct kin *k = l->steps[i].kin;
		struct restore_process *p = k->process, *from = mem_source(k);

		if (l->steps[i].op == LINEAGE_MAKE && p->alive && from)
			from->n_mem_users++;
	}
}

static void pages_release(struct restore_ctx *ctx, struct restore_process *p)
{
	if (!p->n_mem_users)
		mem_restore_used(ctx, p);
	if (!p->mem_from || --p->mem_from->n_mem_users)
		return;
	mem_restore_used(ctx, p->mem_from);
}

static int process_make(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process;
	int r;

	r = p->task_made ? 0 : process_create(ctx, k);
	if (r < 0 || !p->alive)
		return r;
	r = move_to_cgroup(ctx, p);
	if (r >= 0)
		r = remote_open(p->remote, p->pid);
	if (r >= 0)
		r = mem_restore(ctx, p);
	if (r >= 0)
		pages_release(ctx, p);
	return r;
}

/* A session that has lost its leader has none. */
static int session_terminal(struct restore_ctx *ctx, struct kin *k)
{
	return k->helper || k->dead ? 0 : tty_restore_session(ctx, k->process);
}

static int session_make(struct restore_ctx *ctx, struct kin *k)
{
	struct restore_process *p = k->process;
	int r;

	batch_begin(&ctx->batch, &p->threads[0].task);
	batch_call(&ctx->batch, SYS_setsid);
	r = batch_run(&ctx->batch);
	return r < 0 || !ctx->early_done ? r : session_terminal(ctx, k);
}

/*
 * What has to be there before the mounts: the first process of each PID namespace, so that a proc can show
 * it, and those above them. Still empty.
 */
static size_t count_early(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	size_t n = ns_restore_has_pidns(ctx);

	for (size_t i = 0; i < l->n_steps; i++)
		if (l->steps[i].kin->place.ns && l->steps[i].kin->place.first)
			n = MAX(n, i + 1);
	return n;
}

int restore_first(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	int r = cpus_pin(ctx);

	if (r >= 0)
		r = rlimits_prepare(ctx);
	ctx->n_early = count_early(ctx);
	for (size_t i = 0; r >= 0 && i < ctx->n_early; i++) {
		struct kin *k = l->steps[i].kin;
		struct restore_process *p = k->process;

		LOG_SCOPE("process %u", k->pid);
		r = l->steps[i].op == LINEAGE_MAKE ? process_create(ctx, k) : session_make(ctx, k);
		if (r >= 0 && !i && ns_restore_has_pidns(ctx))
			r = ns_restore_pidns_made(ctx, p->pid, 0);
	}
	ctx->early_done = true;
	return r;
}

int restore_tasks(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;
	int r = 0;

	pages_count_users(l);
	for (size_t i = 0; r >= 0 && i < l->n_steps; i++) {
		struct kin *k = l->steps[i].kin;

		LOG_SCOPE("process %u", k->pid);
		if (l->steps[i].op == LINEAGE_MAKE)
			r = process_make(ctx, k);
		else
			r = i < ctx->n_early ? session_terminal(ctx, k) : session_make(ctx, k);
	}
	return r;
}

/* Is somebody left? */
static bool reap_all(const struct lineage *l)
{
	bool left = false;

	for (size_t i = l->n; i-- > 0;) {
		struct restore_process *p = l->kin[i]->process;

		for (size_t k = p && p->task_made ? p->n_threads : 0; k-- > 0;)
			/* Of those not yet made only the images' numbers are known. */
			if (!k || p->threads[k].task.seized)
				left |= !task_reap(&p->threads[k].task, false);
	}
	return left;
}

void restore_kill(struct restore_ctx *ctx)
{
	const struct lineage *l = &ctx->lineage;

	for (size_t i = l->n; i-- > 0;) {
		struct restore_process *p = l->kin[i]->process;

		if (p && p->task_made)
			kill(p->pid, SIGKILL);
	}
	/* In any order: the end of a PID namespace's first process waits for all others. */
	while (reap_all(l))
		nanosleep(&(struct timespec){ .tv_nsec = REAP_NSEC }, NULL);
}
