/*
 * /proc/PID/task/TID/status: identity, credentials, signal sets of one thread.
 *
 * Ids are as the reader's user namespace shows them, capability sets as the task's own does.
 * See proc_pid_status(5).
 */
#ifndef CR_KERNEL_STATUS_H
#define CR_KERNEL_STATUS_H

#include <stdbool.h>
#include <sys/types.h>

#include "util/macro.h"

#define STATUS_NS_MAX 33	/* MAX_PID_NS_LEVEL + 1 of the kernel */

/* One number for each PID namespace, from the reader's down to the task's. 0: from above that one. */
struct status_ids {
	uint32_t id[STATUS_NS_MAX];
	size_t n;
};

struct proc_status {
	char state;			/* 'R', 'S', 'T', 't', 'Z' ... */
	uint32_t umask;
	bool has_umask;			/* a zombie has none */
	pid_t tgid, pid, ppid, tracer_pid;
	uint32_t uid[4], gid[4];	/* real, effective, saved, filesystem */
	uint32_t *groups;
	size_t n_groups;
	struct status_ids ns_pid, ns_pgid, ns_sid;
	uint32_t threads;
	uint64_t locked_kib;		/* VmLck: of its whole process */
	uint64_t sig_pnd, shd_pnd, sig_blk, sig_ign, sig_cgt;
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	uint32_t no_new_privs, seccomp;	/* seccomp: 0 off, 1 strict, 2 filters */
};

/*
 * Fields that a kernel does not print stay zero; what every supported kernel prints (ids,
 * signal and capability sets) must be there: -ENODATA. -EBADMSG: not the expected text.
 */
int proc_status_parse(const char *text, struct proc_status *ret) _must_check_;
/* proc_fd: a descriptor of /proc/PID. tid: one of its threads. */
int proc_status_read(int proc_fd, pid_t tid, struct proc_status *ret) _must_check_;
void proc_status_done(struct proc_status *st);
#define _cleanup_proc_status_ _cleanup_(proc_status_done)

#endif
