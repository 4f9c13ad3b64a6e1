/*
 * What fdinfo does not tell of an io_uring: its flags, the thread that may submit, what is
 * registered, how many requests are in flight. From the kernel's own structures (kernel/peek.h).
 */
#include <string.h>
#include <time.h>

#include "kind/io_uring.h"

#define LIST_MAX 65536u
#define REGISTERED_RINGS 16u	/* IO_RINGFD_REG_MAX */
/* The low bits of a registered file's address are flags. */
#define FILE_FLAGS 3ull

static int member(struct peek *pk, uint64_t ctx, const char *name, unsigned int bytes, uint64_t *ret)
{
	return peek_member(pk, ctx, "io_ring_ctx", name, bytes, ret);
}

/* Members that not every kernel has: 0 then. */
static int member_opt(struct peek *pk, uint64_t ctx, const char *name, unsigned int bytes,
		      uint64_t *ret)
{
	int r = member(pk, ctx, name, bytes, ret);

	if (r == -ENODATA)
		*ret = 0;
	return r == -ENODATA ? 0 : r;
}

int uring_task_in_flight(struct peek *pk, uint64_t task, uint64_t *ret)
{
	uint64_t tctx, counter, sum, percpu, at, n, cached;
	int r;

	*ret = 0;
	r = peek_member(pk, task, "task_struct", "io_uring", 8, &tctx);
	if (r < 0 || !tctx)
		return r;
	r = peek_inside(pk, tctx, "io_uring_task", "inflight", &counter);
	if (r >= 0)
		r = peek_member(pk, counter, "percpu_counter", "count", 8, &sum);
	if (r >= 0)
		r = peek_member(pk, counter, "percpu_counter", "counters", 8, &percpu);
	if (r >= 0)
		r = peek_member(pk, tctx, "io_uring_task", "cached_refs", 4, &cached);
	for (unsigned int cpu = 0; r >= 0; cpu++) {
		r = peek_percpu(pk, percpu, cpu, &at);
		if (r == -ENXIO)
			break;
		if (r >= 0)
			r = peek_word(pk, at, &n);
		sum += (uint64_t)(int64_t)(int32_t)n;
	}
	*ret = sum - (uint64_t)(int64_t)(int32_t)cached;
	return r == -ENXIO ? 0 : r;
}

int uring_task_has_registered(struct peek *pk, uint64_t task, bool *ret)
{
	uint64_t tctx = 0, at, file = 0;
	int r = peek_member(pk, task, "task_struct", "io_uring", 8, &tctx);

	if (r >= 0 && tctx)
		r = peek_inside(pk, tctx, "io_uring_task", "registered_rings", &at);
	for (size_t i = 0; r >= 0 && tctx && !file && i < REGISTERED_RINGS; i++)
		r = peek_word(pk, at + i * 8, &file);
	*ret = file;
	return r == -ENODATA ? 0 : r;	/* a kernel that has no such thing */
}

/* Of all tasks that ever submitted to the ring and still live. */
static int in_flight(struct peek *pk, uint64_t ctx, uint64_t *ret)
{
	uint64_t head, at, task, n, link;
	int r = peek_inside(pk, ctx, "io_ring_ctx", "tctx_list", &head);

	*ret = 0;
	if (r >= 0)
		r = peek_inside(pk, 0, "io_tctx_node", "ctx_node", &link);
	if (r >= 0)
		r = peek_word(pk, head, &at);
	for (unsigned int i = 0; r >= 0 && at != head; i++) {
		if (i >= LIST_MAX)
			return -ELOOP;
		r = peek_member(pk, at - link, "io_tctx_node", "task", 8, &task);
		if (r >= 0)
			r = uring_task_in_flight(pk, task, &n);
		if (r >= 0)
			r = peek_word(pk, at, &at);
		*ret += n;
	}
	return r;
}

