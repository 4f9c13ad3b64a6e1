/*
 * The numbers of tasks that a restore makes, in their PID namespace and outside of it.
 */
#ifndef CR_CORE_RESTORE_PIDS_H
#define CR_CORE_RESTORE_PIDS_H

#include "core/restore.h"

#define PIDS_MAX	(4u << 20)	/* PID_MAX_LIMIT of the kernel */
#define SET_TID_MAX	32u		/* MAX_PID_NS_LEVEL of the kernel */

/* As clone3(2) takes them: the innermost first. n 0: any will do. */
struct set_tid {
	pid_t v[SET_TID_MAX];
	size_t n, must;			/* so many it has to have */
};

/* An entry of pstree.img is sane as to what ids are outside; after its inventory and ids. */
int restore_pids_check(struct restore_ctx *ctx, const PstreeEntry *e) _must_check_;
/* The same into the entry of a stand-in in namespace ns, for the number it has in the images. */
int restore_pids_of_helper(struct restore_ctx *ctx, PstreeEntry *e, uint32_t ns) _must_check_;
struct pid_place restore_place(const struct restore_process *p);
/* All numbers that the tree must have are free; waits for those of zombies. After the lineage. */
int restore_pids_check_free(struct restore_ctx *ctx) _must_check_;
/* A number where we are. -EEXIST names who has it. */
int restore_pid_check_free(uint32_t pid) _must_check_;

/* What a thread (0: the main one) was outside of its PID namespace. 0: it has none of its own, or unknown. */
uint32_t restore_pid_outer(const struct restore_process *p, size_t thread);
/* What a thread is to itself; a process to another one that sees it; its group to it, 0: it cannot be named. */
uint32_t restore_pid_inside(const struct restore_process *p, size_t thread);
uint32_t restore_pid_for(const struct restore_process *p, const struct restore_process *by);
uint32_t restore_pgid_inside(const struct restore_process *p, uint32_t pgid);
struct set_tid restore_set_tid(const struct restore_process *p, size_t thread);
/* Where we are, whoever leads the session that the root had from outside of its PID namespace. */
struct set_tid restore_set_tid_session(const struct restore_process *root);
/*
 * clone3() gave r: is it to be tried again, with the numbers that are left? tries: 0 at first. A number that
 * was free when the restore began may be so again, which has been waited for then: the kernel takes a task
 * off /proc and gives its number back a little later, when who reaps it is scheduled again; and some
 * short-lived process may have been faster.
 */
bool restore_set_tid_again(struct restore_ctx *ctx, struct set_tid *want, int r, unsigned int *tries);
/* Logs why a task could not be cloned and returns r. */
int restore_clone_failed(const struct set_tid *want, int r);

#endif
