/*
 * System V semaphores of a tree → ipcns-sem-N.img.
 *
 *   dump     semctl: SEM_STAT, GETALL, GETPID of each; adjustments (SEM_UNDO): ipc_sem_undo.c
 *
 * The tree's own waiters stand in ptrace stops, out of the kernel's queues: whoever is still
 * counted as waiting is outside. All sets of the namespace are looked at before any task runs our
 * calls, since an adjustment alone can make a set the tree's.
 */
#include <string.h>
#include <sys/syscall.h>

#include "core/pids.h"
#include "image/image.h"
#include "ns/ipc_state.h"

static const uint64_t calls[] = { SYS_semop, SYS_semtimedop };

int ipc_sem_read_values(struct sem_set *s)
{
	return semctl(s->id, 0, GETALL, (union semctl_arg){ .array = s->values }) < 0 ? neg_errno() : 0;
}

/* Who used each last, as the asker's PID namespace knows it. */
static int pids_read(void *arg)
{
	const struct sem_set *s = arg;

	for (unsigned long i = 0; i < s->ds.sem_nsems; i++) {
		int pid = semctl(s->id, (int)i, GETPID);

		if (pid < 0)
			return neg_errno();
		s->pids[i] = (uint32_t)pid;
	}
	return 0;
}

static int set_read(struct dump_ctx *ctx, struct sem_set *s)
{
	unsigned long n = s->ds.sem_nsems;
	int r;

	s->values = arena_alloc(&ctx->arena, n * sizeof(*s->values));
	s->pids = arena_alloc(&ctx->arena, n * sizeof(*s->pids));
	if (!s->values || !s->pids)
		return -ENOMEM;
	r = pids_read(s);
	return r < 0 ? r : ipc_sem_read_values(s);
}

int ipc_find_semaphores(struct dump_ctx *ctx)
{
	struct seminfo info;
	int last = semctl(0, 0, SEM_INFO, (union semctl_arg){ .info = &info });

	for (int i = 0; i <= last && i < IPC_OBJECTS_MAX; i++) {
		struct sem_set *s, found = { 0 };
		int r;

		found.id = semctl(i, 0, SEM_STAT, (union semctl_arg){ .buf = &found.ds });
		if (found.id < 0)
			continue;
		r = set_read(ctx, &found);
		if (r == -EINVAL || r == -EIDRM)
			continue;	/* somebody else's, removed meanwhile */
		if (r < 0)
			return log_err(r, "cannot read System V semaphores %d", found.id);
		s = arena_memdup(&ctx->arena, &found, sizeof(found));
		if (!s)
			return -ENOMEM;
		s->next = ctx->ipc_sets;
		ctx->ipc_sets = s;
	}
	return 0;
}

static bool has_user(struct dump_ctx *ctx, const struct sem_set *s, enum ipc_user user, pid_t *ret)
{
	for (unsigned long i = 0; i < s->ds.sem_nsems; i++)
		if (ipc_user_of(ctx, (pid_t)s->pids[i]) == user) {
			*ret = (pid_t)s->pids[i];
			return true;
		}
	return false;
}

static bool has_waiters(const struct sem_set *s)
{
	for (int i = 0; i < (int)s->ds.sem_nsems; i++)
		if (semctl(s->id, i, GETNCNT) > 0 || semctl(s->id, i, GETZCNT) > 0)
			return true;
	return false;
}

static bool set_is_ours(struct dump_ctx *ctx, struct sem_set *s)
{
	enum ipc_owner owner;
	pid_t pid;

	if (ipc_all_ours(ctx) || s->n_undo || has_user(ctx, s, IPC_TREE, &pid) ||
	    ipc_tree_waits(ctx, s->id, calls, ARRAY_SIZE(calls)))
		return true;
	/* What costs least to know first: these are all sets of the namespace. */
	owner = ipc_owner_of(ctx, &s->ds.sem_perm);
	s->by_owner = owner != IPC_OWNER_OTHER && !has_waiters(s) &&
		      !has_user(ctx, s, IPC_OTHER, &pid) &&
		      ipc_goes_with_owner(owner, &s->ds.sem_perm, "semaphores", s->id);
	return s->by_owner;
}