static int list_is_used(struct peek *pk, uint64_t ctx, const char *name, bool *ret)
{
	uint64_t head, first;
	int r = peek_inside(pk, ctx, "io_ring_ctx", name, &head);

	*ret = false;
	if (r >= 0)
		r = peek_word(pk, head, &first);
	if (r >= 0)
		*ret = first != head;
	return r == -ENODATA ? 0 : r;
}

static int inner(struct peek *pk, uint64_t ctx, const char *name, const char *type,
		 const char *field, unsigned int bytes, uint64_t *ret)
{
	uint64_t at;
	int r = peek_inside(pk, ctx, "io_ring_ctx", name, &at);

	*ret = 0;
	if (r >= 0)
		r = peek_member(pk, at, type, field, bytes, ret);
	return r == -ENODATA ? 0 : r;
}

static int refusals(struct peek *pk, uint64_t ctx, struct uring_state *s)
{
	static const struct {
		const char *member, *type, *field;
		unsigned int bytes;
		const char *what;
	} rows[] = {
		{ "restrictions", "io_restriction", "registered", 1, "restrictions" },
		{ "personalities", "xarray", "xa_head", 8, "registered personalities" },
		{ "io_bl_xa", "xarray", "xa_head", 8, "provided buffers" },
		{ "zcrx_ctxs", "xarray", "xa_head", 8, "zero-copy receive queues" },
		{ "param_region", "io_mapped_region", "ptr", 8, "registered wait arguments" },
	};
	uint64_t v;
	bool used;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows) && r >= 0; i++) {
		r = inner(pk, ctx, rows[i].member, rows[i].type, rows[i].field, rows[i].bytes, &v);
		if (r >= 0 && v)
			s->refused = rows[i].what;
	}
	if (r >= 0)
		r = list_is_used(pk, ctx, "napi_list", &used);
	if (r >= 0 && used)
		s->refused = "busy polling (NAPI)";
	if (r >= 0)
		r = list_is_used(pk, ctx, "cq_overflow_list", &used);
	if (r >= 0 && used)
		s->refused = "events that found no room in its ring";
	if (r >= 0)
		r = member_opt(pk, ctx, "clockid", 4, &v);
	if (r >= 0 && v && v != CLOCK_MONOTONIC)
		s->refused = "a clock of its own";
	if (s->flags & URING_SQPOLL)
		s->refused = "a kernel thread that submits (IORING_SETUP_SQPOLL)";
	else if (s->flags & URING_NO_MMAP)
		s->refused = "rings in memory of the program (IORING_SETUP_NO_MMAP)";
	else if (s->flags & ~(uint32_t)URING_SUPPORTED)
		s->refused = "set-up flags that are not known here";
	return r;
}

/* The nodes of a table of registered files or buffers: at is its struct io_rsrc_data. */
static int table_read(struct peek *pk, uint64_t at, uint64_t *ret_nodes, uint64_t *ret_n)
{
	int r = peek_member(pk, at, "io_rsrc_data", "nodes", 8, ret_nodes);

	if (r >= 0)
		r = peek_member(pk, at, "io_rsrc_data", "nr", 4, ret_n);
	return r >= 0 && *ret_n > URING_SLOTS_MAX ? -E2BIG : r;
}

static int node_read(struct peek *pk, uint64_t nodes, size_t i, const char *field,
		     struct uring_state *s, uint64_t *ret)
{
	uint64_t node, tag;
	int r = peek_word(pk, nodes + i * 8, &node);

	*ret = 0;
	if (r < 0 || !node)
		return r;
	r = peek_member(pk, node, "io_rsrc_node", field, 8, ret);
	if (r >= 0)
		r = peek_member(pk, node, "io_rsrc_node", "tag", 8, &tag);
	if (r >= 0 && tag)
		s->refused = "registered resources with tags";
	return r;
}

