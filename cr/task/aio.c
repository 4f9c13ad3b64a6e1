/*
 * Kernel AIO contexts (io_setup(2)). A context is known by the address of its ring, a file of
 * the kernel's own that is mapped into the process ("/[aio]").
 *
 *   dump     the ring's pages go with the memory; mm.aios says which areas are rings. Requests in
 *            flight are waited for. How many there are, no file of /proc tells: the kernel's own
 *            count is read (kernel/peek.h), as capacity that is neither free nor completed.
 *   restore  memory holds the saved ring in plain pages, which keep the place. io_setup() in the
 *            task, mremap() over them (the kernel follows a ring that moves), then requests that
 *            end at once: as many as bring head, tail and the count of unread events, which the
 *            kernel keeps for itself, to where they were; then the saved events.
 *
 * The ring's first word is its number in the kernel's table: the new one stays.
 */
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "kernel/peek.h"
#include "task/parts.h"
#include "task/vma.h"

#define RING_MAGIC	0xa10a10a1u
#define RING_BYTES_MAX	(0x10000000u + PAGE_BYTES)	/* io_setup()'s own limit */
#define CHUNK_MAX	512u		/* requests of one io_submit() */
#define WAIT_USEC	10000000ull	/* without --timeout */

/* fs/aio.c */
struct aio_ring {
	uint32_t id, nr, head, tail, magic, compat_features, incompat_features, header_length;
};

bool aio_ring_is_sane(const void *ring, uint64_t bytes)
{
	const struct aio_ring *r = ring;

	return bytes >= PAGE_BYTES && bytes <= RING_BYTES_MAX && r->magic == RING_MAGIC &&
	       r->header_length == sizeof(*r) && !r->incompat_features &&
	       r->nr == (bytes - sizeof(*r)) / sizeof(struct io_event) && r->head < r->nr &&
	       r->tail < r->nr;
}

struct in_flight {
	uint64_t slots, tail;	/* of the ring */
	uint64_t requests;
	bool polls;		/* some of them are: those end when somebody else acts */
};

/* The context whose ring lies at addr, 0 if none does. */
static int context_find(struct peek *pk, pid_t pid, uint64_t addr, uint64_t *ret)
{
	uint64_t task, mm, table = 0, slots = 0, n = 0, id;
	int r;

	*ret = 0;
	r = peek_task(pk, pid, &task);
	if (r >= 0)
		r = peek_member(pk, task, "task_struct", "mm", 8, &mm);
	if (r >= 0)
		r = peek_member(pk, mm, "mm_struct", "ioctx_table", 8, &table);
	if (r < 0 || !table)
		return r;
	r = peek_member(pk, table, "kioctx_table", "nr", 4, &n);
	if (r >= 0)
		r = peek_inside(pk, table, "kioctx_table", "table", &slots);
	for (uint64_t i = 0; i < n && r >= 0; i++) {
		uint64_t kioctx;

		r = peek_word(pk, slots + i * 8, &kioctx);
		if (r < 0 || !kioctx)
			continue;
		r = peek_member(pk, kioctx, "kioctx", "user_id", 8, &id);
		if (r < 0 || id != addr)
			continue;
		*ret = kioctx;
		return 0;
	}
	return r;
}

