/* The processes of a control group, by who is whose child. */
#ifndef CRKEXEC_TREE_H
#define CRKEXEC_TREE_H

#include "crkexec/unit.h"
#include "kernel/mountinfo.h"

/*
 * All processes in the group and the groups below it; n_pids is 0 where there are none. A process
 * whose parent is not among them is a root: daemons that a service has left to PID 1. They are one
 * tree for us, for they may have a session, pipes or memory in common.
 */
int tree_find(const char *cgroup_dir, struct unit_tree *ret) _must_check_;
void tree_done(struct unit_tree *t);

/* From /proc/PID/stat text, which may hold any name in its parentheses. */
int stat_parse_ppid(const char *text, pid_t *ret) _must_check_;

/* fn for each descriptor that is open in pid; -ESRCH when it ended. */
typedef int (*tree_fd_fn)(void *arg, pid_t pid, int fd, const char *link);
int pid_each_fd(pid_t pid, tree_fd_fn fn, void *arg) _must_check_;

/* Calls fn for every process; stops at the first negative result. */
int tree_each_pid(const struct unit_tree *t, int (*fn)(void *arg, pid_t pid), void *arg)
	_must_check_;
/* The same for every descriptor of every process. Processes that ended are passed over. */
int tree_each_fd(const struct unit_tree *t, tree_fd_fn fn, void *arg) _must_check_;

/* tree_files.c */
struct file_place {
	pid_t pid;
	const char *what;		/* "cwd", "fd 5 (/srv/x)", "mapping /srv/x" */
	const struct mount *mount;	/* of the process's mount namespace, */
	bool hosts;			/* or of PID 1's, or the two are one */
};
typedef int (*file_place_fn)(void *arg, const struct file_place *p);
/*
 * fn for each mount that a process has an executable, directories, descriptors or mappings on: once
 * for each process, with the first that was found. Processes that ended are passed over.
 */
int tree_each_file_place(const struct unit_tree *t, file_place_fn fn, void *arg) _must_check_;

#endif
