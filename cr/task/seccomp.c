/*
 * seccomp on dump: each thread's chain of filters into the one seccomp.img.
 *
 * PTRACE_SECCOMP_GET_FILTER index 0 is the oldest filter (whatever the man page says); it needs
 * CAP_SYS_ADMIN, CONFIG_CHECKPOINT_RESTORE and a tracer without filters of its own.
 *
 * In the image a chain goes from the oldest filter by `prev` to the next newer one. An equal
 * rest of a chain is stored once: chains are added newest first and looked up by content.
 *
 * When all threads of a process have the same chain it is kept with the leader only and marked
 * TSYNC, as CRIU does: restored so, the threads share the filters again and a later TSYNC by
 * the program still works.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/ptrace.h>

#include "task/parts.h"

#define NO_FILTER	UINT32_MAX
#define CHAIN_MAX	32768u	/* MAX_INSNS_PER_PATH: no chain can be longer */

struct chain_link {
	const void *insns;
	size_t bytes;
	uint32_t flags;
};

struct chain {
	struct chain_link *links;	/* oldest first */
	size_t n;
};

struct seccomp_table {
	struct arena *arena;
	SeccompEntry *entry;
	struct map by_content;		/* hash → index + 1 of the first; the next by chain[] */
	uint32_t *next_same_hash;
	size_t n_next;
};

static uint64_t link_hash(const struct chain_link *l, uint32_t next)
{
	uint64_t h = hash_bytes(HASH_BEGIN, l->insns, l->bytes);

	h = hash_bytes(h, &l->flags, sizeof(l->flags));
	return hash_bytes(h, &next, sizeof(next));
}

static bool link_equals(const SeccompFilter *f, const struct chain_link *l, uint32_t next)
{
	return f->filter.len == l->bytes && !memcmp(f->filter.data, l->insns, l->bytes) &&
	       f->flags == l->flags && (f->has_prev ? f->prev : NO_FILTER) == next;
}

static int table_append(struct seccomp_table *t, const struct chain_link *l, uint32_t next,
			uint64_t hash, uint32_t *ret)
{
	SeccompFilter *f = ARENA_MSG(t->arena, SeccompFilter, seccomp_filter);
	SeccompFilter **slot;
	uintptr_t first;
	uint32_t *same;

	if (!f)
		return -ENOMEM;
	f->filter.data = (uint8_t *)l->insns;
	f->filter.len = l->bytes;
	f->has_flags = true;
	f->flags = l->flags;
	f->has_prev = next != NO_FILTER;
	f->prev = f->has_prev ? next : 0;
	slot = ARENA_PUSH(t->arena, t->entry->seccomp_filters, t->entry->n_seccomp_filters);
	same = ARENA_PUSH(t->arena, t->next_same_hash, t->n_next);
	if (!slot || !same)
		return -ENOMEM;
	*slot = f;
	first = (uintptr_t)map_get(&t->by_content, hash);
	*same = first ? (uint32_t)first - 1 : NO_FILTER;
	*ret = (uint32_t)t->entry->n_seccomp_filters - 1;
	return map_put(&t->by_content, hash, (void *)((uintptr_t)*ret + 1));
}

/* The index of a filter that is followed by `next`. */
static int table_add(struct seccomp_table *t, const struct chain_link *l, uint32_t next,
		     uint32_t *ret)
{
	uint64_t hash = link_hash(l, next);
	uintptr_t first = (uintptr_t)map_get(&t->by_content, hash);
	uint32_t i = first ? (uint32_t)first - 1 : NO_FILTER;

	for (; i != NO_FILTER; i = t->next_same_hash[i]) {
		if (link_equals(t->entry->seccomp_filters[i], l, next)) {
			*ret = i;
			return 0;
		}
	}
	return table_append(t, l, next, hash, ret);
}

static int chain_read_one(struct arena *a, pid_t tid, size_t index, struct chain_link *l)
{
	struct sock_filter insns[BPF_MAXINSNS];
	struct __ptrace_seccomp_metadata md = { .filter_off = index };
	long n = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, index, insns);

	if (n < 0)
		return neg_errno();
	if (ptrace(PTRACE_SECCOMP_GET_METADATA, tid, sizeof(md), &md) < 0)
		return neg_errno();
	l->bytes = (size_t)n * sizeof(*insns);
	l->insns = arena_memdup(a, insns, l->bytes);
	l->flags = (uint32_t)md.flags;
	return l->insns ? 0 : -ENOMEM;
}

