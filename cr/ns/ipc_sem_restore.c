/*
 * System V semaphores made again: semget(2), SETVAL; then semop(2) and SETVAL by the processes that
 * used them last or have adjustments (SEM_UNDO). Whatever had another last user gets the tree's root:
 * it is whose set it is at the next dump.
 *
 * SETVAL forgets all adjustments and semop(2) sets the time of the last operation, whose being
 * zero programs take for "not initialised yet": a set that nobody has operated on sees SETVAL only.
 * On the machine of the dump the set may still be there, changed by the adjustments of those
 * who ended: its values are set again.
 */
#include <string.h>
#include <sys/syscall.h>

#include "image/image.h"
#include "ns/ipc_state.h"
#include "ns/ns.h"

static int set_check(struct restore_ctx *ctx, const IpcSemEntry *e)
{
	int r = ipc_desc_check("sem", e->desc, 0777);

	if (r < 0)
		return r;
	if (!e->nsems || e->nsems > UINT16_MAX || (e->n_pids && e->n_pids != e->nsems))
		return log_fail(-EBADMSG, "ipcns-sem: set %u of %u is malformed", e->desc->id, e->nsems);
	for (size_t i = 0; i < e->n_undo; i++) {
		const IpcSemUndoEntry *u = e->undo[i];

		if (u->num >= e->nsems || u->adj < SEMADJ_MIN || u->adj > SEMVMX ||
		    !u->adj || !ipc_process(ctx, u->pid) || e->by_owner)
			return log_fail(-EBADMSG, "ipcns-sem: set %u: malformed adjustment %d of %u by process %u",
					e->desc->id, u->adj, u->num, u->pid);
	}
	for (const struct rest_set *o = ctx->ipc_sets; o; o = o->next)
		if (o->e->desc->id == e->desc->id)
			return log_fail(-EBADMSG, "ipcns-sem: set %u is there twice", e->desc->id);
	return 0;
}

static int set_values(const struct rest_set *s, int id)
{
	for (uint32_t i = 0; i < s->e->nsems; i++)
		/* One that is zero and that nobody has touched stays so. */
		if ((s->values[i] || semctl(id, (int)i, GETPID) != 0) &&
		    semctl(id, (int)i, SETVAL, (union semctl_arg){ .val = s->values[i] }) < 0)
			return neg_errno();
	return 0;
}

static void set_remove(int id)
{
	semctl(id, 0, IPC_RMID);
}

/* In a child. */
static int set_get(const void *arg)
{
	const struct rest_set *s = arg;
	int id = semget((key_t)s->e->desc->key, (int)s->e->nsems, IPC_CREAT | IPC_EXCL | 0600), r;

	if (id < 0)
		return neg_errno();
	r = set_values(s, id);
	if (r < 0)
		set_remove(id);
	return r < 0 ? r : id;
}

static int set_get_any(void)
{
	return semget(IPC_PRIVATE, 1, 0600);
}

static const struct ipc_maker set_maker = { "sem", set_get, set_get_any, set_remove };

static int set_dress(struct restore_ctx *ctx, const IpcDescEntry *d)
{
	struct semid_ds ds = {
		.sem_perm = { .uid = ns_restore_uid(ctx, d->uid), .gid = ns_restore_gid(ctx, d->gid),
			      .mode = (unsigned short)d->mode },
	};

	if (semctl((int)d->id, 0, IPC_SET, (union semctl_arg){ .buf = &ds }) < 0)
		return log_err(neg_errno(), "cannot set its owner");
	return 0;
}

static int set_take_over(struct restore_ctx *ctx, const struct rest_set *s, const struct semid_ds *ds)
{
	int id = (int)s->e->desc->id, r;

	r = ipc_same_object(ctx, &ds->sem_perm, s->e->desc);
	if (r < 0)
		return r;
	if (ds->sem_nsems != s->e->nsems)
		return log_fail(-EEXIST, "it has %lu semaphores now, not %u", ds->sem_nsems, s->e->nsems);
	for (int i = 0; i < (int)s->e->nsems; i++) {
		r = ipc_unused(semctl(id, i, GETPID), 's', id);
		if (r < 0)
			return r;
		if (semctl(id, i, GETNCNT) > 0 || semctl(id, i, GETZCNT) > 0)
			return log_fail(-EBUSY, "a process waits for number %d", i);
	}
	r = set_values(s, id);
	return r < 0 ? log_err(r, "cannot set its values") : 0;
}

static int set_restore(struct restore_ctx *ctx, struct rest_set *s)
{
	struct semid_ds ds;
	int id = (int)s->e->desc->id, r;

	LOG_SCOPE("System V semaphores %d", id);
	if (semctl(id, 0, IPC_STAT, (union semctl_arg){ .buf = &ds }) >= 0) {
		s->left = s->e->by_owner;
		r = s->left ? ipc_same_object(ctx, &ds.sem_perm, s->e->desc) : set_take_over(ctx, s, &ds);
	} else {
		r = ipc_make(ctx, &set_maker, s->e->desc, s);
		s->made = r >= 0;
	}
	if (r == -EEXIST && s->e->by_owner) {
		s->left = true;
		return ipc_leave_out();
	}
	return r < 0 || s->left ? r : set_dress(ctx, s->e->desc);
}

