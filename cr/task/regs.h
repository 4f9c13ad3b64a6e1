/* Registers, FPU state, interrupted system calls, the vDSO: what only an architecture knows. */
#ifndef CR_TASK_REGS_H
#define CR_TASK_REGS_H

#include "core/dump.h"
#include "core/restore.h"

/* Else an obstacle: before anything is done to the thread, for all of it takes it for 64-bit code. */
int regs_are_64_bit(const struct dump_thread *th) _must_check_;
/*
 * th->task.regs (already read) and the FPU → th->core->thread_info. Registers are stored so that a
 * plain return to user mode repeats an interrupted system call.
 */
int regs_dump(struct dump_ctx *ctx, struct dump_thread *th) _must_check_;

/* Checks the image's registers for what the kernel would refuse or misuse. */
int regs_check(const CoreEntry *core) _must_check_;
#define XSTATE_PKRU	(1ull << 9)	/* rights to protection keys */
/* Components of XSAVE (bit n: number n) that processor and kernel use here. */
uint64_t xstate_here(void);
/* Is what the image's machine had among them? -EOPNOTSUPP, logged. x may be NULL. */
int xstate_check(const UserX86XsaveEntry *x, uint64_t here) _must_check_;
/* What the auxiliary vector told the program that it may use is here? -EOPNOTSUPP, logged. */
int auxv_check(const MmEntry *mm) _must_check_;
/* Of components in use those that images have no room for. */
uint64_t xstate_unsaved(uint64_t in_use);
/* FPU state and general registers of the image into the stopped task; mask as given. */
int regs_restore(struct restore_thread *th, uint64_t sigmask) _must_check_;

/*
 * restart.c: system calls that our stop (or the freezer's) made return EINTR although no
 * handler was to run are set up to be repeated. Changes th->task.regs, so a task that goes
 * on running does not notice either.
 */
int restart_hide_interrupt(struct dump_thread *th) _must_check_;
/* 1: it has just returned from its call, and no signal waits that it will take: nothing but the stop has ended that. */
int restart_is_undisturbed(struct task *t) _must_check_;
/*
 * t->regs are an image's; orig_nr its orig_ax. If they stand on the instruction of an
 * interrupted call, they become what the kernel's restart logic expects. result: what the call has
 * returned, if it has been made already; or NULL.
 */
int restart_prepare(struct task *t, uint64_t orig_nr, const int64_t *result) _must_check_;

/*
 * timeout.c. Before anything runs in the thread: what a call with a time-out is, and when it ends. It may
 * be that the kernel does not tell: then its arguments tell as much as they do.
 */
int timeout_dump(struct dump_ctx *ctx, struct dump_thread *th) _must_check_;
int timeout_check(const CoreEntry *core) _must_check_;
/* The end of the call that it goes on with, by a clock of the initial time namespace, for the image. */
int timeout_put_end(struct dump_ctx *ctx, struct dump_thread *th, clockid_t clock, uint64_t nsec) _must_check_;
/*
 * epoll_end.c. epoll_end_look(): is a thread of the process, which runs, in such a call? Silent.
 * epoll_end_of(): does it go on with that call (restart_hide_interrupt() has been here), which at most so many stops
 * have interrupted? When it ends, CLOCK_MONOTONIC of the initial time namespace; 0: not known.
 * epoll_end_go_on(): right before its registers go back; end 0: as they say.
 */
void epoll_end_look(struct cr_ahead *ahead, struct peek *pk, int proc_fd, pid_t pid, pid_t tid);
uint64_t epoll_end_of(const struct cr_ahead *ahead, const struct task *t, unsigned int stops);
int epoll_end_dump(struct dump_ctx *ctx, struct dump_thread *th) _must_check_;
void epoll_end_go_on(struct task *t, uint64_t end_nsec);
/* A call whose time-out is in r10; and as what, rounded up. */
bool epoll_has_end(uint64_t nr);
uint64_t epoll_rest_msec(uint64_t nsec);
/* Begins it again, for the rest of its time: th->result. While the zone is there, after the last batch. */
int timeout_restore(struct restore_ctx *ctx, struct restore_thread *th) _must_check_;

/*
 * vdso.c. vdso_find(): the [vdso] area of a process; -ENOENT. A thread inside the vDSO would wake up in another kernel's code: it is
 * stepped out before its registers are taken. start..end: the [vdso] area.
 */
int vdso_find(int proc_fd, uint64_t *ret_start, uint64_t *ret_end) _must_check_;
int vdso_step_out(struct dump_thread *th, uint64_t start, uint64_t end) _must_check_;

struct vdso_image;
/* The running kernel's vDSO, from the engine's own memory. */
int vdso_read_own(struct arena *a, struct vdso_image **ret) _must_check_;
/* From saved bytes; every offset is checked. */
int vdso_parse(struct arena *a, const uint8_t *elf, size_t bytes, struct vdso_image **ret) _must_check_;
/* Same code at the same offsets: the kernel's own mapping can stand in. */
bool vdso_equal(const struct vdso_image *a, const struct vdso_image *b);
/*
 * Writes jumps over the entry points of `old` (bytes at old_copy, mapped at old_addr in the
 * target) that lead to `new` mapped at new_addr.
 */
int vdso_patch(uint8_t *old_copy, const struct vdso_image *old, uint64_t old_addr,
	       const struct vdso_image *new_image, uint64_t new_addr) _must_check_;
/* Offset of a `syscall` instruction in the image. */
int64_t vdso_syscall_offset(const struct vdso_image *v);
/* Offset of an entry point, 0 if there is none of that name. */
size_t vdso_entry_offset(const struct vdso_image *v, const char *name);
size_t vdso_bytes(const struct vdso_image *v);
/* Distance from the first vvar area to the vDSO, and of all of it, in the running kernel. */
uint64_t vdso_own_vvar_bytes(const struct vdso_image *v);

#endif
