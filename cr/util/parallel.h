/* One range of bytes, worked on in pieces by as many threads as there are processors. */
#ifndef CR_UTIL_PARALLEL_H
#define CR_UTIL_PARALLEL_H

#include <stddef.h>
#include <stdint.h>

#include "util/macro.h"

#define PARALLEL_WORKERS_MAX 8u

/*
 * Does n bytes at off. Called from several threads at once; worker counts from 0, which is the
 * caller's own thread: only that one may log, and only that one is the tasks' tracer. A piece that
 * another is refused with -EIO is done again by worker 0: since Linux 6.12 (CONFIG_PROC_MEM_FORCE_PTRACE)
 * /proc/PID/mem lets nobody else write to read-only memory, or read where the task may not.
 */
typedef int (*piece_fn)(void *arg, unsigned int worker, uint64_t off, size_t n);

/* Returns when no thread is left; the first error, after which no new piece is begun. */
int parallel(uint64_t bytes, size_t piece, piece_fn fn, void *arg) _must_check_;

#endif
