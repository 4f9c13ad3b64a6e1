/* What files_load.c and files_restore.c share. */
#ifndef CR_CORE_FILES_RESTORE_H
#define CR_CORE_FILES_RESTORE_H

#include "core/files.h"

/* fs.nr_open cannot be larger than this on any kernel (2^30 on 64 bit). */
#define FD_NUMBER_MAX (1u << 30)

/* The sub-message of the entry's type, NULL when it is missing or the type unknown. */
ProtobufCMessage *file_sub_message(const FileEntry *fe);
/* Its owner of SIGIO, NULL when the type has none. */
FownEntry *file_fown(ProtobufCMessage *sub);
/* Its status flags; 0 when the type has none. */
uint32_t file_flags(struct restore_ctx *ctx, const FileEntry *fe);
/* -EBADMSG (logged) unless type, sub-message and ids fit together. */
int file_entry_check(const FileEntry *fe) _must_check_;

#endif
