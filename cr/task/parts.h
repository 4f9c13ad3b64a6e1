/*
 * What the parts of a task's state offer to the core beside their task_part entries, and what
 * they share among themselves.
 *
 * Order of restore (task/table.c): within STAGE_LATE a process's threads may be done in any
 * order but the leader must come first and threads[n_threads - 1] last: signal handlers are
 * set with the leader (setting one to SIG_IGN flushes what is pending), limits with the last
 * thread (RLIMIT_SIGPENDING must not hinder the requeueing of signals).
 */
#ifndef CR_TASK_PARTS_H
#define CR_TASK_PARTS_H

#include "kernel/status.h"
#include "task/part.h"

extern const struct task_part part_names, part_tid_address, part_robust_list, part_rseq,
	part_altstack, part_sigactions, part_sigpending, part_itimers, part_posix_timers,
	part_posix_timers_run, part_sched, part_cpus, part_rlimits, part_prctl, part_membarrier, part_pdeath_dumpable,
	part_proc_scores, part_umask, part_creds, part_seccomp_early, part_seccomp_last, part_aio,
	part_area_state, part_lock_future, part_pkeys, part_mempolicy, part_mdwe,
	part_io_uring, part_thread_traits, part_ldt, part_xfeatures, part_landlock, part_dispatch;

/*
 * /proc/PID/task/TID/status, read on first use, with those of all threads of the process, and kept in
 * th->status. They must be stopped already, and no batch may have run in them yet: the stub's int3 turns an ignored
 * SIGTRAP into a default one, and only this text still tells.
 */
int task_status(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th,
		const struct proc_status **ret) _must_check_;

/*
 * The thread's messages, made on first use with every required sub-message that the parts own;
 * NULL: out of memory. Whoever else fills them uses these too.
 */
TaskCoreEntry *part_tc(struct dump_ctx *ctx, struct dump_thread *th);
ThreadCoreEntry *part_thread_core(struct dump_ctx *ctx, struct dump_thread *th);
ThreadInfoX86 *part_thread_info(struct dump_ctx *ctx, struct dump_thread *th);
TaskTimersEntry *part_timers(struct dump_ctx *ctx, struct dump_thread *th);
ThreadTraitsEntry *part_traits(struct dump_ctx *ctx, struct dump_thread *th);
MmEntry *part_mm(struct dump_ctx *ctx, struct dump_process *p);

/*
 * A thread stopped inside a restartable sequence: running anything else in it would swallow the
 * abort. Moves t->regs.rip to the abort handler and clears the field in the target, as the
 * kernel would. Must be called once per thread before its first batch; t->regs is what will be
 * put back. *ret_cs (may be NULL): the section's address if it must be put back instead
 * (RSEQ_CS_FLAG_NO_RESTART_ON_SIGNAL), else 0. Returns 1 if registers changed, 0, or an error.
 */
int rseq_leave_critical_section(struct task *t, uint64_t *ret_cs) _must_check_;

/* sigpending.c: this signal waits for the process, if its queues, which were read before it came, do not say so. */
int sigpending_note_itimer(struct dump_ctx *ctx, struct dump_thread *th, int sig) _must_check_;

/* landlock.c. Where in credentials domains are, once for all threads; with ctx->peek, best while the tree runs. */
void landlock_look(struct dump_ctx *ctx);

/*
 * All filters of the tree: mode and first filter into every thread's core, the filters into
 * seccomp.img. After all threads are seized and have a core; ptrace only, no batch.
 */
int seccomp_dump(struct dump_ctx *ctx) _must_check_;

/* The kernel's struct sigaction on x86-64. */
struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

/*
 * SIGTRAP was ignored: no batch can restore that, its int3 resets it. The caller sets it by a
 * single call (rt_sigaction(SIGTRAP, t_addr of *ret_sa, 0, 8)) after the last batch.
 */
bool sigactions_trap_ignored(const CoreEntry *core, struct kernel_sigaction *ret_sa);

