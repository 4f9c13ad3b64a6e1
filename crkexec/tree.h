/* The processes of a control group, by who is whose child. */
#ifndef CRKEXEC_TREE_H
#define CRKEXEC_TREE_H

#include "crkexec/unit.h"

/*
 * All processes in the group and the groups below it. A process whose parent is not among
 * them is a root: daemons that a service has left to PID 1. They are one tree for us (*ret_n is 0
 * or 1), for they may have a session, pipes or memory in common. The caller frees the array and
 * its pids.
 */
int trees_find(const char *cgroup_dir, struct unit_tree **ret, size_t *ret_n) _must_check_;

/* From /proc/PID/stat text, which may hold any name in its parentheses. */
int stat_parse_ppid(const char *text, pid_t *ret) _must_check_;

/* fn for each descriptor that is open in pid; -ESRCH when it ended. */
typedef int (*tree_fd_fn)(void *arg, pid_t pid, int fd, const char *link);
int pid_each_fd(pid_t pid, tree_fd_fn fn, void *arg) _must_check_;

/* Calls fn for every process of every tree of the unit; stops at the first negative result. */
int unit_each_pid(const struct unit *un, int (*fn)(void *arg, pid_t pid), void *arg)
	_must_check_;
/* The same for every descriptor of every process. Processes that ended are passed over. */
int unit_each_fd(const struct unit *un, tree_fd_fn fn, void *arg) _must_check_;

#endif
