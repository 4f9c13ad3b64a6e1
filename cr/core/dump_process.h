/* One process of a dump; see dump.c for the order of the steps over the tree. */
#ifndef CR_CORE_DUMP_PROCESS_H
#define CR_CORE_DUMP_PROCESS_H

#include "core/dump.h"

/* Ids of its namespaces and shared structures. */
int dump_process_collect(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/*
 * thread_shares.c: notes what p and its threads have in common with others and each other. -EOPNOTSUPP:
 * what could not be made again.
 */
int process_check_shares(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
int threads_check_shares(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* sessions.c: -EOPNOTSUPP if restore could not make the tree's sessions and groups again. */
int sessions_check(struct dump_ctx *ctx) _must_check_;
/* hugepages.c: what the system's pools have to spare. */
int dump_huge_pools(struct dump_ctx *ctx, InventoryEntry *inv) _must_check_;
/*
 * Pre-dump: areas, threads ready to go on, tracking of memory made possible. Opens p->remote's
 * memory.
 */
int dump_process_track(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* Threads, areas, descriptors: everything but page contents. */
int dump_process_state(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
int dump_process_memory(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* ids, mm, core images, when all later steps have filled them. */
int dump_process_write(struct dump_ctx *ctx, struct dump_process *p) _must_check_;

#endif
