/*
 * A task under remote control: stopped by ptrace, made to run batches of system calls.
 *
 * A batch is an array of calls in a page zone shared (or copied) with the target; a 70-byte
 * loop (the stub) walks it and stops at its end. One stop serves the whole batch. Calls can be
 * linked: the result of one becomes an argument of a later one. On restore the stub lies in
 * the zone and ends in int3; on dump see orphan.h.
 *
 * The target's values and ours never mix: t_addr is an address in the target (uint64_t),
 * t_fd a descriptor number there.
 *
 * Rests on ptrace(2), clone3(2); traps in docs/engine.md.
 */
#ifndef CR_REMOTE_REMOTE_H
#define CR_REMOTE_REMOTE_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/user.h>

#include "util/macro.h"

/*
 * The zone in the target: stub page (restore), call array, in the second half data. Private copy on dump, shared on
 * restore.
 */
#define ZONE_BYTES		(1u << 20)
#define ZONE_CALLS_OFF		4096u
#define ZONE_DATA_OFF		(ZONE_BYTES / 2)
#define BATCH_CALLS_MAX		4096u
/* Dump: so many threads of a process run batches at once, each in its lane: a part of the zone with a stub. */
#define REMOTE_LANES		2u
/* One for each lane, and one that the keeper (orphan.h) has for itself. */
#define REMOTE_STUBS		(REMOTE_LANES + 1)

/* One call as the stub sees it; result_to: t_addr where the result is also stored, or the
 * call's own ret slot. */
struct batch_call {
	uint64_t nr, arg[6];
	int64_t ret;
	uint64_t result_to;
};

/* Restart codes that never reach user space (include/linux/errno.h of the kernel). */
#define K_ERESTARTSYS		512
#define K_ERESTARTNOINTR	513
#define K_ERESTARTNOHAND	514
#define K_ERESTART_RESTARTBLOCK	516

/* One address space's zone and the engine's view of it; shared by the threads of a process. */
struct remote {
	int mem_fd;		/* /proc/PID/mem */
	pid_t pid;		/* dump: of remote_open(), the main thread's unless that has ended */
	uint64_t zone;		/* t_addr; 0: none yet */
	size_t zone_bytes;	/* ZONE_BYTES, or a lane's */
	uint8_t *mirror;	/* the engine's zone_bytes: the zone itself if shared, else a copy */
	bool shared;
	uint64_t syscall_insn;	/* restore: t_addr of a `syscall` instruction outside the zone */
	/* Dump: t_addr of the first stub, in room of the task's vDSO; how many there are; what was there before. */
	uint64_t stub;
	unsigned int n_stubs;
	uint8_t *stub_before;
	/* Dump: what this is a lane of, NULL: itself; who unmaps it if we are killed, 0: nobody; who else runs a batch in it. */
	struct remote *whole;
	pid_t keeper;
	uint32_t others;
	uint64_t caught;	/* dump: signals that the process has handlers for, bit n-1 for signal n */
	/* Tasks born by clone during the last batch, in their first stop. */
	pid_t born[64];
	size_t n_born;
};

struct task {
	pid_t tid;
	struct remote *remote;		/* shared by the threads of a process; dump: or its lane, while it runs a batch */
	struct user_regs_struct regs;	/* as they were (dump) or shall be (restore) */
	uint64_t sigmask;		/* idem */
	bool seized;
	bool regs_read;			/* regs and sigmask are the task's: may be put back */
	bool filters_suspended;		/* its seccomp filters do not see our calls */
	int stub_signal;		/* dump: the stub it runs in asks for its stop by this */
	int group_stop_signal;		/* > 0: was stopped by job control */
};

/*
 * ptrace. -ESRCH when the task is gone. task_seize() stops the task; flags are PTRACE_O_*
 * beyond the engine's own. A task that does not stop in timeout_usec: -ETIMEDOUT.
 */
