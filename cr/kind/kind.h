/*
 * A kind of kernel object that sits behind a file descriptor. One kind, one file, one line in
 * kind/table.c; see "How to add a kind" in cr/README.md.
 */
#ifndef CR_KIND_KIND_H
#define CR_KIND_KIND_H

#include "core/dump.h"
#include "core/restore.h"

struct kind {
	const char *name;	/* for messages: "eventfd" */
	FdTypes type;		/* FD_TYPES__EVENTFD: the entry's type in files.img and fdinfo */

	/* Is this file ours? Looks at link, st and fdinfo only. The table's order decides. */
	bool (*match)(const struct dump_file *f);

	/*
	 * Fills f->fe's sub-message (fe has type and id already) and writes side images (queued
	 * data...). f->fd is a duplicate of the target's descriptor: look, but leave position,
	 * flags and queues as they are. -EOPNOTSUPP comes from log_obstacle().
	 */
	int (*dump)(struct dump_ctx *ctx, struct dump_file *f);

	/* All that a task has a descriptor of is dumped: what only waits in a queue to be received. Optional. */
	int (*dump_queued)(struct dump_ctx *ctx);
	/* All files of the tree are dumped: images of the whole kind, warnings. Optional. */
	int (*dump_end)(struct dump_ctx *ctx);
	/* Frees what the arena does not, after success and failure. Optional. */
	void (*dump_done)(struct dump_ctx *ctx);

	/* Reads the kind's side images (queues...) once, before any restore(). Optional. */
	int (*prepare)(struct restore_ctx *ctx);

	/*
	 * Before any restore() that is not for memory's sake: every task exists, with an empty
	 * table and still outside the tree's namespaces. What a task must make itself because
	 * the kernel notes who does. Once. Optional.
	 */
	int (*begin)(struct restore_ctx *ctx);

	/*
	 * Makes the object in the engine; *ret_fd is owned by the core. May ask for other files
	 * by restore_file_get(). Position, owner and O_NONBLOCK are the kind's business.
	 */
	int (*restore)(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd);

	/*
	 * After all descriptors of the holder are in place: calls that must come from the task
	 * itself, added to b (already begun on p's leader; may be run and begun anew). Called once
	 * per file, for its owner. Optional.
	 */
	int (*attach)(struct restore_ctx *ctx, struct restore_file *f,
		      struct restore_process *p, struct batch *b);

	/* All processes have their descriptors: makes those that nobody has received yet. Once. Optional. */
	int (*restore_queued)(struct restore_ctx *ctx);
	/* After that of all kinds: closes what was only needed to make them. Once. Optional. */
	void (*settled)(struct restore_ctx *ctx);

	/*
	 * After that of all kinds: what would tell the program of files that the restore opens and makes.
	 * Works on f->fd. Before the network is unlocked: a restore that fails here can be tried again.
	 * Optional.
	 */
	int (*watch)(struct restore_ctx *ctx, struct restore_file *f);

	/*
	 * The whole tree stands, right before it runs: arm timers, leave TCP repair mode. Works
	 * on f->fd. Optional. What is done here is in the blackout's last microseconds.
	 */
	int (*finish)(struct restore_ctx *ctx, struct restore_file *f);

	/* Frees what the arena does not, after success and failure. Optional. */
	void (*restore_done)(struct restore_ctx *ctx);
};

/* NULL-terminated; order matters for match(): the special before the general. */
extern const struct kind *const kinds[];
const struct kind *kind_by_type(FdTypes type);

#endif
