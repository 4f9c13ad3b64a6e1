/*
 * System V IPC of a tree: whose is an object?
 *
 * The kernel does not say. A segment is the tree's if processes of the tree have it attached, and
 * nobody else has. Semaphores and queues are not attached to anything. They are the tree's if one
 * of its processes was the last to use them, waits in them, or has adjustments (SEM_UNDO). Those
 * whose last user is dead are the tree's if one of its processes has their owner's user id; root's
 * would be everybody's and are left alone. In a namespace of the tree's own everything is its own.
 */
#include <fcntl.h>
#include <string.h>

#include "kernel/stat.h"
#include "ns/ipc_state.h"
#include "ns/ns.h"
#include "task/parts.h"

bool ipc_pid_is_alive(pid_t pid)
{
	struct proc_stat st;

	return pid > 0 && proc_stat_of(pid, &st) >= 0 && !strchr("XZ", st.state);
}

const char *ipc_comm(pid_t pid)
{
	static char comm[20];
	_cleanup_free_ char *text = NULL;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	if (read_file_at(AT_FDCWD, path, sizeof(comm), &text, NULL) < 0)
		return "?";
	snprintf(comm, sizeof(comm), "%.*s", (int)strcspn(text, "\n"), text);
	return comm;
}

bool ipc_all_ours(const struct dump_ctx *ctx)
{
	const TaskKobjIdsEntry *ids = ctx->procs[0]->ids;

	return ids && ids->ipc_ns_id != ctx->root_ids->ipc_ns_id;
}

enum ipc_user ipc_user_of(struct dump_ctx *ctx, pid_t pid)
{
	if (pid > 0 && dump_process_find(ctx, pid))
		return IPC_TREE;
	return ipc_pid_is_alive(pid) ? IPC_OTHER : IPC_NOBODY;
}

static bool thread_waits(const struct dump_thread *th, int id, const uint64_t *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (arch_regs_is_call(&th->task.regs, calls[i], (uint32_t)id))
			return true;
	return false;
}

bool ipc_tree_waits(struct dump_ctx *ctx, int id, const uint64_t *calls, size_t n)
{
	for (size_t i = 0; i < ctx->n_procs; i++)
		for (size_t k = 0; k < ctx->procs[i]->n_threads; k++)
			if (thread_waits(&ctx->procs[i]->threads[k], id, calls, n))
				return true;
	return false;
}

static bool owns(uint32_t uid, const struct ipc_perm *perm)
{
	return uid == perm->uid || uid == perm->cuid;
}

enum ipc_owner ipc_owner_of(struct dump_ctx *ctx, const struct ipc_perm *perm)
{
	bool tied[2] = { false };	/* by root's id, by another's */

	for (size_t i = 0; i < ctx->n_procs; i++) {
		const struct dump_process *p = ctx->procs[i];
		const struct proc_status *st = p->n_threads ? p->threads[0].status : NULL;

		for (size_t k = 0; st && k < 2; k++)	/* real, effective */
			if (owns(st->uid[k], perm))
				tied[st->uid[k] != 0] = true;
	}
	return tied[1] ? IPC_OWNER_TREE : tied[0] ? IPC_OWNER_ROOT : IPC_OWNER_OTHER;
}

bool ipc_goes_with_owner(enum ipc_owner owner, const struct ipc_perm *perm, const char *what, int id)
{
	if (owner == IPC_OWNER_ROOT)
		log_warn("System V %s %d (key 0x%08x) of root: nobody lives who used it last, it is left alone",
			 what, id, (unsigned int)perm->__key);
	return owner == IPC_OWNER_TREE;
}

void ipc_describe(struct dump_ctx *ctx, const struct ipc_perm *perm, int id, IpcDescEntry *d)
{
	d->key = (uint32_t)perm->__key;
	d->uid = dump_uid(ctx, perm->uid);
	d->gid = dump_gid(ctx, perm->gid);
	d->cuid = dump_uid(ctx, perm->cuid);
	d->cgid = dump_gid(ctx, perm->cgid);
	d->mode = perm->mode;
	d->id = (uint32_t)id;
}

static int each(struct dump_ctx *ctx, int (*const *fns)(struct dump_ctx *), size_t n)
{
	int refused = 0;

	for (size_t i = 0; i < n; i++) {
		int r = fns[i](ctx);

		if (r < 0 && r != -EOPNOTSUPP)
			return r;
		refused = r < 0 ? r : refused;
	}
	return refused;
}

int ipc_check(struct dump_ctx *ctx)
{
	static int (*const checks[])(struct dump_ctx *) = { ipc_shm_check, ipc_sem_check, ipc_msg_check };

	return each(ctx, checks, ARRAY_SIZE(checks));
}

int ipc_dump(struct dump_ctx *ctx)
{
	int r = ipc_shm_dump(ctx);

	if (r >= 0)
		r = ipc_sem_dump(ctx);
	return r < 0 ? r : ipc_msg_dump(ctx);
}
