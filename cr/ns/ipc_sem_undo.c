/*
 * What the kernel gives back to semaphores when a process ends (semop(2), SEM_UNDO).
 *
 *   dump     semop(2) in each process, with operations that cannot succeed
 *   restore  semop(2) in each process, with operations that leave the value as it is
 *
 * No interface shows these adjustments. But the kernel checks their range before anything else
 * of an operation takes effect: raising a semaphore with SEM_UNDO fails with ERANGE where
 * the adjustment would leave -32,768 to 32,767. An array that ends in an operation which would
 * have to wait fails with EAGAIN instead. Either way all of it is taken back under the set's
 * lock: nobody sees it, neither value nor time nor last pid change. Two such questions tell that
 * the number is zero; sixteen more find it.
 *
 * A process that never used SEM_UNDO has no list of adjustments, as the engine has none: kcmp(2)
 * says that they are equal.
 */
#include <string.h>
#include <sys/syscall.h>

#include "ns/ipc_state.h"

#define KCMP_SYSVSEM	6
/* The least t that adj fails at is adj + this. */
#define ADJ_TO_T	32769
/* Semaphores asked about in one batch. */
#define SEMS_A_BATCH	1024u
#define TRIES		100

static struct sembuf op(uint32_t num, int by, int flags)
{
	return (struct sembuf){ (unsigned short)num, (short)by, (short)(flags | IPC_NOWAIT) };
}

unsigned int sem_ops_probe(struct sembuf *ops, uint32_t num, int value, unsigned int t)
{
	unsigned int n = 0;

	if (value)
		ops[n++] = op(num, -value, 0);
	while (t) {
		int by = (int)MIN(t, (unsigned int)SEMVMX);

		ops[n++] = op(num, by, SEM_UNDO);
		ops[n++] = op(num, -by, 0);
		t -= (unsigned int)by;
	}
	/* Waits for zero, and it is not: whatever the value really was. */
	ops[n++] = op(num, 1, 0);
	ops[n++] = op(num, 0, 0);
	return n;
}

unsigned int sem_ops_adjust(struct sembuf *ops, uint32_t num, int value, int adj)
{
	unsigned int n = 0;

	if (value)
		ops[n++] = op(num, -value, 0);
	if (!adj) {
		ops[n++] = op(num, 1, 0);
		ops[n++] = op(num, -1, 0);
	}
	while (adj) {
		int by = MAX(MIN(adj, SEMVMX), -SEMVMX);

		/* Up first: a value cannot be below zero. */
		ops[n++] = op(num, abs(by), by > 0 ? 0 : SEM_UNDO);
		ops[n++] = op(num, -abs(by), by > 0 ? SEM_UNDO : 0);
		adj -= by;
	}
	if (value)
		ops[n++] = op(num, value, 0);
	return n;
}

static int add_probe(struct batch *b, const struct sem_set *s, uint32_t num, unsigned int t)
{
	struct sembuf ops[SEM_OPS_MAX];
	unsigned int n = sem_ops_probe(ops, num, s->values[num], t);

	return batch_try(b, SYS_semop, s->id, batch_put(b, ops, n * sizeof(*ops)), n);
}

/* *ret_failed: the adjustment is too low for t. */
static int probe_result(const struct batch *b, int call, bool *ret_failed)
{
	int64_t ret = batch_ret(b, call);

	*ret_failed = ret == -ERANGE;
	return ret == -ERANGE || ret == -EAGAIN ? 0 : ret < 0 ? (int)ret : -EIO;
}

static int search(struct task *t, const struct sem_set *s, uint32_t num, int *ret_adj)
{
	static struct batch b;
	unsigned int lo = 1, hi = ADJ_TO_T + SEMVMX;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;
		bool failed;
		int call, r;

		batch_begin(&b, t);
		call = add_probe(&b, s, num, mid);
		r = batch_run(&b);
		if (r >= 0)
			r = probe_result(&b, call, &failed);
		if (r < 0)
			return r;
		if (failed)
			hi = mid;
		else
			lo = mid + 1;
	}
	*ret_adj = (int)lo - ADJ_TO_T;
	return 0;
}

/* Semaphores num.. of the set: those with an adjustment are marked in nonzero. */
static int find_nonzero(struct task *t, const struct sem_set *s, uint32_t num, uint32_t n, bool *nonzero)
{
	static struct batch b;
	int r;

	batch_begin(&b, t);
	for (uint32_t i = 0; i < n; i++) {
		add_probe(&b, s, num + i, ADJ_TO_T - 1);
		add_probe(&b, s, num + i, ADJ_TO_T);
	}
	r = batch_run(&b);
	for (uint32_t i = 0; i < n && r >= 0; i++) {
		bool below, not_above;

		r = probe_result(&b, (int)(2 * i), &below);
		if (r >= 0)
			r = probe_result(&b, (int)(2 * i + 1), &not_above);
		nonzero[i] = r >= 0 && (below || !not_above);
	}
	return r;
}

