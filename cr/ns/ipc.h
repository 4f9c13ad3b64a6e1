/* System V IPC in the namespace that the engine shares with the tree: the host's. */
#ifndef CR_NS_IPC_H
#define CR_NS_IPC_H

#include "core/dump.h"
#include "core/restore.h"

/* All semaphores of the namespace: before any task runs our calls. */
int ipc_find_semaphores(struct dump_ctx *ctx) _must_check_;
/* What p's threads would give back to semaphores (SEM_UNDO). While p's call zone is mapped. */
int ipc_undo_read(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/*
 * Which objects are the tree's. Obstacles: those that others use too, segments that nobody has
 * attached. Needs the areas of all processes.
 */
int ipc_check(struct dump_ctx *ctx) _must_check_;
/* → ipcns-{shm,sem,msg}-N.img and the segments' pages. */
int ipc_dump(struct dump_ctx *ctx) _must_check_;

/* How many huge pages the segments need: need[n] of 2^n bytes. */
int ipc_huge_pages(struct restore_ctx *ctx, uint64_t need[64]) _must_check_;
/* Makes the objects again, under their ids and filled, before a task exists. */
int ipc_restore(struct restore_ctx *ctx) _must_check_;
/* Is there a segment for this area (status VMA_SYSVIPC)? Logged if not. */
int ipc_check_area(struct restore_ctx *ctx, const VmaEntry *e) _must_check_;
/* Flags of shmat(2) for an area. */
uint64_t ipc_attach_flags(const VmaEntry *e);
/* All processes exist, none has threads or a user namespace yet: they use their objects again. */
int ipc_restore_users(struct restore_ctx *ctx) _must_check_;
/* Everybody is attached: segments that were marked for removal are again. */
int ipc_restore_late(struct restore_ctx *ctx) _must_check_;
/* failed: objects that we made go again. */
void ipc_restore_done(struct restore_ctx *ctx, bool failed);

#endif
