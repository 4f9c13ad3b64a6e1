/*
 * An io_uring made again: io_uring_setup() in the engine, registered files and eventfd, then
 * requests that do nothing until the kernel's own counters stand where they stood, then the saved
 * contents of the rings.
 *
 * A ring that only one thread may use (IORING_SETUP_SINGLE_ISSUER) is made disabled: the thread
 * enables it, which makes it that thread's, and does the counting. Registered buffers belong to
 * the memory of the process that registers them. Both are calls from the task, as a part of it.
 *
 * IOSQE_CQE_SKIP_SUCCESS, for requests that gave no event, makes a ring refuse IOSQE_IO_DRAIN for
 * good: it is used only where the program must have used it.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kind/io_uring.h"
#include "task/parts.h"

#define SQ_ENTRIES_MAX	32768u
#define CQ_ENTRIES_MAX	65536u
#define EVENTFD_DISABLED 1u		/* IORING_CQ_EVENTFD_DISABLED */
#define SKIP_SUCCESS	(1u << 6)	/* IOSQE_CQE_SKIP_SUCCESS */
enum { REG_BUFFERS = 0, REG_FILES = 2, REG_EVENTFD = 4, REG_EVENTFD_ASYNC = 7, REG_ENABLE = 12,
       REG_IOWQ_MAX_WORKERS = 19 };

static size_t sqe_bytes(uint32_t flags)
{
	return flags & URING_SQE128 ? 128 : 64;
}

int uring_setup(uint32_t sq_entries, uint32_t cq_entries, uint32_t flags,
		struct io_uring_params *params, int *ret_fd)
{
	long fd;

	*params = (struct io_uring_params){ .flags = flags | URING_CQSIZE, .cq_entries = cq_entries };
	fd = syscall(SYS_io_uring_setup, sq_entries, params);
	if (fd < 0)
		return neg_errno();
	*ret_fd = (int)fd;
	return 0;
}

void uring_offsets(const struct io_uring_params *params, uint32_t ret[URING_OFFSETS])
{
	memcpy(ret, &params->sq_off, 32);
	memcpy(ret + 8, &params->cq_off, 32);
}

