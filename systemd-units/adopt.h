/* The adoption helper's parts; see adopt.c. */
#ifndef SYSTEMD_UNITS_ADOPT_H
#define SYSTEMD_UNITS_ADOPT_H

#include <stdbool.h>
#include <sys/types.h>

#include "util/macro.h"

#define ADOPTED_DIR	"/run/crkexec/adopted"

/* adopt_procs.c */
/* Processes in the control group (as in /proc/PID/cgroup) and below, without ourselves. */
int procs_of_cgroup(const char *cgroup, pid_t **ret, size_t *ret_n) _must_check_;
/* 1: runs in the group or below; 0: not, or gone. */
int proc_in_cgroup(pid_t pid, const char *cgroup) _must_check_;

/* One descriptor that leads to the file in question. */
struct held_fd {
	int t_fd;
	bool cloexec;
};
int proc_held_fds(pid_t pid, dev_t dev, ino_t ino, struct held_fd **ret, size_t *ret_n)
	_must_check_;
int proc_threads(pid_t pid, pid_t **ret, size_t *ret_n) _must_check_;

/* adopt_stdio.c */
/*
 * Moves what the file holds to our stdout, and every descriptor of the group's processes that
 * leads to the file to our stdout (their 2 to our stderr). No line is lost, none comes twice.
 * On failure all run on as before, writing to the file. The file is removed on success.
 */
int stdio_switch(const char *cgroup, const char *path) _must_check_;

/* adopt_inject.c: the process is stopped; leader is one of its threads, its remote is open. */
struct task;
int stdio_inject(struct task *leader, pid_t pid, const struct held_fd *fds, size_t n) _must_check_;

/* adopt_finish.c */
int adopt_mark(const char *unit, const char *text) _must_check_;
int adopt_run(const char *const argv[]) _must_check_;
int adopt_finish(void) _must_check_;
int adopt_cleanup(void) _must_check_;

/* adopt_tmp.c */
/* Gives private directories the present boot's id and removes our tmpfiles settings; logs. */
void adopt_tmp(void);
/* One of them; boot_id: 32 hexadecimal digits. 0 too for a path that is none. */
int adopt_rename_private(const char *path, const char *boot_id) _must_check_;

#endif
