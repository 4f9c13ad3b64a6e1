/*
 * io_uring(7): rings of requests and events that a program shares with the kernel.
 *
 *   dump     only when nothing is in flight (task/uring_wait.c has waited for it). Flags, counters
 *            and what is registered from the kernel's structures (io_uring_peek.c), the rings
 *            themselves through a mapping of our own. CRIU knows no io_uring: the entry is ours.
 *   restore  io_uring_restore.c; the rings' mappings: task/place.c
 *
 * The kernel keeps counts of its own of requests taken and events given, from which programs
 * (liburing) compute what is free; they can only be counted up again.
 */
#include <string.h>
#include <sys/mman.h>

#include "kind/io_uring.h"

#define COUNTING_USEC_MAX 10000000ull	/* of a blackout that the operator would rather not have */
#define REMEDY "start the program with io_uring off (its aio setting, or kernel.io_uring_disabled=2)"

static bool uring_match(const struct dump_file *f)
{
	return link_is_anon(f->link, "io_uring");
}

/* The operations that polls wait for, as fdinfo lists them: " op=13" and so on. */
static void polls_list(const char *fdinfo, char *ret, size_t bytes)
{
	const char *at = strstr(fdinfo, "PollList:"), *end = strstr(fdinfo, "CqOverflowList:");
	size_t n = 0;

	*ret = '\0';
	while (at && (at = strstr(at, "op=")) && (!end || at < end) && n + 8 < bytes) {
		n += (size_t)snprintf(ret + n, bytes - n, " %d", atoi(at + 3));
		at += 3;
	}
}

/* Two numbers of the kernel's structures are in fdinfo as well: then the others are right, too. */
static bool state_is_plausible(const struct dump_file *f, const struct uring_state *s)
{
	uint64_t head, tail;

	return !fdinfo_u64(f->fdinfo, "CachedSqHead", 10, &head) && head == s->sq_head &&
	       !fdinfo_u64(f->fdinfo, "CachedCqTail", 10, &tail) && tail == s->cq_tail;
}

/* As measured: 40 ns a request; each time the ring is full a call, or a batch of another thread. */
static uint64_t counting_usec(const struct uring_state *s)
{
	uint64_t calls = s->sq_head / MAX(s->sq_entries, 1u);

	return s->sq_head / 25 + (s->submitter ? calls * 8 : calls / 3);
}

static int state_check(const struct dump_file *f, const struct uring_state *s)
{
	char polls[64];

	polls_list(f->fdinfo, polls, sizeof(polls));
	if (s->in_flight)
		return log_obstacle("have the program finish or cancel them, or " REMEDY,
				    "io_uring: requests in flight: %ld%s%s", s->in_flight,
				    *polls ? ", of them polls for operations" : "", polls);
	if (s->refused)
		return log_obstacle(REMEDY, "io_uring: it has %s", s->refused);
	/* Multishot requests give several events each. */
	if ((int32_t)(s->sq_head - s->cq_tail) < 0)
		return log_obstacle(REMEDY, "io_uring: it has given %u events more than requests were made",
				    s->cq_tail - s->sq_head);
	if (s->sq_head > URING_COUNT_MAX || counting_usec(s) > COUNTING_USEC_MAX)
		return log_obstacle("restart the service at a quiet time before, or " REMEDY,
				    "io_uring: it has served %u requests, and counting them up again "
				    "would take %lu s (limit: %llu)", s->sq_head,
				    counting_usec(s) / 1000000, COUNTING_USEC_MAX / 1000000);
	if (counting_usec(s) > 1000000)
		log_warn("io_uring: it has served %u requests: counting them up again will take %lu s",
			 s->sq_head, counting_usec(s) / 1000000);
	return 0;
}

static int file_id_find(struct dump_ctx *ctx, struct peek *pk, struct dump_process *p, uint64_t addr,
			bool by_private, const char *what, size_t slot, uint32_t *ret_id)
{
	struct dump_file *g;
	int t_fd, r = uring_find_fd(ctx, pk, p, addr, by_private, &t_fd);

	if (r < 0)
		return r;
	if (t_fd < 0)
		return log_obstacle("have the program keep the descriptor, or " REMEDY,
				    "io_uring: registered %s %zu is no descriptor of the process", what, slot);
	r = dump_file_get(ctx, p, t_fd, &g);
	*ret_id = r < 0 ? 0 : g->id;
	return r;
}

