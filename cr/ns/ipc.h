/* System V IPC in the namespace that the engine shares with the tree: the host's. */
#ifndef CR_NS_IPC_H
#define CR_NS_IPC_H

#include "core/dump.h"
#include "core/restore.h"

/*
 * Obstacles: segments that others have attached too, or nobody; semaphores and message queues
 * that the tree used. Needs the areas of all processes.
 */
int ipc_check(struct dump_ctx *ctx) _must_check_;
/* The attached segments → ipcns-shm-N.img and their pages. */
int ipc_dump(struct dump_ctx *ctx) _must_check_;

/* Makes the segments again, under their ids and filled, before a task exists. */
int ipc_restore(struct restore_ctx *ctx) _must_check_;
/* Is there a segment for this area (status VMA_SYSVIPC)? Logged if not. */
int ipc_check_area(struct restore_ctx *ctx, const VmaEntry *e) _must_check_;
/* Flags of shmat(2) for an area. */
uint64_t ipc_attach_flags(const VmaEntry *e);
/* Everybody is attached: segments that were marked for removal are again. */
int ipc_restore_late(struct restore_ctx *ctx) _must_check_;
/* failed: segments that we made go again. */
void ipc_restore_done(struct restore_ctx *ctx, bool failed);

#endif
