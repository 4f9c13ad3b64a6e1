/*
 * See parallel.h. The trap: a thread that cannot be had is no error, the others do its work.
 * Signals stay with the caller's thread: they may have to end it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "util/parallel.h"

struct job {
	piece_fn fn;
	void *arg;
	uint64_t bytes;
	size_t piece;
	_Atomic uint64_t next;
	_Atomic int error;
	uint8_t *refused;	/* by piece: for the caller's thread */
};

struct worker {
	struct job *job;
	unsigned int number;
	pthread_t thread;
};

static int do_piece(struct job *j, unsigned int worker, uint64_t off)
{
	return j->fn(j->arg, worker, off, (size_t)MIN(j->bytes - off, (uint64_t)j->piece));
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct job *j = w->job;

	while (!atomic_load(&j->error)) {
		uint64_t off = atomic_fetch_add(&j->next, j->piece);
		int none = 0, r;

		if (off >= j->bytes)
			break;
		r = do_piece(j, w->number, off);
		if (r == -EIO && w->number)
			j->refused[off / j->piece] = 1;
		else if (r < 0)
			atomic_compare_exchange_strong(&j->error, &none, r);
	}
	return NULL;
}

/* What the helpers were refused. */
static int redo(struct job *j, uint64_t pieces)
{
	int r = atomic_load(&j->error);

	for (uint64_t i = 0; i < pieces && r >= 0; i++)
		if (j->refused[i])
			r = do_piece(j, 0, i * j->piece);
	return r;
}

static unsigned int workers_wanted(uint64_t pieces)
{
	unsigned int n = 1;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = (unsigned int)CPU_COUNT(&set);
	return (unsigned int)MIN(MIN((uint64_t)n, pieces), (uint64_t)PARALLEL_WORKERS_MAX);
}

int parallel(uint64_t bytes, size_t piece, piece_fn fn, void *arg)
{
	struct job j = { .fn = fn, .arg = arg, .bytes = bytes, .piece = piece };
	struct worker w[PARALLEL_WORKERS_MAX];
	uint64_t pieces = (bytes + piece - 1) / piece;
	unsigned int wanted = workers_wanted(pieces), n = 1;
	sigset_t all, old;
	int r;

	/* Most are small. */
	if (pieces <= 1)
		return bytes ? MIN(fn(arg, 0, 0, (size_t)bytes), 0) : 0;
	j.refused = calloc(pieces + 1, 1);
	if (!j.refused)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	for (; n < wanted; n++) {
		w[n] = (struct worker){ .job = &j, .number = n };
		if (pthread_create(&w[n].thread, NULL, work, &w[n]))
			break;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	w[0] = (struct worker){ .job = &j };
	work(&w[0]);
	for (unsigned int i = 1; i < n; i++)
		pthread_join(w[i].thread, NULL);
	r = redo(&j, pieces);
	free(j.refused);
	return r;
}