static int set_check(struct dump_ctx *ctx, const struct sem_set *s)
{
	pid_t pid;

	LOG_SCOPE("System V semaphores %d (key 0x%08x)", s->id, (unsigned int)s->ds.sem_perm.__key);
	if (has_user(ctx, s, IPC_OTHER, &pid))
		return log_obstacle(IPC_REMEDY_OTHERS, "used by process %d (%s), outside the tree, too",
				    pid, ipc_comm(pid));
	if (has_waiters(s))
		return log_obstacle(IPC_REMEDY_OTHERS, "a process outside the tree waits for them");
	if (s->unasked && !s->by_owner)
		return log_obstacle(IPC_REMEDY, "process %d (%s) may not alter them now but may have been able to: nothing shows its adjustments (SEM_UNDO)",
				    s->unasked->pid, s->unasked->comm);
	return 0;
}

int ipc_sem_check(struct dump_ctx *ctx)
{
	struct sem_set **at = &ctx->ipc_sets;
	int refused = 0;

	while (*at) {
		int r;

		if (!set_is_ours(ctx, *at)) {
			*at = (*at)->next;
			continue;
		}
		r = set_check(ctx, *at);
		refused = r < 0 ? r : refused;
		at = &(*at)->next;
	}
	return refused;
}

static int set_describe_undo(struct dump_ctx *ctx, const struct sem_set *s, IpcSemEntry *e)
{
	e->undo = arena_alloc(&ctx->arena, s->n_undo * sizeof(*e->undo));
	if (!e->undo)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_undo; i++) {
		IpcSemUndoEntry *u = ARENA_MSG(&ctx->arena, IpcSemUndoEntry, ipc_sem_undo_entry);

		if (!u)
			return -ENOMEM;
		u->pid = s->undo[i].pid;
		u->num = s->undo[i].num;
		u->adj = s->undo[i].adj;
		e->undo[e->n_undo++] = u;
	}
	return 0;
}

static int set_dump(struct dump_ctx *ctx, struct sem_set *s, struct image_writer *w)
{
	static const char pad[8];
	size_t bytes = s->ds.sem_nsems * sizeof(*s->values);
	IpcSemEntry e = IPC_SEM_ENTRY__INIT;
	IpcDescEntry d = IPC_DESC_ENTRY__INIT;
	int r;

	ipc_describe(ctx, &s->ds.sem_perm, s->id, &d);
	e.desc = &d;
	e.nsems = (uint32_t)s->ds.sem_nsems;
	e.has_operated = true;
	e.operated = s->ds.sem_otime;
	e.has_by_owner = e.by_owner = s->by_owner;
	e.pids = s->pids;
	e.n_pids = e.nsems;
	r = dump_ask_inside(ctx, pids_read, s);
	if (r >= 0)
		r = set_describe_undo(ctx, s, &e);
	if (r >= 0)
		r = image_put(w, &e.base);
	if (r >= 0)
		r = image_put_raw(w, s->values, bytes);
	if (r >= 0 && bytes % 8)
		r = image_put_raw(w, pad, 8 - bytes % 8);
	return r < 0 ? log_err(r, "cannot write System V semaphores %d", s->id) : 0;
}

int ipc_sem_dump(struct dump_ctx *ctx)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r;

	if (!ctx->ipc_sets)
		return 0;
	r = image_create(ctx->store, &image_ipcns_sem, &w, ctx->procs[0]->ids->ipc_ns_id);
	for (struct sem_set *s = ctx->ipc_sets; s && r >= 0; s = s->next)
		r = set_dump(ctx, s, w);
	return r < 0 ? r : image_close(take_ptr(w));
}
