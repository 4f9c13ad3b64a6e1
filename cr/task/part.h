/*
 * A part of a task's state that is not a descriptor: credentials, timers, signal handlers,
 * scheduling ... One part, one file, one line in task/table.c. All parts of a thread share
 * one batch on dump and one per stage on restore.
 */
#ifndef CR_TASK_PART_H
#define CR_TASK_PART_H

#include "core/dump.h"
#include "core/restore.h"

enum part_stage {
	/* Memory and descriptors are in place, threads exist, still root with all capabilities. */
	STAGE_STATE,
	/*
	 * The whole tree stands. What runs by the clock (itimers, posix timers), pending signals;
	 * then credentials, no_new_privs, seccomp: nothing privileged works after those.
	 */
	STAGE_LATE,
};

struct task_part {
	const char *name;
	bool leader_only;		/* process-wide state */
	enum part_stage stage;

	/* Reads from outside (/proc, ptrace) into th->core. Optional. */
	int (*dump)(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th);
	/*
	 * Adds calls to the thread's batch; *cookie is handed to dump_results() after it ran.
	 * Both or none.
	 */
	int (*dump_calls)(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th,
			  struct batch *b, void **cookie);
	int (*dump_results)(struct dump_ctx *ctx, struct dump_process *p,
			    struct dump_thread *th, struct batch *b, void *cookie);
	/*
	 * Adds calls that give the task this state. Optional. b has room for at least 256 calls
	 * and 64 KiB; beyond that batch_make_room().
	 */
	int (*restore_calls)(struct restore_ctx *ctx, struct restore_process *p,
			     struct restore_thread *th, struct batch *b);
	/* After the stub is gone: by ptrace only (masks, registers). Optional. */
	int (*finish)(struct restore_ctx *ctx, struct restore_process *p,
		      struct restore_thread *th);
};

/* NULL-terminated, in order of restore. */
extern const struct task_part *const task_parts[];

static inline bool part_is_for_leader(const struct task_part *tp, bool is_leader)
{
	return is_leader || !tp->leader_only;
}

#endif
