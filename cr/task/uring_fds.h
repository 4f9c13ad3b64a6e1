/* The io_urings among a process's descriptors. */
#ifndef CR_TASK_URING_FDS_H
#define CR_TASK_URING_FDS_H

#include "core/dump.h"

struct uring_fd {
	uint64_t ino;	/* each ring has one of its own */
	int t_fd;
};

/* Read once for each process: it may have a ring for each of its threads, and thousands of others. */
int uring_fds(struct dump_ctx *ctx, struct dump_process *p, const struct uring_fd **ret,
	      size_t *ret_n) _must_check_;

#endif
