/*
 * The dump's stub: calls in a task that must live on even if the engine is killed half-way.
 *
 * It ends by sending itself a signal that is ignored by default. For a traced task that is a
 * stop; when the tracer is gone it is nothing, and the stub goes on to put mask and registers
 * back from what was saved beside it and jumps to where the task was.
 *
 * It lies in the task's vDSO behind the last loaded byte (section headers and padding nobody
 * reads at run time), written through /proc/PID/mem: so even the first call, which maps the
 * zone, is made from there. Where there is room for it, another one follows, for a second lane. The stack pointer stays the task's own: a handler may run at any time.
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

/* Offset of room for stubs in a vDSO's bytes, and for how many, REMOTE_LANES at most; -ENOSPC, -EBADMSG. */
int64_t orphan_find_room(const uint8_t *vdso, size_t bytes, unsigned int *ret_n);
/* A batch that stops on its way: see batch_pause(). */
struct orphan_pause {
	void (*fn)(void *arg);
	void *arg;
};
/* Begins n calls at t_calls. t_signal: where the one that asks for a pause wants its signal; 0: none does. Logged. */
int orphan_start(struct task *t, uint64_t t_calls, size_t n, uint64_t t_signal) _must_check_;
/* Waits for their end. Afterwards registers and mask are back. pause may be NULL. Logged. */
int orphan_finish(struct task *t, const struct orphan_pause *pause) _must_check_;
/* t_addr of a mask in which the stop's signal is open, or of one in which none is. */
uint64_t orphan_mask_asking(const struct remote *r);
uint64_t orphan_mask_all(const struct remote *r);
/* One call, its arguments in registers. Idem. */
int orphan_call(struct task *t, int64_t *ret_result, uint64_t nr, const uint64_t arg[6]) _must_check_;
/* orphan_zone.c: mmap() for the zone, past RLIMIT_DATA and RLIMIT_AS. *ret_result as of that call. Obstacles are logged. */
int orphan_map_zone(struct task *leader, int64_t *ret_result) _must_check_;

/* Architecture: registers as a return to user mode would load them; where a result is. */
void arch_orphan_save(struct orphan_save *s, const struct user_regs_struct *regs);
uint64_t arch_orphan_result(const struct user_regs_struct *regs);

#endif
