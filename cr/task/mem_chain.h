/* A dump as one of a chain: which pages the dump before has already. */
#ifndef CR_TASK_MEM_CHAIN_H
#define CR_TASK_MEM_CHAIN_H

#include "core/dump.h"

/* The dump before, if there is one (opts->parent_dir, the `parent` link): ctx->parent. */
int mem_chain_open(struct dump_ctx *ctx) _must_check_;
/* p->runs: what of the stopped p is to be saved. */
int mem_chain_find(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* Punches what has been saved anew out of the dumps before. Warns at most: the dump is complete. */
void mem_chain_dedup(struct dump_ctx *ctx);

#endif
