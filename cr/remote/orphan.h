/*
 * The dump's stub: calls in a task that must live on even if the engine is killed half-way.
 *
 * It ends by sending itself a signal that is ignored by default. For a traced task that is a
 * stop; when the tracer is gone it is nothing, and the stub goes on to unmap the zone, to put mask and registers
 * back from what was saved beside it, and jumps to where the task was.
 *
 * So while there is a zone, the task that has mapped it, the keeper, never leaves its stub, which is its own: whenever
 * we are killed it unmaps it. (Not where the vDSO has room for one stub only.) Others may be in their lanes then: how
 * many is in the zone's first word, which each counts down, and the last one unmaps.
 *
 * It lies in the task's vDSO behind the last loaded byte (section headers and padding nobody
 * reads at run time), written through /proc/PID/mem: so even the first call, which maps the
 * zone, is made from there. Where there is room, others follow, one for each lane. The stack pointer stays the task's own:
 * a handler may run at any time.
 *
 * Rests on ptrace(2): "if the tracer dies, all tracees are automatically detached and
 * restarted"; a traced task stops for ignored signals too.
 */
#ifndef CR_REMOTE_ORPHAN_H
#define CR_REMOTE_ORPHAN_H

#include "remote/remote.h"

/* Beside the stub; only read by the task. The assembler knows the offsets. */
struct orphan_save {
	uint64_t rflags, rsp, rip;
	uint64_t mask;			/* the task's own */
	uint64_t mask_asking;		/* all but `signal` */
	uint64_t mask_all;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
	uint32_t signal;
	/* A filter that we could not suspend may refuse the signal: then int3, not running off. */
	uint32_t trap_if_refused;
};

/* The stub's entry for a batch is its beginning, for one call orphan_one. */
extern const uint8_t orphan_begin[], orphan_one[], orphan_stopped[], orphan_saved[], orphan_end[];

/* Offset of room for stubs in a vDSO's bytes, and for how many, REMOTE_STUBS at most; -ENOSPC, -EBADMSG. */
int64_t orphan_find_room(const uint8_t *vdso, size_t bytes, unsigned int *ret_n);
/* A batch that stops on its way: see batch_pause(). */
struct orphan_pause {
	void (*fn)(void *arg);
	void *arg;
};
/* First of all: t->stub_signal is known then, and what the stub puts back is beside it. Logged. */
int orphan_ready(struct task *t) _must_check_;
/* Begins n calls at t_calls. Logged. */
int orphan_start(struct task *t, uint64_t t_calls, size_t n) _must_check_;
/* Waits for their end. Afterwards registers and mask are back, but the keeper's. pause may be NULL. Logged. */
int orphan_finish(struct task *t, const struct orphan_pause *pause) _must_check_;
/* t_addr of a mask in which the stop's signal is open, or of one in which none is. */
uint64_t orphan_mask_asking(const struct task *t);
uint64_t orphan_mask_all(const struct task *t);
/*
 * One call, its arguments in registers. Afterwards registers and mask are back, unless the call has mapped a zone (maps
 * is set, and it has not failed), and the task is the keeper now.
 */
int orphan_call(struct task *t, int64_t *ret_result, uint64_t nr, const uint64_t arg[6], bool maps) _must_check_;
/* orphan_zone.c: mmap() for the zone, past RLIMIT_DATA and RLIMIT_AS. *ret_result as of that call. Obstacles are logged. */
int orphan_map_zone(struct task *leader, int64_t *ret_result) _must_check_;

/* Architecture: registers as a return to user mode would load them; where a result is. */
void arch_orphan_save(struct orphan_save *s, const struct user_regs_struct *regs);
/* What is unmapped at the end of the stub; 0: nothing. */
#define ORPHAN_MAPPED	1u	/* what the call has returned, unless it has failed */
void arch_orphan_release(struct user_regs_struct *regs, uint64_t t_zone);
uint64_t arch_orphan_result(const struct user_regs_struct *regs);

#endif
