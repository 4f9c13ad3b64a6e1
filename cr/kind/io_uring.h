/* The halves of io_uring.c: what the kernel knows of a ring, and its rebuilding. */
#ifndef CR_KIND_IO_URING_H
#define CR_KIND_IO_URING_H

#include <linux/io_uring.h>

#include "kernel/peek.h"
#include "kind/kinds.h"

/* linux/io_uring.h of the build machine may be older. */
enum {
	URING_IOPOLL = 1 << 0,		URING_SQPOLL = 1 << 1,		URING_CQSIZE = 1 << 3,
	URING_CLAMP = 1 << 4,		URING_ATTACH_WQ = 1 << 5,	URING_R_DISABLED = 1 << 6,
	URING_SUBMIT_ALL = 1 << 7,	URING_COOP_TASKRUN = 1 << 8,	URING_TASKRUN_FLAG = 1 << 9,
	URING_SQE128 = 1 << 10,		URING_CQE32 = 1 << 11,		URING_SINGLE_ISSUER = 1 << 12,
	URING_DEFER_TASKRUN = 1 << 13,	URING_NO_MMAP = 1 << 14,	URING_NO_SQARRAY = 1 << 16,
};
#define URING_SUPPORTED (URING_IOPOLL | URING_CQSIZE | URING_CLAMP | URING_R_DISABLED | \
			 URING_SUBMIT_ALL | URING_COOP_TASKRUN | URING_TASKRUN_FLAG | URING_SQE128 | \
			 URING_CQE32 | URING_SINGLE_ISSUER | URING_DEFER_TASKRUN | URING_NO_SQARRAY)
/* Counting them up again takes longer than anybody waits. */
#define URING_COUNT_MAX (1u << 28)
#define URING_SLOTS_MAX (1u << 15)
#define URING_OFFSETS 16u

struct uring_buffer {
	uint64_t addr, bytes;
};

struct uring_state {
	uint32_t flags, sq_entries, cq_entries, sq_head, cq_tail;
	uint64_t file;			/* kernel address of its struct file */
	uint64_t submitter;		/* kernel address of a thread, 0: any may submit */
	uint64_t in_flight;		/* of all tasks that use the ring, in any ring */
	const char *refused;		/* what it has that cannot be saved, or NULL */
	uint64_t eventfd;		/* kernel address of the counter, 0: none */
	bool eventfd_async;
	uint32_t iowq_limits[2];
	uint64_t *files;		/* kernel addresses of struct file, 0: an empty slot */
	size_t n_files;
	struct uring_buffer *buffers;
	size_t n_buffers;
};

/* io_uring_peek.c. fd is the engine's own. -ENODATA: the kernel's structures are not known. */
int uring_peek(struct peek *pk, struct arena *a, int fd, struct uring_state *ret) _must_check_;
/* Requests in flight of one task. */
int uring_task_in_flight(struct peek *pk, uint64_t task, uint64_t *ret) _must_check_;
/* Does a thread have ring descriptors of its own (IORING_REGISTER_RING_FDS)? */
int uring_task_has_registered(struct peek *pk, uint64_t task, bool *ret) _must_check_;

/* io_uring_find.c: by the kernel's addresses. */
struct uring_thread {
	struct dump_process *process;
	const struct dump_thread *thread;
};
/* *ret NULL: it is not of the tree. */
int uring_find_thread(struct dump_ctx *ctx, struct peek *pk, uint64_t task, struct uring_thread **ret)
	_must_check_;
/* A descriptor of p by its struct file, or by that one's private data. *ret -1: there is none. */
int uring_find_fd(struct dump_ctx *ctx, struct peek *pk, struct dump_process *p, uint64_t addr,
		  bool by_private, int *ret) _must_check_;
void uring_find_done(struct dump_ctx *ctx);

struct uring_map {
	struct io_uring_params params;
	uint8_t *rings, *sqes;
	size_t rings_bytes, sqes_bytes;
};
/* io_uring_restore.c. Maps fd as params say; for writing or only for reading. */
int uring_map(int fd, const struct io_uring_params *params, int prot, struct uring_map *ret)
	_must_check_;
void uring_unmap(struct uring_map *m);
#define _cleanup_uring_map_ _cleanup_(uring_unmap)
/* A ring of these sizes and flags; params: as the kernel answers. */
int uring_setup(uint32_t sq_entries, uint32_t cq_entries, uint32_t flags,
		struct io_uring_params *params, int *ret_fd) _must_check_;
void uring_offsets(const struct io_uring_params *params, uint32_t ret[URING_OFFSETS]);
int uring_check(const IoUringEntry *e) _must_check_;
int uring_prepare(struct restore_ctx *ctx) _must_check_;
int uring_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd) _must_check_;

#endif