static int context_read(struct peek *pk, uint64_t kioctx, struct in_flight *ret)
{
	uint64_t slots, available, completed, percpu, polls, first, at, n, tail = 0;
	int r;

	r = peek_member(pk, kioctx, "kioctx", "nr_events", 4, &slots);
	if (r >= 0)
		r = peek_member(pk, kioctx, "kioctx", "reqs_available", 4, &available);
	if (r >= 0)
		r = peek_member(pk, kioctx, "kioctx", "completed_events", 4, &completed);
	if (r >= 0)
		r = peek_member(pk, kioctx, "kioctx", "cpu", 8, &percpu);
	if (r >= 0)
		r = peek_inside(pk, kioctx, "kioctx", "active_reqs", &polls);
	if (r >= 0)
		r = peek_word(pk, polls, &first);
	for (unsigned int cpu = 0; r >= 0; cpu++) {
		r = peek_percpu(pk, percpu, cpu, &at);
		if (r == -ENXIO)
			break;
		if (r >= 0)
			r = peek_member(pk, at, "kioctx_cpu", "reqs_available", 4, &n);
		if (r >= 0)
			available += n;
	}
	/* Last: see context_wait(). */
	if (r == -ENXIO)
		r = peek_member(pk, kioctx, "kioctx", "tail", 4, &tail);
	if (r < 0)
		return r;
	*ret = (struct in_flight){ slots, tail, slots - 1 - available - completed, first != polls };
	return 0;
}

/*
 * Until nothing is in flight, or only what does not end by itself, or time is up. A request that
 * ends while the numbers are read may be counted twice; nothing is in flight when that was read
 * twice and no event came in between.
 */
static int context_wait(struct dump_ctx *ctx, struct peek *pk, uint64_t kioctx,
			struct in_flight *ret)
{
	uint64_t left = ctx->opts->timeout_usec ? ctx->opts->timeout_usec : WAIT_USEC;
	struct in_flight last = { .requests = 1 };
	uint64_t usec = 200;
	int r;

	for (;; last = *ret) {
		struct timespec ts = { 0, (long)usec * 1000 };

		r = context_read(pk, kioctx, ret);
		if (r < 0 || (ret->polls && ret->requests) || !left ||
		    (!ret->requests && !last.requests && ret->tail == last.tail))
			return r;
		r = dump_check_cancelled(ctx);
		if (r < 0)
			return r;
		nanosleep(&ts, NULL);
		left -= MIN(left, usec);
		usec = MIN(usec * 2, (uint64_t)50000);
	}
}

/* nr: events that the ring has room for, as its header says. */
static int ring_check(struct dump_ctx *ctx, struct dump_process *p, struct peek *pk,
		      const struct vma *v, uint32_t nr)
{
	struct in_flight fl;
	uint64_t kioctx;
	int r;

	r = context_find(pk, p->pid, v->start, &kioctx);
	if (r < 0)
		return log_err(r, "cannot find AIO context 0x%lx in the kernel", v->start);
	if (!kioctx)
		return log_obstacle("have the child unmap it, or set it up after the fork",
				    "memory at 0x%lx-0x%lx is the AIO ring of another process, mapped since a fork",
				    v->start, v->end);
	r = context_wait(ctx, pk, kioctx, &fl);
	if (r >= 0 && fl.slots != nr)
		r = -ENODATA;	/* structures that are not what they were when this was written */
	if (r == -ECANCELED)
		return r;
	if (r < 0)
		return log_err(r, "cannot read AIO context 0x%lx in the kernel", v->start);
	if (fl.requests)
		return log_obstacle(fl.polls ? "have the program use epoll instead of IOCB_CMD_POLL" :
					       "try again when the disk has caught up",
				    "AIO context 0x%lx: requests in flight: %ld%s", v->start,
				    fl.requests, fl.polls ? ", polls (IOCB_CMD_POLL) among them" : "");
	return 0;
}

static int ring_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th,
		     struct peek *pk, const struct vma *v)
{
	MmEntry *mm = part_mm(ctx, p);
	struct aio_ring ring;
	AioRingEntry **e;
	int r;