static int chain_read(struct arena *a, pid_t tid, struct chain *ret)
{
	*ret = (struct chain){ 0 };
	while (ret->n < CHAIN_MAX) {
		struct chain_link one, *slot;
		int r;

		r = chain_read_one(a, tid, ret->n, &one);
		if (r == -ENOENT)
			return 0;
		if (r == -EACCES)
			return log_err(r, "cannot read the seccomp filters of thread %d: this "
				       "takes CAP_SYS_ADMIN, and no filter on the engine itself",
				       tid);
		if (r == -EMEDIUMTYPE || r == -EINVAL)
			return log_obstacle("use a kernel with CONFIG_CHECKPOINT_RESTORE",
					    "thread %d: its seccomp filters cannot be read", tid);
		if (r < 0)
			return log_err(r, "cannot read seccomp filter %zu of thread %d", ret->n,
				       tid);
		slot = ARENA_PUSH(a, ret->links, ret->n);
		if (!slot)
			return -ENOMEM;
		*slot = one;
	}
	return log_fail(-E2BIG, "thread %d has more seccomp filters than Linux allows", tid);
}

static int chain_add(struct seccomp_table *t, const struct chain *c, uint32_t extra_flags,
		     uint32_t *ret)
{
	uint32_t next = NO_FILTER;

	for (size_t i = c->n; i-- > 0;) {
		struct chain_link l = c->links[i];
		int r;

		l.flags |= extra_flags;
		r = table_add(t, &l, next, &next);
		if (r < 0)
			return r;
	}
	*ret = next;
	return 0;
}

static bool chains_equal(const struct chain *a, const struct chain *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->links[i].bytes != b->links[i].bytes ||
		    a->links[i].flags != b->links[i].flags ||
		    memcmp(a->links[i].insns, b->links[i].insns, a->links[i].bytes))
			return false;
	return true;
}

static int thread_set(struct dump_ctx *ctx, struct seccomp_table *t, struct dump_thread *th,
		      uint32_t mode, const struct chain *c, uint32_t extra_flags)
{
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	uint32_t first;
	int r;

	if (!tc)
		return -ENOMEM;
	if (mode > SECCOMP_MODE_FILTER)
		return log_obstacle("use a newer engine", "thread %d: unknown seccomp mode %u",
				    th->task.tid, mode);
	tc->has_seccomp_mode = true;
	tc->seccomp_mode = (SeccompMode)mode;
	if (mode != SECCOMP_MODE_FILTER)
		return 0;
	r = chain_add(t, c, extra_flags, &first);
	if (r < 0)
		return r;
	if (first == NO_FILTER)
		return log_fail(-EIO, "thread %d: no seccomp filter in filter mode", th->task.tid);
	tc->has_seccomp_filter = true;
	tc->seccomp_filter = first;
	return 0;
}

static int process_dump(struct dump_ctx *ctx, struct seccomp_table *t, struct dump_process *p)
{
	struct chain *chains = arena_alloc(&ctx->arena, p->n_threads * sizeof(*chains));
	bool any = false, same = p->n_threads > 1;
	const struct proc_status *st;
	int r;

	if (!chains)
		return -ENOMEM;
	for (size_t i = 0; i < p->n_threads; i++) {
		r = task_status(ctx, p, &p->threads[i], &st);
		if (r < 0)
			return r;
		any |= st->seccomp != SECCOMP_MODE_DISABLED;
		same &= st->seccomp == SECCOMP_MODE_FILTER;
		if (st->seccomp != SECCOMP_MODE_FILTER)
			continue;
		r = chain_read(&ctx->arena, p->threads[i].task.tid, &chains[i]);
		if (r < 0)
			return r;
		same &= chains_equal(&chains[0], &chains[i]);
	}
	if (!any)
		return 0;
	if (same)
		return thread_set(ctx, t, &p->threads[0], SECCOMP_MODE_FILTER, &chains[0],
				  SECCOMP_FILTER_FLAG_TSYNC);
	for (size_t i = 0; i < p->n_threads; i++) {
		uint32_t mode = p->threads[i].status->seccomp;

		if (!mode)
			continue;
		r = thread_set(ctx, t, &p->threads[i], mode, &chains[i], 0);
		if (r < 0)
			return r;
	}
	return 0;
}

int seccomp_dump(struct dump_ctx *ctx)
{
	struct seccomp_table t = { .arena = &ctx->arena };
	int r = 0;

	t.entry = ARENA_MSG(&ctx->arena, SeccompEntry, seccomp_entry);
	if (!t.entry)
		return -ENOMEM;
	for (size_t i = 0; i < ctx->n_procs && r >= 0; i++)
		if (ctx->procs[i]->life != TASK_DEAD)
			r = process_dump(ctx, &t, ctx->procs[i]);
	map_done(&t.by_content);
	if (r < 0)
		return r;
	/* `cr check` only wanted the obstacles. */
	if (ctx->opts->log_obstacles_only)
		return 0;
	return image_write_one(ctx->store, &image_seccomp, &t.entry->base);
}