static int read_chunk(struct dump_ctx *ctx, const struct dump_process *p, struct task *t, struct sem_set *s, uint32_t num,
		      uint32_t n)
{
	bool nonzero[SEMS_A_BATCH];
	int r = find_nonzero(t, s, num, n, nonzero);

	for (uint32_t i = 0; i < n && r >= 0; i++) {
		struct sem_undo *u;

		if (!nonzero[i])
			continue;
		u = ARENA_PUSH(&ctx->arena, s->undo, s->n_undo);
		if (!u)
			return -ENOMEM;
		*u = (struct sem_undo){ .pid = p->pid_virtual, .num = num + i };
		r = search(t, s, u->num, &u->adj);
	}
	return r;
}

/* The adjustments that t and those who share its list have of one set. */
static int read_set_once(struct dump_ctx *ctx, const struct dump_process *p, struct task *t, struct sem_set *s)
{
	int r = 0;

	for (uint32_t num = 0; num < s->ds.sem_nsems && r >= 0; num += SEMS_A_BATCH)
		r = read_chunk(ctx, p, t, s, num,
			       MIN((uint32_t)s->ds.sem_nsems - num, SEMS_A_BATCH));
	return r;
}

/* The answers hold if the values did not change meanwhile: others may use a set that is not ours. */
static int read_set(struct dump_ctx *ctx, struct dump_process *p, struct task *t, struct sem_set *s)
{
	size_t bytes = s->ds.sem_nsems * sizeof(*s->values), before = s->n_undo;
	uint16_t *asked = arena_alloc(&ctx->arena, bytes);
	int r;

	if (!asked)
		return -ENOMEM;
	for (unsigned int i = 0; i < TRIES; i++) {
		memcpy(asked, s->values, bytes);
		r = read_set_once(ctx, p, t, s);
		if (r == -EACCES)
			s->unasked = p;
		if (r >= 0)
			r = ipc_sem_read_values(s);
		if (r == -EACCES || r == -EINVAL || r == -EIDRM)
			return 0;	/* not altered by it, or gone */
		if (r < 0)
			return log_err(r, "cannot ask for its adjustments of System V semaphores %d",
				       s->id);
		if (!memcmp(asked, s->values, bytes))
			return 0;
		s->n_undo = before;
	}
	return log_obstacle("try again when they are less busy", "System V semaphores %d change all the time: cannot tell what it would give back to them (SEM_UNDO)",
			    s->id);
}

static size_t n_undo(const struct dump_ctx *ctx)
{
	size_t n = 0;

	for (const struct sem_set *s = ctx->ipc_sets; s; s = s->next)
		n += s->n_undo;
	return n;
}

static int read_sets(struct dump_ctx *ctx, struct dump_process *p, struct task *t)
{
	int r = 0;

	/*
	 * Not where nobody has operated yet: there are no adjustments, and having asked for one
	 * makes the task's end set the time of the last operation.
	 */
	for (struct sem_set *s = ctx->ipc_sets; s && r >= 0; s = s->next)
		if (s->ds.sem_otime)
			r = read_set(ctx, p, t, s);
	return r;
}

static bool shares_list(pid_t a, pid_t b)
{
	return syscall(SYS_kcmp, a, b, KCMP_SYSVSEM, 0, 0) == 0;
}

/* Threads share one list if they were made as pthread_create(3) makes them. */
static int read_thread(struct dump_ctx *ctx, struct dump_process *p, struct task *t)
{
	size_t before = n_undo(ctx);
	int r = read_sets(ctx, p, t);

	if (r >= 0 && n_undo(ctx) != before)
		return log_obstacle(IPC_REMEDY, "thread %d has adjustments of semaphores (SEM_UNDO) of its own",
				    t->tid);
	return r;
}

/* Lists are shared by processes only if clone(2) was asked for that (CLONE_SYSVSEM). */
static int check_sharing(struct dump_ctx *ctx, const struct dump_process *p)
{
	for (size_t i = 0; i < ctx->n_procs && ctx->procs[i] != p; i++)
		if (ctx->procs[i]->n_threads && shares_list(p->pid, ctx->procs[i]->pid))
			return log_obstacle(IPC_REMEDY, "it shares its adjustments of semaphores (SEM_UNDO) with process %d",
					    ctx->procs[i]->pid);
	if (p->undo_with)
		return log_obstacle(IPC_REMEDY, "it shares its adjustments of semaphores (SEM_UNDO) with process %d outside of the tree",
				    p->undo_with);
	return 0;
}

int ipc_undo_read(struct dump_ctx *ctx, struct dump_process *p)
{
	struct task *leader = &p->threads[0].task;
	size_t before = n_undo(ctx);
	int r = 0;

	if (!ctx->ipc_sets)
		return 0;
	/* Those first: asking gives a task a list. */
	for (size_t i = 1; i < p->n_threads && r >= 0; i++) {
		struct task *t = &p->threads[i].task;

		if (!shares_list(leader->tid, t->tid) && !shares_list(getpid(), t->tid))
			r = read_thread(ctx, p, t);
	}
	if (r < 0 || shares_list(getpid(), leader->tid))
		return r;
	r = read_sets(ctx, p, leader);
	return r < 0 || n_undo(ctx) == before ? r : check_sharing(ctx, p);
}