static int files_read(struct peek *pk, struct arena *a, uint64_t ctx, struct uring_state *s)
{
	uint64_t at, nodes, n;
	int r = peek_inside(pk, ctx, "io_ring_ctx", "file_table", &at);

	if (r >= 0)
		r = peek_inside(pk, at, "io_file_table", "data", &at);
	if (r >= 0)
		r = table_read(pk, at, &nodes, &n);
	if (r < 0 || !n)
		return r;
	s->files = arena_alloc(a, n * sizeof(*s->files));
	s->n_files = n;
	for (size_t i = 0; i < n && s->files && r >= 0; i++) {
		r = node_read(pk, nodes, i, "file_ptr", s, &s->files[i]);
		s->files[i] &= ~FILE_FLAGS;
	}
	return s->files ? r : -ENOMEM;
}

static int buffers_read(struct peek *pk, struct arena *a, uint64_t ctx, struct uring_state *s)
{
	uint64_t at, nodes, n, buf, kernels;
	int r = peek_inside(pk, ctx, "io_ring_ctx", "buf_table", &at);

	if (r >= 0)
		r = table_read(pk, at, &nodes, &n);
	if (r < 0 || !n)
		return r;
	s->buffers = arena_alloc(a, n * sizeof(*s->buffers));
	s->n_buffers = n;
	for (size_t i = 0; i < n && s->buffers && r >= 0; i++) {
		r = node_read(pk, nodes, i, "buf", s, &buf);
		if (r < 0 || !buf)
			continue;
		r = peek_member(pk, buf, "io_mapped_ubuf", "ubuf", 8, &s->buffers[i].addr);
		if (r >= 0)
			r = peek_member(pk, buf, "io_mapped_ubuf", "len", 4, &s->buffers[i].bytes);
		if (r >= 0 && peek_member(pk, buf, "io_mapped_ubuf", "is_kbuf", 1, &kernels) >= 0 &&
		    kernels)
			s->refused = "registered buffers of a device";
	}
	return s->buffers ? r : -ENOMEM;
}

static int registered_read(struct peek *pk, struct arena *a, uint64_t ctx, struct uring_state *s)
{
	uint64_t ev, v = 0, at;
	int r = files_read(pk, a, ctx, s);

	if (r >= 0)
		r = buffers_read(pk, a, ctx, s);
	if (r >= 0)
		r = member(pk, ctx, "io_ev_fd", 8, &ev);
	if (r >= 0 && ev) {
		r = peek_member(pk, ev, "io_ev_fd", "cq_ev_fd", 8, &s->eventfd);
		if (r >= 0)
			r = peek_member(pk, ev, "io_ev_fd", "eventfd_async", 4, &v);
		s->eventfd_async = v & 1;
	}
	if (r >= 0)
		r = peek_inside(pk, ctx, "io_ring_ctx", "iowq_limits", &at);
	if (r >= 0)
		r = peek_word(pk, at, &v);
	s->iowq_limits[0] = (uint32_t)v;
	s->iowq_limits[1] = (uint32_t)(v >> 32);
	return r;
}

int uring_peek(struct peek *pk, struct arena *a, int fd, struct uring_state *ret)
{
	const struct {
		const char *name;
		uint32_t *to;
	} words[] = {
		{ "flags", &ret->flags },		{ "sq_entries", &ret->sq_entries },
		{ "cq_entries", &ret->cq_entries },	{ "cached_sq_head", &ret->sq_head },
		{ "cached_cq_tail", &ret->cq_tail },
	};
	uint64_t ctx, v;
	int r;

	*ret = (struct uring_state){ 0 };
	r = peek_file(pk, getpid(), fd, &ret->file);
	if (r >= 0)
		r = ret->file ? peek_member(pk, ret->file, "file", "private_data", 8, &ctx) : -EBADF;
	for (size_t i = 0; i < ARRAY_SIZE(words) && r >= 0; i++) {
		r = member(pk, ctx, words[i].name, 4, &v);
		*words[i].to = (uint32_t)v;
	}
	if (r >= 0)
		r = member(pk, ctx, "submitter_task", 8, &ret->submitter);
	if (r >= 0)
		r = registered_read(pk, a, ctx, ret);
	if (r >= 0)
		r = refusals(pk, ctx, ret);
	return r < 0 ? r : in_flight(pk, ctx, &ret->in_flight);
}
