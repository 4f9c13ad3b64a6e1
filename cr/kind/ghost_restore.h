/* The halves of remapped files' restore. */
#ifndef CR_KIND_GHOST_RESTORE_H
#define CR_KIND_GHOST_RESTORE_H

#include "kind/kinds.h"

/* Creates and fills ghost id near e->name; *ret_fd: O_PATH descriptor of the unlinked file. */
int ghost_make(struct restore_ctx *ctx, const RegFileEntry *e, uint32_t id, int *ret_fd)
	_must_check_;

#endif
