/*
 * Pids as the tree sees them. Those of a tree in a PID namespace of its own, below ours, go to the
 * images as that one shows them, as do its sessions and groups; ours are only how we reach it.
 */
#ifndef CR_CORE_PIDS_H
#define CR_CORE_PIDS_H

#include "core/dump.h"
#include "core/lineage.h"

/* ctx->pid_level from the root's /proc directory: how many namespaces below ours it is. */
int pids_find_level(struct dump_ctx *ctx, pid_t pid, int proc_fd) _must_check_;
/* pid_virtual, pgid and sid of a process, read at ctx->pid_level. 0: made outside of the namespace. */
int pids_of_process(struct dump_process *p) _must_check_;
int pids_of_thread(const struct dump_process *p, pid_t tid, uint32_t *ret) _must_check_;

/* Where p's PID namespace is, for the lineage. */
int pids_place(struct dump_process *p, struct pid_place *ret) _must_check_;
/*
 * Into e, whose threads are filled in: what its ids are in all PID namespaces from ours on. Nothing where
 * all of the tree is in ours.
 */
int pids_dump_numbers(struct dump_process *p, PstreeEntry *e) _must_check_;

/* What is the tree's: a process, one of its threads, a process group. 0: not of the tree. */
uint32_t dump_pid_virtual(struct dump_ctx *ctx, pid_t pid);
uint32_t dump_pgid_virtual(struct dump_ctx *ctx, pid_t pgid);
/* A process by its pid in the images. */
struct dump_process *dump_process_find_virtual(struct dump_ctx *ctx, uint32_t pid);

/*
 * For what the kernel tells by pid, also of processes that have ended: fn asks from inside the tree's
 * PID namespace, in a task that shares our memory and descriptors and ends with it. Returns its result.
 */
int dump_ask_inside(struct dump_ctx *ctx, int (*fn)(void *arg), void *arg) _must_check_;

#endif
