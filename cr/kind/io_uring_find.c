/*
 * What rings refer to by the kernel's addresses, found in the tree: descriptors by their struct file
 * or its private data, threads by their task_struct. Each list is read once: a program may have a ring
 * for each of its threads, and thousands of descriptors.
 */
#include "kind/io_uring.h"

struct fd_list {
	const struct dump_process *of;
	struct map by_addr;		/* fd + 1 */
};

struct uring_dump {
	struct fd_list files, private_data;
	struct map threads;		/* struct uring_thread */
	bool threads_read;
};

/* In the slot of the eventfds, which have no state; our type's number is beyond the last. */
static struct uring_dump *state(struct dump_ctx *ctx)
{
	void **slot = &ctx->kind_state[FD_TYPES__EVENTFD];

	if (!*slot)
		*slot = ARENA_NEW(&ctx->arena, struct uring_dump);
	return *slot;
}

static int fds_read(struct peek *pk, struct dump_process *p, bool by_private, struct map *ret)
{
	uint64_t table, n, at;
	int r = peek_files(pk, p->pid, &table, &n);

	for (size_t i = 0; i < p->n_fds && r >= 0; i++) {
		uint64_t t_fd = (uint64_t)p->fds[i].t_fd;

		if (t_fd >= n)
			continue;
		r = peek_word(pk, table + t_fd * 8, &at);
		if (r >= 0 && at && by_private)
			r = peek_member(pk, at, "file", "private_data", 8, &at);
		if (r >= 0 && at)
			r = map_put(ret, at, (void *)(uintptr_t)(t_fd + 1));
	}
	return r;
}

int uring_find_fd(struct dump_ctx *ctx, struct peek *pk, struct dump_process *p, uint64_t addr,
		  bool by_private, int *ret)
{
	struct uring_dump *s = state(ctx);
	struct fd_list *l;
	int r = s ? 0 : -ENOMEM;

	if (r < 0)
		return log_err(r, "io_uring");
	l = by_private ? &s->private_data : &s->files;
	if (l->of != p) {
		map_done(&l->by_addr);
		l->of = NULL;
		r = fds_read(pk, p, by_private, &l->by_addr);
		if (r < 0)
			return log_err(r, "io_uring: cannot find its registered files");
		l->of = p;
	}
	*ret = (int)(uintptr_t)map_get(&l->by_addr, addr) - 1;
	return 0;
}

static int threads_read(struct dump_ctx *ctx, struct peek *pk, struct uring_dump *s)
{
	int r = 0;

	for (size_t i = 0; i < ctx->n_procs && r >= 0; i++)
		for (size_t k = 0; k < ctx->procs[i]->n_threads && r >= 0; k++) {
			struct uring_thread *t = ARENA_NEW(&ctx->arena, struct uring_thread);
			uint64_t task;

			if (!t)
				return -ENOMEM;
			*t = (struct uring_thread){ ctx->procs[i], &ctx->procs[i]->threads[k] };
			if (peek_task(pk, t->thread->task.tid, &task) >= 0 && task)
				r = map_put(&s->threads, task, t);
		}
	s->threads_read = r >= 0;
	return r;
}

int uring_find_thread(struct dump_ctx *ctx, struct peek *pk, uint64_t task, struct uring_thread **ret)
{
	struct uring_dump *s = state(ctx);
	int r = !s ? -ENOMEM : s->threads_read ? 0 : threads_read(ctx, pk, s);

	if (r < 0)
		return log_err(r, "io_uring: cannot find the thread that submits");
	*ret = map_get(&s->threads, task);
	return 0;
}

void uring_find_done(struct dump_ctx *ctx)
{
	struct uring_dump *s = ctx->kind_state[FD_TYPES__EVENTFD];

	if (!s)
		return;
	map_done(&s->files.by_addr);
	map_done(&s->private_data.by_addr);
	map_done(&s->threads);
}
