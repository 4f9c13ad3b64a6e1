/*
 * Tasks that have ended while we trace them. Until we have reaped them the kernel tells nobody of a main thread's end
 * (its other threads; delay_group_leader() in kernel/exit.c), does not let the first process of a PID namespace end (all
 * in there; zap_pid_ns_processes()), nor a thread execute a program, which holds what PTRACE_SEIZE of its siblings waits
 * for (ptrace(2), "execve(2) under ptrace").
 */
#ifndef CR_REMOTE_REAPER_H
#define CR_REMOTE_REAPER_H

#include <sys/types.h>

#include "util/macro.h"

/* One that we trace, a dump's; until reaper_forget_all(), when none is left. -ENOMEM. */
int reaper_know(pid_t tid) _must_check_;
void reaper_forget_all(void);
/* Reaps those that have ended; to others, waitpid(2) says ECHILD then. But one: it is waited for. Async-signal-safe. */
void reaper_look(pid_t but);
/*
 * The same every 50 ms from here to reaper_end(), by a signal (SIGRTMIN) that interrupts a wait (EINTR), for one that
 * nothing else does. One at a time, in one thread; a forked child may do so, too.
 */
void reaper_begin(pid_t tid);
void reaper_end(void);

#endif
