/*
 * One process into its images: core, mm, pagemap, ids, fs, fdinfo.
 *
 * Order within a process: what reading from outside would lose once the task has run our
 * calls comes first (interrupted calls, critical sections, the vDSO), then one batch a
 * thread, then the zone is gone again and everything else is read from outside.
 */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/dump_process.h"
#include "core/files.h"
#include "kind/kinds.h"
#include "ns/ipc.h"
#include "ns/ns.h"
#include "task/mem.h"
#include "task/mem_track.h"
#include "task/part.h"
#include "task/parts.h"
#include "task/regs.h"
#include "task/vma.h"

static const struct vma *vma_named(const struct dump_process *p, const char *name)
{
	for (size_t i = 0; i < p->n_vmas; i++)
		if (!strcmp(p->vmas[i].path, name))
			return &p->vmas[i];
	return NULL;
}

/*
 * Looking for obstacles goes on after one of them: one run names all. Only behind what does no
 * harm unread; a thread that cannot be settled, for one, must not run our calls.
 */
static int noted(struct dump_ctx *ctx, int *refused, int r)
{
	if (r != -EOPNOTSUPP || !ctx->opts->log_obstacles_only)
		return r;
	*refused = r;
	return 0;
}

/* Registers as the images shall have them, and as the task goes on if it does. vdso: its process's, or NULL. */
static int thread_settle(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th, const struct vma *vdso)
{
	const struct proc_status *status;
	int r;

	LOG_SCOPE("thread %d", th->task.tid);
	r = regs_are_64_bit(th);
	if (r >= 0)
		r = dispatch_dump(ctx, th);
	if (r >= 0)
		r = timeout_dump(ctx, th);
	if (r < 0)
		return r;
	/* Before anything runs in it: see task_status(). */
	r = task_status(ctx, p, th, &status);
	if (r < 0)
		return r;
	r = restart_hide_interrupt(th);
	if (r < 0)
		return log_err(r, "cannot look at its system call");
	r = epoll_end_dump(ctx, th);
	if (r < 0)
		return log_err(r, "cannot say when its system call ends");
	r = rseq_leave_critical_section(&th->task, NULL);
	if (r < 0)
		return log_err(r, "cannot leave its restartable sequence");
	if (vdso) {
		r = vdso_step_out(th, vdso->start, vdso->end);
		if (r < 0)
			return log_err(r, "cannot step out of the vDSO");
	}
	return regs_dump(ctx, th);
}

static int parts_dump_outside(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	bool leader = th == &p->threads[0];
	int r, refused = 0;

	for (size_t i = 0; task_parts[i]; i++) {
		if (!task_parts[i]->dump || !part_is_for_leader(task_parts[i], leader))
			continue;
		r = noted(ctx, &refused, task_parts[i]->dump(ctx, p, th));
		if (r < 0)
			return r;
	}
	return refused;
}

/* A thread's turn to run our calls, in the whole zone or one of its lanes. */
struct turn {
	struct remote lane;
	struct batch batch;
	struct dump_thread *th;		/* NULL: nobody's */
	void *cookies[64];
	int brk;
};

static void turn_over(struct dump_process *p, struct turn *t)
{
	t->th->task.remote = &p->remote;
	t->th = NULL;
}

