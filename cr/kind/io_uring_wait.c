/*
 * Requests that end by themselves are given the time to. A stopped thread does not do the last
 * step of what was completed for it: batches run it, and io_uring_enter() of nothing runs what
 * waits for a call of the only thread that may submit (IORING_SETUP_DEFER_TASKRUN).
 *
 * What waits for others (polls, accept, time-outs) does not end; it is named when the file is
 * dumped.
 *
 * What is a thread's and no ring's is refused here: ring descriptors that it has registered with
 * itself, so that the kernel need not look them up.
 */
#include <sys/syscall.h>
#include <time.h>

#include "kind/io_uring.h"
#include "task/uring_fds.h"
#include "task/vma.h"

#define WAIT_USEC	1000000ull	/* the service stands still meanwhile */
#define ENTER_GETEVENTS	1u

static bool maps_a_ring(const struct dump_process *p)
{
	for (size_t i = 0; i < p->n_vmas; i++)
		if (p->vmas[i].status & VMA_EXT)
			return true;
	return false;
}

static int thread_push(struct dump_thread *th, const struct uring_fd *rings, size_t n)
{
	static struct batch b;
	int r = 0;

	batch_begin(&b, &th->task);
	batch_call(&b, SYS_sched_yield);
	for (size_t i = 0; i < n && r >= 0; i++) {
		r = batch_make_room(&b, 1, 0);
		if (r >= 0)
			batch_try(&b, SYS_io_uring_enter, rings[i].t_fd, 0, 0, ENTER_GETEVENTS, 0, 0);
	}
	return r < 0 ? r : batch_run(&b);
}

static int check_registered(struct peek *pk, const struct dump_process *p)
{
	int refused = 0;

	for (size_t i = 0; i < p->n_threads; i++) {
		uint64_t task;
		bool has = false;
		int r = peek_task(pk, p->threads[i].task.tid, &task);

		if (r >= 0)
			r = uring_task_has_registered(pk, task, &has);
		if (r < 0)
			return log_err(r, "cannot look for its io_uring descriptors");
		if (has)
			refused = log_obstacle("have the program do without (liburing: no io_uring_register_ring_fd()), or start it with io_uring off",
					       "thread %d has registered the descriptor of an io_uring",
					       p->threads[i].task.tid);
	}
	return refused;
}

int uring_settle(struct dump_ctx *ctx, struct dump_process *p)
{
	struct peek *pk;
	const struct timespec ts = { 0, 2000000 };
	const struct uring_fd *rings;
	uint64_t left = WAIT_USEC, n, task;
	size_t n_rings;
	bool busy;
	int r;

	/* Without a look into the kernel the dump of the file says so. */
	if (!maps_a_ring(p) || dump_peek(ctx, &pk) < 0)
		return 0;
	r = check_registered(pk, p);
	if (r >= 0)
		r = uring_fds(ctx, p, &rings, &n_rings);
	if (r < 0)
		return r;
	do {
		busy = false;
		for (size_t i = 0; i < p->n_threads; i++) {
			r = peek_task(pk, p->threads[i].task.tid, &task);
			if (r >= 0)
				r = uring_task_in_flight(pk, task, &n);
			if (r == -ENODATA)
				return 0;
			if (r >= 0 && n)
				r = thread_push(&p->threads[i], rings, n_rings);
			if (r < 0)
				return log_err(r, "cannot wait for its io_uring requests");
			busy = busy || n;
		}
		r = busy ? dump_check_cancelled(ctx) : 0;
		if (r < 0)
			return r;
		if (busy)
			nanosleep(&ts, NULL);
		left -= 2000;
	} while (busy && left);
	return 0;
}
