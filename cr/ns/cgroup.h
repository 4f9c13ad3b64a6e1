/*
 * Control groups: who is in which, and back.
 *
 * A set is a task's membership in all hierarchies. Set 1 is the dumper's own and not stored.
 */
#ifndef CR_NS_CGROUP_H
#define CR_NS_CGROUP_H

#include "core/dump.h"
#include "core/restore.h"

/* CRIU's mode bits; struct cr_opts.cgroup_mode. */
enum cgroup_mode {
	CGROUP_IGNORE = 0,
	CGROUP_NONE = 1,
	CGROUP_PROPS = 2,
	CGROUP_SOFT = 4,
	CGROUP_FULL = 8,
	CGROUP_STRICT = 16,
};

/*
 * Sets thread_core.cg_set of every live thread's core and inventory.root_cg_set, writes
 * cgroup.img. After the cores are made, before they are written. The tree must not sit in a
 * group made only for the dump.
 */
int cgroup_dump(struct dump_ctx *ctx) _must_check_;

/* Does p stand in a group that the freezer of cgroup v1 holds? */
bool cgroup_is_frozen(const struct dump_process *p);

/* Is process pid in a group of cgroup v2 that is to stand still, or below one? It can be stopped, but not made to run calls. */
bool cgroup_is_held(pid_t pid);

/*
 * cgroup_id.c. The path, in the unified hierarchy, of the group that a socket of p is in (id: as
 * sock_diag gives it) if that is not p's own; else NULL. In the arena.
 */
int cgroup_of_socket(struct dump_ctx *ctx, const struct dump_process *p, uint64_t id, char **ret)
	_must_check_;
void cgroup_ids_done(struct dump_ctx *ctx);

/* Reads cgroup.img; makes groups and sets properties as the mode says. */
int cgroup_restore_prepare(struct restore_ctx *ctx, void **ret_state) _must_check_;
/*
 * Moves a process (before it has threads or children) into its set. from: the set it is in
 * now, that is its parent's, or 0: the engine's own.
 */
int cgroup_restore_process(struct restore_ctx *ctx, void *state, pid_t pid, uint32_t set,
			   uint32_t from) _must_check_;
/* A thread whose set differs from its leader's. */
int cgroup_restore_thread(struct restore_ctx *ctx, void *state, pid_t tid, uint32_t set,
			  uint32_t from) _must_check_;
/*
 * cgroup.procs of that path in the unified hierarchy, for whoever wants to go there; the group is
 * made if the mode allows it. The descriptor or -errno.
 */
int cgroup_restore_open_procs(void *state, const char *path) _must_check_;
/*
 * Where the cgroup namespace of p, one of the tree's own, has its roots: the calling process, a helper that
 * is to make it, goes there.
 */
int cgroup_restore_go_to_ns_root(void *state, const struct restore_process *p) _must_check_;
/* failed: groups that were made for it go. After all tasks that were in them. */
void cgroup_restore_done(void *state, bool failed);

#endif
