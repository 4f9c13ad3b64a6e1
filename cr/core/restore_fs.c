/*
 * Restore: working directory and root of a process, around its change of namespaces; those and the umask of
 * threads that have them for themselves (unshare(CLONE_FS)).
 *
 * setns() of a mount namespace resets both, and inside a user namespace the engine's descriptors cannot be
 * fetched: all are fetched before, the threads' as well, though those are made after it.
 */
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "core/restore_steps.h"
#include "ns/ns.h"

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

static bool root_is_plain(struct restore_ctx *ctx, const FsEntry *fs)
{
	const struct restore_file *f = restore_file_find(ctx, fs->root_id);

	return f && f->fe->reg && !strcmp(f->fe->reg->name, "/");
}

static int threads_fetch(struct restore_ctx *ctx, struct restore_process *p)
{
	int r = 0;

	for (size_t i = 1; r >= 0 && i < p->n_threads; i++) {
		struct restore_thread *th = &p->threads[i];
		const FsEntry *fs = th->core->thread_core->own_fs;

		if (!fs)
			continue;
		th->t_root = -1;
		r = fetch_fd(ctx, p, fs->cwd_id, &th->t_cwd);
		/* It begins with its process's. */
		if (r >= 0 && fs->root_id != p->fs->root_id)
			r = fetch_fd(ctx, p, fs->root_id, &th->t_root);
	}
	return r;
}

static void fs_calls(struct batch *b, int t_cwd, int t_root)
{
	if (t_root >= 0) {
		batch_call(b, SYS_fchdir, t_root);
		batch_call(b, SYS_chroot, batch_str(b, "."));
		batch_call(b, SYS_close, t_root);
	}
	batch_call(b, SYS_fchdir, t_cwd);
	batch_call(b, SYS_close, t_cwd);
}

int restore_fs(struct restore_ctx *ctx, struct restore_process *p)
{
	struct batch *b = &ctx->batch;
	int cwd, root = -1, r;

	r = fetch_fd(ctx, p, p->fs->cwd_id, &cwd);
	if (r >= 0 && !root_is_plain(ctx, p->fs))
		r = fetch_fd(ctx, p, p->fs->root_id, &root);
	if (r >= 0)
		r = threads_fetch(ctx, p);
	if (r < 0)
		return log_err(r, "cannot open its working or root directory");
	batch_begin(b, &p->threads[0].task);
	r = ns_restore_enter_calls(ctx, p, b);
	if (r < 0)
		return r;
	r = batch_make_room(b, 8, 64);
	if (r < 0)
		return r;
	fs_calls(b, cwd, root);
	return batch_run(b);
}

int restore_fs_threads(struct restore_ctx *ctx, struct restore_process *p)
{
	struct batch *b = &ctx->batch;

	for (size_t i = 1; i < p->n_threads; i++) {
		struct restore_thread *th = &p->threads[i];
		const FsEntry *fs = th->core->thread_core->own_fs;
		int r;

		if (!fs)
			continue;
		LOG_SCOPE("thread %d", th->task.tid);
		batch_begin(b, &th->task);
		batch_call(b, SYS_unshare, CLONE_FS);
		fs_calls(b, th->t_cwd, th->t_root);
		batch_call(b, SYS_umask, fs->umask & 0777);
		r = batch_run(b);
		if (r < 0)
			return log_err(r, "cannot give it a working directory of its own");
	}
	return 0;
}