static int turn_calls(struct dump_ctx *ctx, struct dump_process *p, struct turn *t)
{
	struct dump_thread *th = t->th;
	bool leader = th == &p->threads[0];
	int r;

	if (leader)
		t->brk = batch_call(&t->batch, SYS_brk, 0);
	for (size_t i = 0; task_parts[i]; i++) {
		if (!task_parts[i]->dump_calls || !part_is_for_leader(task_parts[i], leader))
			continue;
		r = task_parts[i]->dump_calls(ctx, p, th, &t->batch, &t->cookies[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int turn_begin(struct dump_ctx *ctx, struct dump_process *p, struct turn *t, struct dump_thread *th)
{
	int r;

	LOG_SCOPE("thread %d", th->task.tid);
	t->th = th;
	th->task.remote = &t->lane;
	memset(t->cookies, 0, sizeof(t->cookies));
	batch_begin(&t->batch, &th->task);
	r = turn_calls(ctx, p, t);
	if (r >= 0)
		r = batch_start(&t->batch);
	if (r < 0)
		turn_over(p, t);
	return r;
}

static int turn_results(struct dump_ctx *ctx, struct dump_process *p, struct turn *t)
{
	bool leader = t->th == &p->threads[0];
	int r, refused = 0;

	if (leader)
		p->mm->mm_brk = (uint64_t)batch_ret(&t->batch, t->brk);
	for (size_t i = 0; task_parts[i]; i++) {
		if (!task_parts[i]->dump_results || !part_is_for_leader(task_parts[i], leader))
			continue;
		r = noted(ctx, &refused, task_parts[i]->dump_results(ctx, p, t->th, &t->batch, t->cookies[i]));
		if (r < 0)
			return r;
	}
	return refused;
}

/* Whatever has failed before (so_far, which is returned then): the task runs until this. */
static int turn_end(struct dump_ctx *ctx, struct dump_process *p, struct turn *t, int so_far)
{
	int r;

	if (!t->th)
		return so_far;
	LOG_SCOPE("thread %d", t->th->task.tid);
	r = batch_finish(&t->batch);
	if (so_far >= 0 && r >= 0)
		r = turn_results(ctx, p, t);
	turn_over(p, t);
	return so_far < 0 ? so_far : r;
}

/* While one runs its calls, the next one's are put together. */
static int threads_take_turns(struct dump_ctx *ctx, struct dump_process *p)
{
	static struct turn turns[REMOTE_LANES];
	unsigned int n = 0;
	int r, refused = 0;

	/* The main thread may have more calls than a lane has room for. */
	turns[0].lane = p->remote;
	r = noted(ctx, &refused, turn_begin(ctx, p, &turns[0], &p->threads[0]));
	r = noted(ctx, &refused, turn_end(ctx, p, &turns[0], r));
	while (n < REMOTE_LANES && remote_lane(&p->remote, n, &turns[n].lane))
		n++;
	for (size_t i = 1; i < p->n_threads + n; i++) {
		struct turn *t = &turns[i % n];

		r = noted(ctx, &refused, turn_end(ctx, p, t, r));
		if (r >= 0 && i < p->n_threads)
			r = noted(ctx, &refused, turn_begin(ctx, p, t, &p->threads[i]));
	}
	return r < 0 ? r : refused;
}

/* All that needs the task to run our calls. */
static int process_dump_inside(struct dump_ctx *ctx, struct dump_process *p)
{
	struct task *leader = &p->threads[0].task;
	const struct vma *vdso = vma_named(p, "[vdso]");
	int r, refused = 0;

	if (!vdso)
		return log_obstacle("do not choose the service", "it has no vDSO mapped");
	p->remote.caught = p->threads[0].status->sig_cgt;
	r = remote_map_private(&p->remote, leader, vdso->start, vdso->end);
	if (r >= 0)
		r = noted(ctx, &refused, threads_take_turns(ctx, p));
	if (r >= 0)
		r = ipc_undo_read(ctx, p);
	if (r >= 0)
		r = mempolicy_dump_areas(ctx, p);
	if (r >= 0 && ctx->opts->track_mem)
		r = mem_track_prepare(ctx, p);
	if (r >= 0)
		r = noted(ctx, &refused, uring_settle(ctx, p));
	if (r < 0)
		return r;
	r = remote_unmap(&p->remote, leader);
	return r < 0 ? log_err(r, "cannot take the call zone away") : refused;
}

static void exit_signal_dump(const struct dump_process *p, TaskCoreEntry *tc)
{
	tc->has_exit_signal = p->exit_signal != SIGCHLD;
	tc->exit_signal = (uint32_t)p->exit_signal;
}

static int process_dump_state(struct dump_ctx *ctx, struct dump_process *p)
{
	const struct vma *vdso = vma_named(p, "[vdso]");
	TaskCoreEntry *tc;
	int r, refused = 0;

	if (!part_mm(ctx, p))
		return -ENOMEM;
	for (size_t i = 0; i < p->n_threads; i++) {
		r = thread_settle(ctx, p, &p->threads[i], vdso);
		if (r < 0)
			return r;
		p->threads[i].core->thread_core = part_thread_core(ctx, &p->threads[i]);
	}
	tc = part_tc(ctx, &p->threads[0]);
	if (!tc)
		return -ENOMEM;
	tc->task_state = p->life;
	tc->blk_sigset = p->threads[0].task.sigmask;
	exit_signal_dump(p, tc);
	if (p->life == TASK_STOPPED) {
		tc->has_stop_signo = true;
		tc->stop_signo = (uint32_t)p->threads[0].task.group_stop_signal;
		tc->has_stop_waited = true;
		tc->stop_waited = !p->exit_code;
	}
	for (size_t i = 0; i < p->n_threads; i++) {
		struct dump_thread *th = &p->threads[i];

		th->core->thread_core->has_blk_sigset = true;
		th->core->thread_core->blk_sigset = th->task.sigmask;
		r = noted(ctx, &refused, parts_dump_outside(ctx, p, th));
		if (r < 0)
			return r;
	}
	r = process_dump_inside(ctx, p);
	return r < 0 ? r : refused;
}

/* vm, files, fs, sighand: unique numbers, except a descriptor table shared with the parent. */
static int process_ids(struct dump_ctx *ctx, struct dump_process *p)
{
	TaskKobjIdsEntry *ids = p->ids;
	int r, refused;

	/* 1 is the dumper. */
	ids->vm_id = ids->fs_id = ids->sighand_id = ids->files_id = p->number + 1;
	refused = process_check_shares(ctx, p);
	r = refused < 0 && refused != -EOPNOTSUPP ? 0 : threads_check_shares(ctx, p);
	return r < 0 ? r : refused;
}

/* Below the process's directory in /proc. */
static int fs_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th, const char *cwd_link,
		   const char *root_link, FsEntry *fs)
{
	const struct proc_status *status;
	struct dump_file *cwd, *root;
	int r;

	r = dump_file_get_link(ctx, p, cwd_link, 0, &cwd);
	if (r >= 0)
		r = dump_file_get_link(ctx, p, root_link, 0, &root);
	if (r >= 0)
		r = task_status(ctx, p, th, &status);
	if (r < 0)
		return r;
	if (!status->has_umask)
		return log_fail(-ENODATA, "no umask in its status");
	fs->cwd_id = cwd->id;
	fs->root_id = root->id;
	fs->has_umask = true;
	fs->umask = status->umask;
	return 0;
}

static int threads_dump_fs(struct dump_ctx *ctx, struct dump_process *p)
{
	for (size_t i = 1; i < p->n_threads; i++) {
		struct dump_thread *th = &p->threads[i];
		ThreadCoreEntry *tc;
		char cwd[32], root[32];
		int r;

		if (!th->own_fs)
			continue;
		tc = part_thread_core(ctx, th);
		if (tc)
			tc->own_fs = ARENA_MSG(&ctx->arena, FsEntry, fs_entry);
		if (!tc || !tc->own_fs)
			return -ENOMEM;
		snprintf(cwd, sizeof(cwd), "task/%d/cwd", th->task.tid);
		snprintf(root, sizeof(root), "task/%d/root", th->task.tid);
		r = fs_dump(ctx, p, th, cwd, root, tc->own_fs);
		if (r < 0)
			return r;
	}
	return 0;
}

static int process_dump_fs(struct dump_ctx *ctx, struct dump_process *p)
{
	FsEntry fs = FS_ENTRY__INIT;
	int r;

	r = fs_dump(ctx, p, &p->threads[0], "cwd", "root", &fs);
	if (r >= 0)
		r = threads_dump_fs(ctx, p);
	if (r < 0 || ctx->opts->log_obstacles_only)
		return r;
	return image_write_one(ctx->store, &image_fs, &fs.base, p->pid_virtual);
}

static int dump_zombie(struct dump_ctx *ctx, struct dump_process *p)
{
	TaskCoreEntry tc = TASK_CORE_ENTRY__INIT;
	CoreEntry core = CORE_ENTRY__INIT;

	tc.task_state = TASK_DEAD;
	tc.exit_code = p->exit_code;
	exit_signal_dump(p, &tc);
	tc.comm = p->comm;
	core.mtype = CORE_ENTRY__MARCH__X86_64;
	core.tc = &tc;
	if (ctx->opts->log_obstacles_only)
		return 0;
	return image_write_one(ctx->store, &image_core, &core.base, p->pid_virtual);
}

int dump_process_collect(struct dump_ctx *ctx, struct dump_process *p)
{
	int r;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	r = ns_dump_ids(ctx, p);
	return r < 0 || p->life == TASK_DEAD ? r : process_ids(ctx, p);
}

int dump_process_track(struct dump_ctx *ctx, struct dump_process *p)
{
	struct task *leader = &p->threads[0].task;
	const struct vma *vdso;
	int r;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	if (p->life == TASK_DEAD)
		return 0;
	r = remote_open(&p->remote, p->threads[0].task.tid);
	if (r >= 0)
		r = vma_read(ctx, p);
	vdso = r < 0 ? NULL : vma_named(p, "[vdso]");
	for (size_t i = 0; i < p->n_threads && r >= 0; i++)
		r = thread_settle(ctx, p, &p->threads[i], vdso);
	if (r < 0 || mem_track_how(ctx, p) != TRACK_NOT)
		return r;
	if (!vdso)
		return log_obstacle("do not choose the service", "it has no vDSO mapped");
	p->remote.caught = p->threads[0].status->sig_cgt;
	r = remote_map_private(&p->remote, leader, vdso->start, vdso->end);
	if (r >= 0)
		r = mem_track_prepare(ctx, p);
	if (r < 0)
		return r;
	r = remote_unmap(&p->remote, leader);
	return r < 0 ? log_err(r, "cannot take the call zone away") : 0;
}

int dump_process_state(struct dump_ctx *ctx, struct dump_process *p)
{
	int r, refused = 0;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	if (p->life == TASK_DEAD)
		return dump_zombie(ctx, p);
	r = remote_open(&p->remote, p->threads[0].task.tid);
	if (r >= 0)
		r = noted(ctx, &refused, vma_read(ctx, p));
	if (r >= 0)
		r = noted(ctx, &refused, process_dump_state(ctx, p));
	if (r >= 0)
		r = noted(ctx, &refused, mm_dump(ctx, p));
	if (r >= 0)
		r = noted(ctx, &refused, dump_fds(ctx, p));
	if (r >= 0)
		r = process_dump_fs(ctx, p);
	/* Trees may be large, and limits of open files low. With the zone in place it is still needed. */
	if (!p->remote.zone && !p->remote.stub) {
		remote_close(&p->remote);
		close_fdp(&p->pidfd);
		p->pidfd = -EBADF;
	}
	return r < 0 ? r : refused;
}

int dump_process_memory(struct dump_ctx *ctx, struct dump_process *p)
{
	int r;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	if (p->life == TASK_DEAD)
		return 0;
	/* A pre-dump has it open since before the tree went on; whose the id is now nobody knows. */
	r = p->remote.mem_fd < 0 ? remote_open(&p->remote, p->threads[0].task.tid) : 0;
	if (r >= 0)
		r = mem_dump(ctx, p);
	remote_close(&p->remote);
	return r;
}

/*
 * Of a main thread that has ended: the process's state, which another one has spoken for, and
 * registers that lead nowhere, for readers that do not know better.
 */
static int write_ended_main(struct dump_ctx *ctx, struct dump_process *p)
{
	CoreEntry *speaker = p->threads[0].core, core = *speaker;
	ThreadCoreEntry *tc = ARENA_MSG(&ctx->arena, ThreadCoreEntry, thread_core_entry);
	ThreadInfoX86 *ti = ARENA_MSG(&ctx->arena, ThreadInfoX86, thread_info_x86);

	if (!tc || !ti)
		return -ENOMEM;
	ti->fpregs = speaker->thread_info->fpregs;
	ti->gpregs = ARENA_MSG(&ctx->arena, UserX86RegsEntry, user_x86_regs_entry);
	if (!ti->gpregs)
		return -ENOMEM;
	ti->gpregs->cs = speaker->thread_info->gpregs->cs;
	ti->gpregs->ss = speaker->thread_info->gpregs->ss;
	tc->has_cg_set = speaker->thread_core->has_cg_set;
	tc->cg_set = speaker->thread_core->cg_set;
	core.thread_core = tc;
	core.thread_info = ti;
	core.tc->comm = p->comm;
	core.tc->exit_code = p->exit_code;
	core.tc->has_main_ended = core.tc->main_ended = true;
	speaker->tc = NULL;
	return image_write_one(ctx->store, &image_core, &core.base, p->pid_virtual);
}

int dump_process_write(struct dump_ctx *ctx, struct dump_process *p)
{
	int r;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	if (p->life == TASK_DEAD)
		return 0;
	r = image_write_one(ctx->store, &image_ids, &p->ids->base, p->pid_virtual);
	if (r >= 0)
		r = image_write_one(ctx->store, &image_mm, &p->mm->base, p->pid_virtual);
	if (r >= 0 && p->main_ended)
		r = write_ended_main(ctx, p);
	for (size_t i = 0; r >= 0 && i < p->n_threads; i++)
		r = image_write_one(ctx->store, &image_core, &p->threads[i].core->base,
				    p->threads[i].tid_virtual);
	return r < 0 ? log_err(r, "cannot write its images") : 0;
}