	r = remote_read(&th->task, v->start, &ring, sizeof(ring));
	if (r < 0)
		return log_err(r, "cannot read the AIO ring at 0x%lx", v->start);
	if (!aio_ring_is_sane(&ring, v->end - v->start))
		return log_obstacle("close it before",
				    "the AIO ring at 0x%lx-0x%lx is mapped in part, or damaged",
				    v->start, v->end);
	r = ring_check(ctx, p, pk, v, ring.nr);
	if (r < 0)
		return r;
	e = mm ? ARENA_PUSH(&ctx->arena, mm->aios, mm->n_aios) : NULL;
	if (e)
		*e = ARENA_MSG(&ctx->arena, AioRingEntry, aio_ring_entry);
	if (!e || !*e)
		return log_err(-ENOMEM, "AIO ring");
	(*e)->id = v->start;
	(*e)->nr_req = (ring.nr - 2) / 2;
	(*e)->ring_len = (uint32_t)(v->end - v->start);
	return 0;
}

static int aio_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	struct peek *pk;
	int refused = 0, r;

	for (size_t i = 0; i < p->n_vmas; i++) {
		const struct vma *v = &p->vmas[i];

		if (!(v->status & VMA_AIORING))
			continue;
		r = dump_peek(ctx, &pk);
		if (r == -EOPNOTSUPP)
			return log_obstacle("switch AIO off in the service, or run as root with CAP_BPF and "
					    "CAP_PERFMON on Linux >= 6.1 with BTF",
					    "memory at 0x%lx-0x%lx is an AIO ring, and this kernel does not tell "
					    "whether requests are in flight", v->start, v->end);
		if (r >= 0)
			r = ring_dump(ctx, p, th, pk, v);
		if (r < 0 && r != -EOPNOTSUPP)
			return r;
		refused = r < 0 ? r : refused;
	}
	return refused;
}

int aio_check(const struct restore_process *p)
{
	const MmEntry *mm = p->mm;
	size_t n = 0;

	for (size_t i = 0; i < mm->n_vmas; i++) {
		const VmaEntry *v = mm->vmas[i];
		const AioRingEntry *e = n < mm->n_aios ? mm->aios[n] : NULL;

		if (!(v->status & VMA_AIORING))
			continue;
		if (!e || e->id != v->start || e->ring_len != v->end - v->start ||
		    e->ring_len > RING_BYTES_MAX || !e->nr_req || v->status != VMA_AIORING)
			return part_bad("mm-%u.img: AIO ring 0x%lx-0x%lx and its entry differ",
					p->pst->pid, v->start, v->end);
		n++;
	}
	return n == mm->n_aios ? 0 : part_bad("mm-%u.img: more AIO contexts than rings", p->pst->pid);
}

/* n requests that end at once (reading nothing from t_fd); their events taken out or left. */
static int ring_turn(struct task *t, struct batch *b, const AioRingEntry *e, int t_fd, uint32_t n,
		     bool take)
{
	struct iocb iocb = { .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)t_fd };
	uint32_t chunk = MIN(CHUNK_MAX, e->nr_req);
	uint64_t t_events, t_now, t_iocbs, same[CHUNK_MAX];
	int r = 0;

	while (n && r >= 0) {
		batch_begin(b, t);
		t_events = batch_put(b, NULL, chunk * sizeof(struct io_event));
		t_now = batch_put(b, NULL, sizeof(struct timespec));
		t_iocbs = batch_put(b, &iocb, sizeof(iocb));
		for (size_t i = 0; i < chunk; i++)
			same[i] = t_iocbs;
		t_iocbs = batch_put(b, same, chunk * sizeof(*same));
		while (n && batch_room_calls(b) >= 2) {
			uint32_t k = MIN(n, chunk);

			batch_call(b, SYS_io_submit, e->id, k, t_iocbs);
			if (take)
				batch_call(b, SYS_io_getevents, e->id, k, k, t_events, t_now);
			n -= k;
		}
		r = batch_run(b);
	}
	return r;
}