/* What a new task has from the engine before any part changed it. */
struct task_inherit {
	uint64_t cap_known;		/* capabilities that this kernel knows */
	uint64_t cap_prm, cap_bnd;	/* the engine's own */
	int oom_score_adj;
	uint32_t loginuid;		/* 4294967295: unset */
	bool has_loginuid;		/* the kernel has it at all */
	bool timers_by_id;		/* PR_TIMER_CREATE_RESTORE_IDS */
	uint32_t io_priority, personality;
	uint64_t timer_slack_nsec;
	uint32_t coredump_filter;
	enum { LSM_NONE, LSM_APPARMOR, LSM_SELINUX } lsm;
};
/* Read once per restore. NULL: failed, logged. */
const struct task_inherit *task_inherit(struct restore_ctx *ctx);
/* traits.c, for that. */
void traits_inherit(struct task_inherit *in);

/*
 * The engine and so all tasks on one processor, until the tasks get theirs; unpin is for the
 * engine alone: after success and failure, and where threads of it shall work.
 */
int cpus_pin(struct restore_ctx *ctx) _must_check_;
int cpus_repin(struct restore_ctx *ctx) _must_check_;
void cpus_unpin(struct restore_ctx *ctx);
/* "0-3,8": 5. 0: not a list. */
unsigned int cpu_list_count(const char *list);

/*
 * Raises the engine's own hard limits to the highest one that a process of the images has, so
 * that all tasks inherit them and only ever lower them. Before the first task is made.
 */
int rlimits_prepare(struct restore_ctx *ctx) _must_check_;

/* LSM label of a thread: task/lsm.c. *ret is NULL when there is none. */
int lsm_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th, char **ret)
	_must_check_;
/*
 * Two steps, since the file can be opened only before the credentials change and written only
 * after. Runs b. *ret_t_fd is -1 when nothing is to be done.
 */
int lsm_restore_open(struct restore_ctx *ctx, const char *label, struct batch *b, int *ret_t_fd)
	_must_check_;
int lsm_restore_write_calls(struct restore_ctx *ctx, const char *label, struct batch *b,
			    int t_fd) _must_check_;

/* aio.c. The image's rings are all there and belong to an area each: part of mem_check(). */
int aio_check(const struct restore_process *p) _must_check_;
/* The ring's header, of a mapping of so many bytes, is one that the kernel writes. */
bool aio_ring_is_sane(const void *ring, uint64_t bytes);

/* pkeys.c: are they such keys, and does a machine with this xstate (regs.h) have any? */
int pkeys_check(const struct restore_process *p, uint64_t xstate) _must_check_;
/* The image's protection keys in a task that has its parent's, before it maps anything. */
int pkeys_restore(struct restore_process *p, struct batch *b) _must_check_;
/* The area's key is one of the program's, not the kernel's for execute-only memory. */
bool pkeys_area_has_own(const MmEntry *mm, const VmaEntry *e);

/* mempolicy.c. Of areas beyond those that its part asks for with the thread's own. */
int mempolicy_dump_areas(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
int mempolicy_check(const MempolicyEntry *e) _must_check_;
/*
 * xfeatures.c: -EOPNOTSUPP, logged, if one of these is not every process's: ARCH_GET_XCOMP_PERM's features,
 * ARCH_GET_UNTAG_MASK's mask (all ones: addresses carry no tags).
 */
int xfeatures_check(pid_t pid, uint64_t permitted, uint64_t untag_mask) _must_check_;
bool mempolicy_equal(const MempolicyEntry *a, const MempolicyEntry *b);
/* mbind() of an area that has a policy: index of the call, which may fail. */
int mempolicy_bind_call(struct batch *b, const VmaEntry *v);

/* itimers.c. How much time has passed for its timers since they were read; nanoseconds. */
uint64_t timers_elapsed(const struct restore_process *p);

/* dispatch.c. Before anything runs in the thread: it may not be let. */
int dispatch_dump(struct dump_ctx *ctx, struct dump_thread *th) _must_check_;

/* A damaged image, named: returns -EBADMSG. */
#define part_bad(...) log_fail(-EBADMSG, __VA_ARGS__)

/* The label of /proc/PID/attr/current without mode and newline; "" when unconfined. In place. */
void lsm_label_strip(char *label);

#endif