int task_seize(struct task *t, unsigned long options, uint64_t timeout_usec) _must_check_;
/* Asks it to stop, without waiting: for a frozen one, which stops when it is thawed. */
int task_seize_begin(struct task *t, unsigned long options) _must_check_;
/* Once more, for one that did not stop in time; or after task_seize_begin(). */
int task_seize_wait(struct task *t, uint64_t timeout_usec) _must_check_;
/* -ESRCH: it ends, or has never stopped; still seized, it is to be reaped. */
int task_detach(struct task *t) _must_check_;
/* Of a killed task: has it ended, or is it nobody of ours? If not, ask again REAP_NSEC later, for REAP_USEC. */
bool task_reap(struct task *t);
#define REAP_NSEC	50000
#define REAP_USEC	(10ull * 1000000)
/* Adopts a task that is traced and stopped already (born by clone in a batch). */
void task_adopt(struct task *t, pid_t tid, struct remote *remote);
/* Reads registers and mask of the stopped task into t. */
int task_get_regs(struct task *t) _must_check_;
/* Blocks every signal but SIGTRAP: before any batch, single call or step. */
int task_block_signals(struct task *t) _must_check_;
/* Waits for the next stop; *ret_status is waitpid's. -ESRCH when it ended instead (logged). */
int task_wait(struct task *t, int *ret_status) _must_check_;
/* One instruction. */
int task_step(struct task *t) _must_check_;
/*
 * Lets a stopped task run for some microseconds and stops it again; its registers are read
 * anew. Signals that come meanwhile take effect. -ESRCH: it has ended.
 */
int task_nudge(struct task *t) _must_check_;
/*
 * One system call without any SIGTRAP (SIG_IGN and pending SIGTRAPs stay as they are), made
 * at remote->syscall_insn. The task's registers are lost: task_put_regs() afterwards.
 */
int task_syscall(struct task *t, int64_t *ret_result, uint64_t nr, const uint64_t arg[6]) _must_check_;
/*
 * A call that ends the task (exit, exit_group, a deadly signal to itself), with no signal blocked.
 * Waits for its end: its parent has been notified then. Its last thread if it is the main one.
 */
int task_end(struct task *t, uint64_t nr, const uint64_t arg[6]) _must_check_;
/* The same for a main thread whose end nobody is told of, for others go on: detached, not waited for. */
int task_leave(struct task *t, uint64_t nr, const uint64_t arg[6]) _must_check_;
/* Restore: nothing but pause(2) is before the task, and every signal but `open` (0: none) blocked. */
int task_park(struct task *t, int open) _must_check_;
/* Puts mask and registers in t back into the task. */
int task_put_regs(struct task *t) _must_check_;

/* Opens /proc/PID/mem: what remote_read() and all below need. Logged. */
int remote_open(struct remote *r, pid_t pid) _must_check_;
/*
 * Dump: puts the stub into the vDSO at start..end and maps a private zone. Needs the leader's
 * registers (task_get_regs()). remote_unmap() takes both away; also after a failure, and then
 * there may be nothing to take away.
 */
int remote_map_private(struct remote *r, struct task *leader, uint64_t vdso_start,
		       uint64_t vdso_end) _must_check_;
int remote_unmap(struct remote *r, struct task *leader) _must_check_;
/*
 * Dump: a lane of r, borrowed from it, for a thread's task.remote while that runs a batch; until remote_unmap().
 * False: there is none of that number, 0 to REMOTE_LANES - 1, for the vDSO had no room for its stub.
 */
bool remote_lane(struct remote *r, unsigned int number, struct remote *ret);
static inline struct remote *remote_whole(struct remote *r)
{
	return r->whole ? r->whole : r;
}
void remote_close(struct remote *r);
/*
 * Restore: makes the zone at t_addr in the engine itself, shared; seeds inherit it by clone.
 * mirror points at it.
 */
int remote_map_shared(struct remote *r, uint64_t t_addr) _must_check_;
/* Finds "0f 05" in bytes; offset or -ENOENT. */
int64_t code_find_syscall(const uint8_t *code, size_t bytes);

/*
 * A batch: begin, add calls and data, run. Data handed in is copied to the zone; the
 * returned t_addr is valid in the target. After the run batch_data() gives the engine's
 * view of the same bytes.
 *
 * Adding never fails by return code: running out of room marks the batch and batch_run()
 * returns -ENOBUFS; long lists use batch_room() and run in between.
 */
struct batch {
	struct task *task;
	size_t n_calls, data_bytes;
	const char *names[BATCH_CALLS_MAX];
	bool may_fail[BATCH_CALLS_MAX];
	int error;
	bool ran, running;
	int pause_call;			/* asks for the stop; 0: none */
	void (*pause_fn)(void *arg);
	void *pause_arg;
};