static int registered_dump(struct dump_ctx *ctx, struct peek *pk, struct dump_file *f,
			   const struct uring_state *s, IoUringEntry *e)
{
	int r = 0;

	e->files = arena_alloc(&ctx->arena, (s->n_files + 1) * sizeof(*e->files));
	e->buffers = arena_alloc(&ctx->arena, (s->n_buffers + 1) * sizeof(*e->buffers));
	if (!e->files || !e->buffers)
		return -ENOMEM;
	e->n_files = s->n_files;
	for (size_t i = 0; i < s->n_files && r >= 0; i++)
		if (s->files[i])
			r = file_id_find(ctx, pk, f->owner, s->files[i], false, "file", i, &e->files[i]);
	for (size_t i = 0; i < s->n_buffers && r >= 0; i++) {
		IoUringBuffer *buf = ARENA_MSG(&ctx->arena, IoUringBuffer, io_uring_buffer);

		if (!buf)
			return -ENOMEM;
		buf->addr = s->buffers[i].addr;
		buf->bytes = s->buffers[i].bytes;
		e->buffers[e->n_buffers++] = buf;
	}
	if (r >= 0 && s->eventfd) {
		e->has_eventfd_id = e->has_eventfd_async = true;
		e->eventfd_async = s->eventfd_async;
		r = file_id_find(ctx, pk, f->owner, s->eventfd, true, "eventfd", 0, &e->eventfd_id);
	}
	if (s->iowq_limits[0] || s->iowq_limits[1]) {
		e->n_iowq_limits = 2;
		e->iowq_limits = arena_memdup(&ctx->arena, s->iowq_limits, sizeof(s->iowq_limits));
	}
	return e->n_iowq_limits && !e->iowq_limits ? -ENOMEM : r;
}

/* A ring like it tells where in the mappings things are. */
static int rings_dump(struct dump_ctx *ctx, struct dump_file *f, const struct uring_state *s,
		      IoUringEntry *e)
{
	_cleanup_uring_map_ struct uring_map m = { 0 };
	struct io_uring_params params;
	int like, r;

	r = uring_setup(s->sq_entries, s->cq_entries, s->flags, &params, &like);
	if (r < 0)
		return log_err(r, "io_uring: cannot make a ring like it");
	close(like);
	r = uring_map(f->fd, &params, PROT_READ, &m);
	if (r < 0)
		return log_err(r, "io_uring: cannot map it");
	e->offsets = arena_alloc(&ctx->arena, URING_OFFSETS * sizeof(uint32_t));
	e->rings.data = arena_memdup(&ctx->arena, m.rings, m.rings_bytes);
	e->sqes.data = arena_memdup(&ctx->arena, m.sqes, m.sqes_bytes);
	if (!e->offsets || !e->rings.data || !e->sqes.data)
		return -ENOMEM;
	e->n_offsets = URING_OFFSETS;
	uring_offsets(&params, e->offsets);
	e->rings.len = m.rings_bytes;
	e->sqes.len = m.sqes_bytes;
	return 0;
}

/*
 * The thread's id as the images have it; a thread that has ended can never submit again. One whose
 * process has closed the ring could not either, but others would still read its events.
 */
static int submitter_put(struct dump_ctx *ctx, struct peek *pk, const struct dump_file *f,
			 const struct uring_state *s, IoUringEntry *e)
{
	struct uring_thread *t;
	int r = uring_find_thread(ctx, pk, s->submitter, &t), t_fd = f->t_fd;

	if (r < 0)
		return r;
	if (!t)
		return log_obstacle("close it in the program",
				    "io_uring: only one thread may submit, and it is not of the tree or has ended");
	if (t->process != f->owner)
		r = uring_find_fd(ctx, pk, t->process, s->file, false, &t_fd);
	if (r < 0)
		return r;
	if (t_fd < 0)
		return log_obstacle("close it in all processes that have it, or in none",
				    "io_uring: only thread %d may submit, and its process has closed it",
				    t->thread->task.tid);
	e->has_submitter = true;
	e->submitter = t->thread->tid_virtual;
	return 0;
}

static int uring_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	IoUringEntry *e = ARENA_MSG(&ctx->arena, IoUringEntry, io_uring_entry);
	struct uring_state s;
	struct peek *pk;
	int r;

	if (!e)
		return log_err(-ENOMEM, "io_uring");
	r = dump_peek(ctx, &pk);
	if (r >= 0)
		r = uring_peek(pk, &ctx->arena, f->fd, &s);
	if (r >= 0 && !state_is_plausible(f, &s))
		r = -ENODATA;
	if (r == -EOPNOTSUPP || r == -ENODATA)
		return log_obstacle(REMEDY
				    ", or run as root with CAP_BPF and CAP_PERFMON on Linux >= 6.14 with BTF",
				    "io_uring: this kernel does not tell what is in flight or registered");
	if (r < 0)
		return log_err(r, "io_uring: cannot read its state");
	r = state_check(f, &s);
	if (r < 0)
		return r;
	f->fe->uring = e;
	e->id = f->id;
	e->flags = f->flags;
	e->setup_flags = s.flags;
	e->sq_entries = s.sq_entries;
	e->cq_entries = s.cq_entries;
	e->sq_head = s.sq_head;
	e->cq_tail = s.cq_tail;
	r = s.submitter ? submitter_put(ctx, pk, f, &s, e) : 0;
	if (r >= 0)
		r = registered_dump(ctx, pk, f, &s, e);
	if (r >= 0)
		r = rings_dump(ctx, f, &s, e);
	return r < 0 ? r : dump_fown(ctx, f, &e->fown);
}

const struct kind kind_io_uring = {
	.name = "io_uring",
	.type = FD_TYPES__IO_URING,
	.match = uring_match,
	.dump = uring_dump,
	.dump_done = uring_find_done,
	.prepare = uring_prepare,
	.restore = uring_restore,
};
