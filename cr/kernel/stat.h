/* /proc/PID/stat: what a process is to others. See proc_pid_stat(5). */
#ifndef CR_KERNEL_STAT_H
#define CR_KERNEL_STAT_H

#include <stdbool.h>
#include <sys/types.h>

#include "util/macro.h"

struct proc_stat {
	char comm[16];
	char state;			/* of the main thread: 'R', 'S', 'T', 't', 'Z' ... */
	pid_t ppid, pgrp, session;
	dev_t tty;			/* its controlling terminal, 0: none */
	pid_t tty_pgrp;			/* and that one's foreground group, -1: none */
	unsigned int flags;		/* PF_* of include/linux/sched.h */
	unsigned int n_threads;
	/*
	 * A wait status: of a zombie; of a process that job control has stopped, 0 when its parent
	 * has been told by wait. 0 for those who may not ptrace the process.
	 */
	uint32_t exit_code;
	int exit_signal;		/* what its parent is told its end by; 0: nothing */
	uint64_t start_ticks;		/* since boot, of _SC_CLK_TCK to a second */
};

/* It has ended, or is about to: it runs nothing of its program any more. */
bool proc_stat_is_ending(const struct proc_stat *st);
/* A device number as the kernel prints it (here, and by TIOCGDEV). */
dev_t dev_of_kernel(uint32_t nr);
int proc_stat_parse(const char *text, struct proc_stat *ret) _must_check_;
/* proc_fd: a descriptor of /proc/PID. */
int proc_stat_read(int proc_fd, struct proc_stat *ret) _must_check_;
/* -ENOENT or -ESRCH: there is no such process. */
int proc_stat_of(pid_t pid, struct proc_stat *ret) _must_check_;

#endif
