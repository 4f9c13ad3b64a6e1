/* The two halves of shared memory objects behind memfd.c. */
#ifndef CR_KIND_SHMEM_H
#define CR_KIND_SHMEM_H

#include "kind/kinds.h"

/* memfd.img's name of shared anonymous memory, as /proc shows it. */
#define SHMEM_ANON_NAME		"/dev/zero"
#define SHMEM_ANON_HUGE_NAME	"/anon_hugepage"

int shmem_dump_end(struct dump_ctx *ctx) _must_check_;
void shmem_dump_done(struct dump_ctx *ctx);
int shmem_prepare(struct restore_ctx *ctx) _must_check_;
/* 1: *ret_fd is the very file that made the inode (shmem_restore_inode() came before); 0: another has it. */
int shmem_take_file(struct restore_ctx *ctx, uint32_t inode_id, int *ret_fd) _must_check_;
/* Adds the saved seals. Mappings that a seal forbids must not be made afterwards. */
int shmem_seal(struct restore_ctx *ctx, uint32_t inode_id) _must_check_;
void shmem_restore_done(struct restore_ctx *ctx);

#endif
