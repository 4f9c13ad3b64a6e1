/* The halves of remapped files' restore. */
#ifndef CR_KIND_GHOST_RESTORE_H
#define CR_KIND_GHOST_RESTORE_H

#include "kind/kinds.h"

/*
 * Creates and fills ghost id near e->name; *ret_fd: O_PATH descriptor of the unlinked file. tmpfile_flags, if
 * not 0: made by O_TMPFILE with these flags where the file system can, and *ret_fd is that file.
 */
int ghost_make(struct restore_ctx *ctx, const RegFileEntry *e, uint32_t id, int tmpfile_flags,
	       int *ret_fd) _must_check_;
/* Extended attributes; those that cannot be set are warned of. */
void ghost_xattrs_set(const RegFileEntry *e, const GhostFileEntry *g, int fd);

#endif