static int set_load(struct restore_ctx *ctx, struct image_reader *rd, const IpcSemEntry *e)
{
	size_t bytes = e->nsems * sizeof(uint16_t);
	struct rest_set *s;
	const void *raw;
	uint16_t *values;
	int r = set_check(ctx, e);

	if (r < 0)
		return r;
	r = image_get_raw(rd, ROUND_UP(bytes, 8), &raw);
	if (r < 0)
		return r;
	s = ARENA_NEW(&ctx->arena, struct rest_set);
	values = arena_memdup(&ctx->arena, raw, bytes);	/* raw may lie anywhere */
	if (!s || !values)
		return -ENOMEM;
	for (uint32_t i = 0; i < e->nsems; i++)
		if (values[i] > SEMVMX)
			return log_fail(-EBADMSG, "ipcns-sem: set %u: value %u of number %u", e->desc->id,
					values[i], i);
	*s = (struct rest_set){ .next = ctx->ipc_sets, .e = e, .values = values };
	ctx->ipc_sets = s;
	return 0;
}

int ipc_sem_restore(struct restore_ctx *ctx, uint32_t ns_id)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	IpcSemEntry *e;
	int r;

	r = image_open_optional(ctx->store, &image_ipcns_sem, &rd, ns_id);
	if (r < 0)
		return r;
	while ((r = image_get(&rd, &ctx->arena, ipc_sem_entry, &e)) > 0) {
		r = set_load(ctx, &rd, e);
		if (r < 0)
			return r;
	}
	for (struct rest_set *s = ctx->ipc_sets; s && r >= 0; s = s->next)
		r = set_restore(ctx, s);
	return r;
}

static int add_semop(struct batch *b, const struct rest_set *s, uint32_t num, int adj)
{
	struct sembuf ops[SEM_OPS_MAX];
	unsigned int n = sem_ops_adjust(ops, num, s->values[num], adj);
	int r = batch_make_room(b, 1, sizeof(ops));

	if (r >= 0)
		batch_call(b, SYS_semop, s->e->desc->id, batch_put(b, ops, n * sizeof(*ops)), n);
	return r;
}

/* What p would give back when it ends. */
static int add_undo(struct restore_process *p, const struct rest_set *s, struct batch *b)
{
	int r = 0;

	for (size_t i = 0; i < s->e->n_undo && r >= 0; i++)
		if (s->e->undo[i]->pid == p->pst->pid)
			r = add_semop(b, s, s->e->undo[i]->num, s->e->undo[i]->adj);
	return r;
}

/* Who shall be the last to have used number i; NULL: nobody ever has. */
static struct restore_process *last_user(struct restore_ctx *ctx, const struct rest_set *s, uint32_t i)
{
	uint32_t pid = s->e->n_pids ? s->e->pids[i] : 0;
	struct restore_process *p = ipc_process(ctx, pid);

	if (p)
		return p;
	return pid || s->values[i] ? &ctx->procs[0] : NULL;
}

/* What p was the last to change. */
static int add_last(struct restore_process *p, const struct rest_set *s, struct batch *b)
{
	int r = 0;

	for (uint32_t i = 0; i < s->e->nsems && r >= 0; i++) {
		if (s->e->by_owner || last_user(p->ctx, s, i) != p)
			continue;
		if (s->e->operated) {
			r = add_semop(b, s, i, 0);
			continue;
		}
		r = batch_make_room(b, 1, 0);
		if (r >= 0)
			batch_call(b, SYS_semctl, s->e->desc->id, i, SETVAL, s->values[i]);
	}
	return r;
}

static int each_process(struct restore_ctx *ctx,
			int (*add)(struct restore_process *, const struct rest_set *, struct batch *))
{
	int r = 0;

	for (size_t i = 0; i < ctx->n_procs && r >= 0; i++) {
		struct restore_process *p = &ctx->procs[i];

		if (!p->alive)
			continue;
		batch_begin(&ctx->batch, &p->threads[0].task);
		for (const struct rest_set *s = ctx->ipc_sets; s && r >= 0; s = s->next)
			r = add(p, s, &ctx->batch);
		if (r >= 0)
			r = batch_run(&ctx->batch);
	}
	return r < 0 ? log_err(r, "cannot restore who used System V semaphores") : 0;
}

int ipc_sem_restore_users(struct restore_ctx *ctx)
{
	int r;

	if (!ctx->ipc_sets)
		return 0;
	r = each_process(ctx, add_undo);
	/* Afterwards: that made its process the last one. */
	return r < 0 ? r : each_process(ctx, add_last);
}

void ipc_sem_remove(struct restore_ctx *ctx)
{
	for (struct rest_set *s = ctx->ipc_sets; s; s = s->next)
		if (s->made)
			set_remove((int)s->e->desc->id);
}
