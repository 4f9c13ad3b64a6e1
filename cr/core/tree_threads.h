/* The threads of one process of a dump, while the tree is being stopped (tree.c). */
#ifndef CR_CORE_TREE_THREADS_H
#define CR_CORE_TREE_THREADS_H

#include "core/dump.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD	O_EXCL
#endif

/* A thread that lives, of a process whose main thread has ended. 0: there is none. */
pid_t thread_alive(pid_t pid);
/*
 * What is asked of a process is asked of its main thread; when that is a zombie it has no memory
 * and no files any more, the others have. Before Linux 6.9 an obstacle.
 */
int process_open_thread(struct dump_process *p, pid_t tid) _must_check_;

/* All of them, the main one first in p->threads. -ESRCH: the process has ended. Others are logged. */
int threads_seize(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* Those that it has besides the ones we know, behind them. */
int threads_seize_new(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/*
 * ctx->stop_on_thaw, when the group has thawed: all that were told to stop, and who was not told. failed: only
 * the former, so that they can be let go. Who has ended is left out.
 */
int threads_wait(struct dump_ctx *ctx, struct dump_process *p, bool failed) _must_check_;

/* The i-th thread, which was let run, has ended before it stopped again; others live. */
int thread_lost(struct dump_process *p, size_t i) _must_check_;
/* One that was ending has ended, with all its threads. Its parent stands still, so a zombie is left. */
int process_lost(struct dump_process *p) _must_check_;

/*
 * For a look that has found something: -EOPNOTSUPP (logged) if it was one of many (looks: how many so far), and later
 * than until_usec (CLOCK_MONOTONIC). Else 0: look again.
 */
int tree_too_fast(pid_t pid, unsigned int looks, uint64_t until_usec) _must_check_;
/* Of a task that does not stop: is it a call that makes children it is in? */
bool task_waits_for_vfork(const struct dump_process *p, pid_t tid);
/* Says that it stands in a frozen v1 group that was not given. */
int task_frozen_obstacle(pid_t tid);
/* Says that r (EPERM, EACCES) is all that the kernel tells of it. */
int task_forbidden_obstacle(pid_t tid, int r);

#endif
