/*
 * The programs by which kernel/peek.c reads. Of type BPF_PROG_TYPE_SYSCALL, run by BPF_PROG_TEST_RUN;
 * their context is a struct peek_call: what is asked comes in, the answer goes out. One runs for each task of
 * the machine, as a file is read (BPF_TRACE_ITER); it is attached to nothing but that file.
 */
#ifndef CR_KERNEL_PEEK_PROG_H
#define CR_KERNEL_PEEK_PROG_H

#include <sys/types.h>

#include "kernel/btf.h"

struct peek_call {
	uint64_t in, out;
	int64_t err;
	uint64_t name[4];	/* ends with a NUL */
};

/* Descriptors, or negative errno. */
int peek_map_make(void) _must_check_;
int peek_format_make(void) _must_check_;
int peek_load_read(void) _must_check_;
int peek_load_task(const struct btf *btf) _must_check_;
int peek_load_task_iter(const struct btf *btf) _must_check_;
int peek_load_percpu(int map_fd) _must_check_;
int peek_load_symbol(int format_fd) _must_check_;
int peek_load_shares(const struct btf *btf) _must_check_;
/* What such a program is read by, of all tasks or the one of this id: peek_iter_begin() gives a new file each time. */
int peek_link_iter(int prog_fd, pid_t tid) _must_check_;
int peek_iter_begin(int link_fd) _must_check_;
int peek_run(int fd, struct peek_call *c) _must_check_;

#endif
