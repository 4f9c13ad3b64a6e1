/*
 * Reading the kernel's own structures, for the little that no file of /proc shows and that must
 * not be guessed. Done by BPF programs of a few instructions, with the offsets that the running
 * kernel gives for its types (kernel/btf.h).
 *
 * Needs CAP_BPF, CAP_PERFMON, CONFIG_DEBUG_INFO_BTF and Linux >= 6.1. Only structures of
 * stopped tasks stand still.
 */
#ifndef CR_KERNEL_PEEK_H
#define CR_KERNEL_PEEK_H

#include <sys/types.h>

#include "kernel/btf.h"

struct peek;

/* Silent. -EOPNOTSUPP: this kernel, or our rights, do not allow it. */
int peek_open(struct peek **ret) _must_check_;
void peek_close(struct peek *pk);
static inline void peek_closep(struct peek **pk)
{
	peek_close(*pk);
}
#define _cleanup_peek_ _cleanup_(peek_closep)

/* Kernel address of a task_struct. */
int peek_task(struct peek *pk, pid_t pid, uint64_t *ret_addr) _must_check_;
/* Where the kernel's table of open files is (*ret_n addresses of struct file, 0: none). */
int peek_files(struct peek *pk, pid_t pid, uint64_t *ret_table, uint64_t *ret_n) _must_check_;
/* Kernel address of the struct file behind a descriptor, 0 if there is none of that number. */
int peek_file(struct peek *pk, pid_t pid, int fd, uint64_t *ret_addr) _must_check_;
/* Of the function at addr, as far as there is room, 31 characters at most; or a number. -EOPNOTSUPP. */
int peek_symbol(struct peek *pk, uint64_t addr, char *name, size_t room) _must_check_;
/*
 * Member of the structure at addr: bytes is 1, 4 or 8. It may be a member's member ("one.of.it").
 * -ENODATA: there is none of that name.
 */
int peek_member(struct peek *pk, uint64_t addr, const char *structure, const char *member,
		unsigned int bytes, uint64_t *ret) _must_check_;
int peek_word(struct peek *pk, uint64_t addr, uint64_t *ret) _must_check_;
/* Where a member that is an array or a structure of its own begins. */
int peek_inside(struct peek *pk, uint64_t addr, const char *structure, const char *member,
		uint64_t *ret_addr) _must_check_;
/* The address on one processor of a per-CPU pointer; -ENXIO: there is no such processor. */
int peek_percpu(struct peek *pk, uint64_t ptr, unsigned int cpu, uint64_t *ret_addr) _must_check_;

/*
 * When a task will be woken that sleeps in a call with a time-out, by the clock that this goes by: a moment from first to
 * last, in ns. *hint is 0 first, then what it was left as. -ENODATA: it cannot be found. The task runs, so what is said may
 * be over; whether it still sleeps as it did the caller must see.
 */
int peek_sleep_end(struct peek *pk, pid_t tid, uint64_t first, uint64_t last, uint64_t *hint, uint64_t *ret) _must_check_;

/* What tasks share, most by clone(2). Of kernel structures, where they are: equal addresses are one and the same. */
enum task_share {
	SHARE_VM,
	SHARE_FILES,
	SHARE_FS,
	SHARE_IO,		/* CLONE_IO: I/O priority, accounting */
	SHARE_UNDO,		/* CLONE_SYSVSEM: what semaphores get back */
	SHARE_NS,		/* namespaces, but the PID namespace */
	SHARE_CGROUPS,		/* one for all tasks that are in the same group of every hierarchy */
	TASK_SHARES,
};

struct peek_task_shares {
	uint32_t tid, pid;		/* of the initial PID namespace */
	uint64_t flags;			/* PF_* */
	uint64_t at[TASK_SHARES];	/* 0: it has none */
};

/* Of all tasks of the machine, by the caller to be freed. -EOPNOTSUPP in another PID namespace. */
int peek_shares(struct peek *pk, struct peek_task_shares **ret, size_t *ret_n) _must_check_;

#endif
