/* The steps of a restore; restore.c has their order. */
#ifndef CR_CORE_RESTORE_STEPS_H
#define CR_CORE_RESTORE_STEPS_H

#include "core/restore.h"

/* restore_load.c: inventory, pstree, core, ids, mm, fs, fdinfo; all checked; pids free. */
int restore_load(struct restore_ctx *ctx) _must_check_;
/* restore_lineage.c: a plan who makes whom; makes a restore_process for each helper. */
int restore_lineage(struct restore_ctx *ctx) _must_check_;

/* restore_shares.c: who has its parent's descriptors. -EOPNOTSUPP: who shares what else. */
int restore_shares(struct restore_ctx *ctx) _must_check_;

/* hugepages.c: the system's pool gets as large as the images need it. */
int restore_huge_pages(struct restore_ctx *ctx) _must_check_;
/* Takes back what nobody uses; all of it after a failure, when the tasks are gone. */
void restore_huge_pages_end(struct restore_ctx *ctx, bool failed);

/* restore_seed.c: p's task, made by the engine; p->remote and threads are there. */
int restore_seed(struct restore_ctx *ctx, struct restore_process *p) _must_check_;

/* restore_birth.c: what its parent is told its end by. */
uint32_t restore_exit_signal(const struct restore_process *p);
/* restore_birth.c: k's task, made by its maker; its process has remote and threads. */
int restore_birth(struct restore_ctx *ctx, struct kin *k) _must_check_;
/* For one that shares the engine's zone. NULL: out of memory. */
struct remote *restore_remote(struct restore_ctx *ctx) _must_check_;
/* restore_fs.c: working directory and root, with its namespaces; when they exist, those of threads that have their own. */
int restore_fs(struct restore_ctx *ctx, struct restore_process *p) _must_check_;
int restore_fs_threads(struct restore_ctx *ctx, struct restore_process *p) _must_check_;
/* restore_threads.c: all but the main one. */
int restore_threads(struct restore_ctx *ctx, struct restore_process *p) _must_check_;

/* restore_build.c: tasks with their memory and sessions; parents before children. */
int restore_zone(struct restore_ctx *ctx) _must_check_;
/* Where the engine works; the first processes of PID namespaces, and who is above them, still empty. */
int restore_first(struct restore_ctx *ctx) _must_check_;
int restore_tasks(struct restore_ctx *ctx) _must_check_;
/* restore_lineage.c: process groups; ends helpers. */
int restore_groups(struct restore_ctx *ctx) _must_check_;
/* restore_kill.c: kills and reaps what these made. */
void restore_kill(struct restore_ctx *ctx);

/* restore_stopped.c: after all threads exist, before any signal handler does. */
int restore_stopped(struct restore_ctx *ctx) _must_check_;
/* restore_settle.c: descriptors, namespaces, threads, the parts' state. */
int restore_settle(struct restore_ctx *ctx) _must_check_;
int restore_late(struct restore_ctx *ctx) _must_check_;
/* Stubs away, registers in. */
int restore_registers(struct restore_ctx *ctx) _must_check_;
int restore_release(struct restore_ctx *ctx) _must_check_;

#endif