void batch_begin(struct batch *b, struct task *t);
/* p may be NULL for zeroed room. 16-byte aligned. */
uint64_t batch_put(struct batch *b, const void *p, size_t bytes);
uint64_t batch_str(struct batch *b, const char *s);
void *batch_data(struct batch *b, uint64_t t_addr);

/* Index of the call. name is for messages: "mmap", "setsid"... */
int batch_call_(struct batch *b, const char *name, bool may_fail, uint64_t nr,
		const uint64_t arg[6]);
#define BATCH_ARGS_(a0, a1, a2, a3, a4, a5, ...)					\
	(const uint64_t[6]){ (uint64_t)(a0), (uint64_t)(a1), (uint64_t)(a2),		\
			     (uint64_t)(a3), (uint64_t)(a4), (uint64_t)(a5) }
/* batch_call(b, SYS_close, fd): a failing call fails the batch and is logged by name. */
#define batch_call(b, nr, ...)								\
	batch_call_(b, #nr, false, nr, BATCH_ARGS_(__VA_ARGS__ __VA_OPT__(,) 0, 0, 0, 0, 0, 0, 0))
/* The caller looks at batch_ret() itself. */
#define batch_try(b, nr, ...)								\
	batch_call_(b, #nr, true, nr, BATCH_ARGS_(__VA_ARGS__ __VA_OPT__(,) 0, 0, 0, 0, 0, 0, 0))
/* The result of call `from` becomes argument `arg` of call `to` (from < to, one link per from). */
void batch_link(struct batch *b, int from, int to, unsigned int arg);
/* Or is stored at t_addr (8 bytes), e.g. inside a structure put with batch_put(). */
void batch_link_addr(struct batch *b, int from, uint64_t t_addr);

/*
 * Dump: here the task stands while fn runs, once, in the engine; then the batch goes on, also if
 * the engine is killed meanwhile. fn may look at batch_ret_now().
 */
void batch_pause(struct batch *b, void (*fn)(void *arg), void *arg);
/* During a pause, of a call before it. */
int batch_ret_now(const struct batch *b, int call, int64_t *ret) _must_check_;

int64_t batch_ret(const struct batch *b, int call);
size_t batch_room_calls(const struct batch *b);
size_t batch_room_bytes(const struct batch *b);
/*
 * Runs what was added and leaves the results readable until the next batch_begin()/_run().
 * The first failing call that may not fail is logged ("SYS_mmap(…)") and its errno returned.
 */
int batch_run(struct batch *b) _must_check_;
/*
 * The same in two halves: others may run batches in between, in other lanes. A batch that was started must be
 * finished, whatever else fails: until then its task runs.
 */
int batch_start(struct batch *b) _must_check_;
int batch_finish(struct batch *b) _must_check_;
/* Runs if fewer than n_calls or bytes are free, and begins anew. */
int batch_make_room(struct batch *b, size_t n_calls, size_t bytes) _must_check_;

/* Whole transfers through /proc/PID/mem (never process_vm_readv: it un-shares COW pages). */
int remote_read(struct task *t, uint64_t t_addr, void *buf, size_t bytes) _must_check_;
int remote_write(struct task *t, uint64_t t_addr, const void *buf, size_t bytes) _must_check_;

/* Architecture (x86_64.c). */
extern const uint8_t stub_begin[], stub_end[];
void arch_regs_for_batch(struct user_regs_struct *regs, uint64_t stub, uint64_t calls, size_t n);
size_t arch_regs_batch_left(const struct user_regs_struct *regs);
void arch_regs_for_syscall(struct user_regs_struct *regs, uint64_t insn, uint64_t nr,
			   const uint64_t arg[6]);
/* Stopped in the middle of a call, not in code or at a call's end. */
bool arch_regs_interrupted_call(const struct user_regs_struct *regs);
/* Stopped in this call, with this first argument (an int). */
bool arch_regs_is_call(const struct user_regs_struct *regs, uint64_t nr, uint32_t arg0);
uint64_t arch_regs_ip(const struct user_regs_struct *regs);
/*
 * An interrupted call is set back onto its instruction, to be repeated without the kernel. end_known: how
 * long a call with a time-out still has is told elsewhere, and its arguments stay.
 */
void arch_regs_repeat_call(struct user_regs_struct *regs, bool end_known);

#endif
