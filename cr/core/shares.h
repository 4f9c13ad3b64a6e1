/* Which tasks have the same memory, descriptors, working directory ... by clone(2). */
#ifndef CR_CORE_SHARES_H
#define CR_CORE_SHARES_H

#include "core/dump.h"

/* Who has one of these structures. */
struct sharer {
	struct dump_process *p;		/* the first of the tree, */
	pid_t tid;			/* by this thread, */
	pid_t outside;			/* and a process outside of it; 0: none that can be seen */
	bool told;			/* the caller's */
};

/* Fills the shares of all threads of a stopped tree. */
int shares_find(struct dump_ctx *ctx) _must_check_;
/* NULL: it has none, or nobody can tell. */
struct sharer *shares_first(const struct dump_ctx *ctx, const struct dump_thread *th, enum task_share s);

#endif
