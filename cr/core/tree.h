/* The tree of a dump: found, stopped, let go. */
#ifndef CR_CORE_TREE_H
#define CR_CORE_TREE_H

#include "core/dump.h"

/* Before anything is stopped or removed: the roots are there, and we are in none of their trees. */
int tree_look(const struct dump_ctx *ctx) _must_check_;
/*
 * Freezes opts->freeze_cgroup if there is one, then finds and stops every thread of every
 * descendant of opts->pid. Afterwards all stand in ptrace stops, registers and masks are read,
 * and the cgroup is thawed so that batches can run.
 */
int tree_seize(struct dump_ctx *ctx) _must_check_;
/*
 * The other way: registers and masks back, everything detached, in the state asked for. Also
 * after a failure (state CR_LEAVE_RUNNING then): a cgroup that was frozen before stays frozen.
 */
int tree_release(struct dump_ctx *ctx, enum cr_final_state state) _must_check_;

/* How long tasks may take to stop, groups to freeze. */
uint64_t tree_timeout_usec(const struct dump_ctx *ctx);

#endif