int uring_map(int fd, const struct io_uring_params *p, int prot, struct uring_map *ret)
{
	size_t cqe = p->flags & URING_CQE32 ? 32 : 16;
	void *at;

	*ret = (struct uring_map){ .params = *p };
	ret->rings_bytes = p->cq_off.cqes + p->cq_entries * cqe;
	if (!(p->flags & URING_NO_SQARRAY))
		ret->rings_bytes = MAX(ret->rings_bytes, (size_t)p->sq_off.array + p->sq_entries * 4);
	ret->sqes_bytes = p->sq_entries * sqe_bytes(p->flags);
	at = mmap(NULL, ret->rings_bytes, prot, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
	if (at == MAP_FAILED)
		return neg_errno();
	ret->rings = at;
	at = mmap(NULL, ret->sqes_bytes, prot, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQES);
	if (at == MAP_FAILED)
		return neg_errno();
	ret->sqes = at;
	return 0;
}

void uring_unmap(struct uring_map *m)
{
	if (m->rings)
		munmap(m->rings, m->rings_bytes);
	if (m->sqes)
		munmap(m->sqes, m->sqes_bytes);
}

static bool is_size(uint32_t n, uint32_t max)
{
	return n && n <= max && !(n & (n - 1));
}

int uring_check(const IoUringEntry *e)
{
	bool one_thread = e->setup_flags & URING_SINGLE_ISSUER;
	bool disabled = e->setup_flags & URING_R_DISABLED;

	if (e->setup_flags & ~(uint32_t)URING_SUPPORTED || !is_size(e->sq_entries, SQ_ENTRIES_MAX) ||
	    !is_size(e->cq_entries, CQ_ENTRIES_MAX) || e->cq_entries < e->sq_entries ||
	    e->n_offsets != URING_OFFSETS || e->sq_head > URING_COUNT_MAX || e->cq_tail > e->sq_head ||
	    (disabled && e->sq_head) || e->has_submitter != (one_thread && !disabled) ||
	    e->n_files > URING_SLOTS_MAX || e->n_buffers > URING_SLOTS_MAX ||
	    (e->n_iowq_limits && e->n_iowq_limits != 2))
		return log_fail(-EBADMSG, "flags, sizes or counts are out of range");
	return 0;
}

static uint32_t *word(const struct uring_map *m, uint32_t off)
{
	return (uint32_t *)(m->rings + off);
}

/* The place of everything is in the program's own memory: this kernel's must be the same. */
static int layout_check(const IoUringEntry *e, const struct uring_map *m)
{
	uint32_t offsets[URING_OFFSETS];

	uring_offsets(&m->params, offsets);
	if (memcmp(offsets, e->offsets, sizeof(offsets)) || e->rings.len != m->rings_bytes ||
	    e->sqes.len != m->sqes_bytes)
		return log_fail(-EOPNOTSUPP, "this kernel lays rings out otherwise than the one before");
	return 0;
}

/* Lets the kernel take up to n requests; how many it took. */
typedef int (*enter_fn)(void *arg, uint32_t n);

static int advance(const struct uring_map *m, const IoUringEntry *e, enter_fn enter, void *arg)
{
	const struct io_uring_params *p = &m->params;
	size_t stride = sqe_bytes(p->flags);
	uint32_t done = 0;
	int n;

	memset(m->sqes, 0, m->sqes_bytes);	/* IORING_OP_NOP */
	for (uint32_t i = 0; i < p->sq_entries && !(p->flags & URING_NO_SQARRAY); i++)
		word(m, p->sq_off.array)[i] = i;
	*word(m, p->cq_off.flags) |= EVENTFD_DISABLED;
	__atomic_store_n(word(m, p->sq_off.tail), e->sq_head, __ATOMIC_RELEASE);
	while (done < e->sq_head) {
		uint32_t left = (done < e->cq_tail ? e->cq_tail : e->sq_head) - done;

		if (done == e->cq_tail)
			for (uint32_t i = 0; i < p->sq_entries; i++)
				m->sqes[i * stride + offsetof(struct io_uring_sqe, flags)] = SKIP_SUCCESS;
		n = enter(arg, MIN(left, p->sq_entries));
		if (n <= 0)
			return log_err(n ? n : -EIO, "cannot count up to %u requests", e->sq_head);
		done += (uint32_t)n;
		__atomic_store_n(word(m, p->cq_off.head), *word(m, p->cq_off.tail), __ATOMIC_RELEASE);
	}
	if (*word(m, p->sq_off.head) != e->sq_head || *word(m, p->cq_off.tail) != e->cq_tail)
		return log_fail(-EIO, "it stands at %u requests and %u events, not at %u and %u",
				*word(m, p->sq_off.head), *word(m, p->cq_off.tail), e->sq_head, e->cq_tail);
	return 0;
}

/* The kernel's counters are in the rings, too: those of the image must be the same. */
static int contents_put(const struct uring_map *m, const IoUringEntry *e)
{
	const struct io_uring_params *p = &m->params;
	uint32_t head, tail;

	memcpy(&head, e->rings.data + p->sq_off.head, sizeof(head));
	memcpy(&tail, e->rings.data + p->cq_off.tail, sizeof(tail));
	if (head != e->sq_head || tail != e->cq_tail ||
	    memcmp(e->rings.data + p->sq_off.ring_entries, &p->sq_entries, 4) ||
	    memcmp(e->rings.data + p->cq_off.ring_entries, &p->cq_entries, 4))
		return log_fail(-EBADMSG, "its rings contradict its description");
	memcpy(m->rings, e->rings.data, m->rings_bytes);
	memcpy(m->sqes, e->sqes.data, m->sqes_bytes);
	return 0;
}

static int enter_here(void *arg, uint32_t n)
{
	long r = syscall(SYS_io_uring_enter, *(int *)arg, n, 0, 0, NULL, 0);

	return r < 0 ? neg_errno() : (int)r;
}

static int reg(int fd, unsigned int what, const void *arg, unsigned int n)
{
	return syscall(SYS_io_uring_register, fd, what, arg, n) < 0 ? neg_errno() : 0;
}

static int register_all(struct restore_ctx *ctx, const IoUringEntry *e, int fd)
{
	_cleanup_free_ int *fds = calloc(e->n_files + 1, sizeof(*fds));
	int r = 0, efd;

	if (!fds)
		return -ENOMEM;
	for (size_t i = 0; i < e->n_files && r >= 0; i++) {
		fds[i] = -1;
		if (e->files[i])
			r = restore_file_get(ctx, e->files[i], &fds[i]);
	}
	if (r >= 0 && e->n_files)
		r = reg(fd, REG_FILES, fds, (unsigned int)e->n_files);
	if (r >= 0 && e->has_eventfd_id) {
		r = restore_file_get(ctx, e->eventfd_id, &efd);
		if (r >= 0)
			r = reg(fd, e->eventfd_async ? REG_EVENTFD_ASYNC : REG_EVENTFD, &efd, 1);
	}
	if (r >= 0 && e->n_iowq_limits) {
		uint32_t limits[2] = { e->iowq_limits[0], e->iowq_limits[1] };

		r = reg(fd, REG_IOWQ_MAX_WORKERS, limits, 2);
	}
	return r < 0 ? log_err(r, "cannot register its files, eventfd or limits") : 0;
}

/* The rings of the images: each thread looks for its own. */
struct rings {
	struct restore_file **file;
	size_t n;
};

/* In the slot of the eventfds, which have no state; our type's number is beyond the last. */
static struct rings *rings_of(struct restore_ctx *ctx)
{
	return ctx->kind_state[FD_TYPES__EVENTFD];
}

/* The process's descriptor of the file; -1: it has none. */
static int fd_of(const struct restore_process *p, const struct restore_file *f)
{
	while (p->shares_fds)
		p = p->parent;
	for (size_t i = 0; i < p->n_fds; i++)
		if (p->fds[i]->id == f->id)
			return (int)p->fds[i]->fd;
	return f->owner == p ? f->t_fd : -1;
}

static uint32_t thread_id(const struct restore_process *p, size_t k)
{
	return k ? p->pst->threads[k] : p->pst->pid;
}

/* Whose call it is that enables the ring, or it would come back disabled and empty. */
static bool has_submitter(const struct restore_ctx *ctx, const struct restore_file *f)
{
	for (size_t i = 0; i < ctx->n_procs; i++)
		for (size_t k = 0; k < ctx->procs[i].n_threads; k++)
			if (thread_id(&ctx->procs[i], k) == f->fe->uring->submitter)
				return fd_of(&ctx->procs[i], f) >= 0;
	return false;
}

int uring_prepare(struct restore_ctx *ctx)
{
	struct rings *s = ARENA_NEW(&ctx->arena, struct rings);

	if (!s)
		return log_err(-ENOMEM, "io_uring");
	ctx->kind_state[FD_TYPES__EVENTFD] = s;
	for (size_t i = 0; i < ctx->n_files; i++) {
		struct restore_file *f = ctx->files[i], **slot;
		int r;

		if (f->fe->type != FD_TYPES__IO_URING)
			continue;
		LOG_SCOPE("file %u (io_uring)", f->id);
		r = uring_check(f->fe->uring);
		if (r < 0)
			return r;
		if (f->fe->uring->has_submitter && !has_submitter(ctx, f))
			return log_fail(-EBADMSG, "no process with thread %u, which alone may submit, has it",
					f->fe->uring->submitter);
		slot = ARENA_PUSH(&ctx->arena, s->file, s->n);
		if (!slot)
			return log_err(-ENOMEM, "io_uring");
		*slot = f;
	}
	return 0;
}

int uring_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const IoUringEntry *e = f->fe->uring;
	_cleanup_uring_map_ struct uring_map m = { 0 };
	_cleanup_close_ int fd = -EBADF;
	struct io_uring_params params;
	bool by_thread = e->has_submitter;
	int r;

	r = uring_setup(e->sq_entries, e->cq_entries,
			e->setup_flags | (by_thread ? URING_R_DISABLED : 0), &params, &fd);
	if (r < 0)
		return log_err(r, "cannot set up a ring of %u requests (kernel.io_uring_disabled?)",
			       e->sq_entries);
	r = uring_map(fd, &params, PROT_READ | PROT_WRITE, &m);
	if (r < 0)
		return log_err(r, "cannot map it");
	r = layout_check(e, &m);
	if (r >= 0 && !by_thread)
		r = advance(&m, e, enter_here, &fd);
	if (r >= 0 && !by_thread)
		r = contents_put(&m, e);
	if (r >= 0)
		r = register_all(ctx, e, fd);
	if (r >= 0)
		r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

struct thread_enter {
	struct task *task;
	struct batch *b;
	int t_fd;
};

static int enter_there(void *arg, uint32_t n)
{
	struct thread_enter *t = arg;
	int call, r;

	batch_begin(t->b, t->task);
	call = batch_call(t->b, SYS_io_uring_enter, t->t_fd, n, 0, 0, 0, 0);
	r = batch_run(t->b);
	return r < 0 ? r : (int)batch_ret(t->b, call);
}

static int enable_and_advance(struct restore_file *f, struct thread_enter *t)
{
	const IoUringEntry *e = f->fe->uring;
	_cleanup_uring_map_ struct uring_map m = { 0 };
	struct io_uring_params params = { .flags = e->setup_flags, .sq_entries = e->sq_entries,
					  .cq_entries = e->cq_entries };
	int r;

	memcpy(&params.sq_off, e->offsets, 32);
	memcpy(&params.cq_off, e->offsets + 8, 32);
	batch_begin(t->b, t->task);
	batch_call(t->b, SYS_io_uring_register, t->t_fd, REG_ENABLE, 0, 0);
	r = batch_run(t->b);
	if (r >= 0)
		r = uring_map(f->fd, &params, PROT_READ | PROT_WRITE, &m);
	if (r >= 0)
		r = advance(&m, e, enter_there, t);
	return r < 0 ? r : contents_put(&m, e);
}

static int buffers_register(const IoUringEntry *e, struct thread_enter *t)
{
	struct uring_buffer *list;
	uint64_t t_list;

	batch_begin(t->b, t->task);
	t_list = batch_put(t->b, NULL, e->n_buffers * sizeof(*list));
	list = t_list ? batch_data(t->b, t_list) : NULL;
	for (size_t i = 0; i < e->n_buffers && list; i++)
		list[i] = (struct uring_buffer){ e->buffers[i]->addr, e->buffers[i]->bytes };
	batch_call(t->b, SYS_io_uring_register, t->t_fd, REG_BUFFERS, t_list, e->n_buffers);
	return batch_run(t->b);
}

static int uring_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
			       struct restore_thread *th, struct batch *b)
{
	struct thread_enter t = { .task = &th->task, .b = b };
	const struct rings *rings = rings_of(ctx);
	size_t k = (size_t)(th - p->threads);
	uint32_t tid = thread_id(p, k);
	int r = 0;

	for (size_t i = 0; rings && i < rings->n && r >= 0; i++) {
		struct restore_file *f = rings->file[i];
		const IoUringEntry *e = f->fe->uring;
		bool submits = e->has_submitter && e->submitter == tid;

		if (!submits && (e->has_submitter || k || !e->n_buffers))
			continue;
		t.t_fd = fd_of(p, f);
		if (t.t_fd < 0)
			continue;
		LOG_SCOPE("fd %d (io_uring)", t.t_fd);
		r = batch_make_room(b, BATCH_CALLS_MAX, 0);
		if (r >= 0 && submits)
			r = enable_and_advance(f, &t);
		if (r >= 0 && e->n_buffers && f->owner == p)
			r = buffers_register(e, &t);
		batch_begin(b, &th->task);
	}
	return r;
}

const struct task_part part_io_uring = {
	.name		= "io_uring",
	.stage		= STAGE_STATE,
	.restore_calls	= uring_restore_calls,
};