/* Head, tail and what the kernel keeps behind them, as in was. */
static int ring_advance(struct task *t, struct batch *b, const AioRingEntry *e,
			const struct aio_ring *was)
{
	struct aio_ring is;
	int call, t_fd, r;

	batch_begin(b, t);
	call = batch_call(b, SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = batch_run(b);
	if (r < 0)
		return r;
	t_fd = (int)batch_ret(b, call);
	r = ring_turn(t, b, e, t_fd, was->head, true);
	if (r >= 0)
		r = ring_turn(t, b, e, t_fd, (was->tail + was->nr - was->head) % was->nr, false);
	if (r < 0)
		return r;
	batch_begin(b, t);
	batch_call(b, SYS_close, t_fd);
	r = batch_run(b);
	if (r >= 0)
		r = remote_read(t, e->id, &is, sizeof(is));
	if (r < 0)
		return r;
	if (is.head != was->head || is.tail != was->tail)
		return log_fail(-EIO, "AIO context 0x%lx stands at %u-%u, not at %u-%u", e->id, is.head,
				is.tail, was->head, was->tail);
	return 0;
}

/* A context with a ring of just this size, at the saved one's place. */
static int ring_make(struct task *t, struct batch *b, const AioRingEntry *e,
		     const struct aio_ring *was)
{
	struct aio_ring is;
	uint64_t t_id, id;
	int call, r;

	batch_begin(b, t);
	t_id = batch_put(b, NULL, sizeof(id));
	call = batch_try(b, SYS_io_setup, e->nr_req, t_id);
	r = batch_run(b);
	if (r >= 0 && batch_ret(b, call) < 0)
		return log_err((int)batch_ret(b, call),
			       "cannot set up an AIO context for %u requests (fs.aio-max-nr?)",
			       e->nr_req);
	if (r < 0)
		return r;
	memcpy(&id, batch_data(b, t_id), sizeof(id));
	r = remote_read(t, id, &is, sizeof(is));
	if (r < 0)
		return log_err(r, "cannot read the new AIO ring");
	/* It has room for four requests a processor that could be there, at least. */
	if (is.nr != was->nr)
		return log_fail(-EOPNOTSUPP, "the AIO ring at 0x%lx has room for %u events, on this machine "
				"(with more processors) it would have %u", e->id, was->nr, is.nr);
	batch_begin(b, t);
	batch_call(b, SYS_mremap, id, e->ring_len, e->ring_len, MREMAP_MAYMOVE | MREMAP_FIXED, e->id);
	return batch_run(b);
}

static int ring_restore(struct task *t, struct batch *b, const AioRingEntry *e)
{
	_cleanup_free_ uint8_t *saved = malloc(e->ring_len);
	const struct aio_ring *was = (const void *)saved;
	int r;

	if (!saved)
		return -ENOMEM;
	r = remote_read(t, e->id, saved, e->ring_len);
	if (r < 0)
		return log_err(r, "cannot read the saved AIO ring at 0x%lx", e->id);
	if (!aio_ring_is_sane(was, e->ring_len))
		return part_bad("the saved AIO ring at 0x%lx is damaged", e->id);
	r = ring_make(t, b, e, was);
	if (r >= 0)
		r = ring_advance(t, b, e, was);
	if (r >= 0)
		r = remote_write(t, e->id + sizeof(*was), saved + sizeof(*was),
				 e->ring_len - sizeof(*was));
	return r < 0 ? log_err(r, "cannot restore AIO context 0x%lx", e->id) : 0;
}

static int aio_restore_calls(struct restore_ctx *ctx _unused_, struct restore_process *p,
			     struct restore_thread *th, struct batch *b)
{
	int r;

	if (!p->mm || !p->mm->n_aios)
		return 0;
	r = batch_run(b);
	for (size_t i = 0; r >= 0 && i < p->mm->n_aios; i++)
		r = ring_restore(&th->task, b, p->mm->aios[i]);
	batch_begin(b, &th->task);
	return r;
}

const struct task_part part_aio = {
	.name		= "AIO contexts",
	.leader_only	= true,
	.stage		= STAGE_STATE,
	.dump		= aio_dump,
	.restore_calls	= aio_restore_calls,
};
