/*
 * Threads that have ended while we trace them. Until all others of a process are reaped, by us, the kernel
 * tells nobody of its main thread's end (delay_group_leader() in kernel/exit.c), and a thread that executes a program
 * waits for it, holding what PTRACE_SEIZE of its siblings waits for (ptrace(2), "execve(2) under ptrace").
 */
#ifndef CR_REMOTE_REAPER_H
#define CR_REMOTE_REAPER_H

#include <sys/types.h>

/*
 * Reaps who has ended of the process that tid is a thread of, but tid itself: that is who is waited for. To others,
 * waitpid(2) says ECHILD then. Async-signal-safe.
 */
void reaper_look(pid_t tid);
/*
 * The same every 50 ms from here to reaper_end(), by a signal (SIGRTMIN), for a wait that nothing else interrupts. One
 * at a time, in one thread; a forked child may do so, too.
 */
void reaper_begin(pid_t tid);
void reaper_end(void);

#endif
