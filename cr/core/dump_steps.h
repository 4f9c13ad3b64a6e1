/* What a dump and a pre-dump have in common; dump.c has their order. */
#ifndef CR_CORE_DUMP_STEPS_H
#define CR_CORE_DUMP_STEPS_H

#include "core/dump.h"

int dump_init(struct dump_ctx *ctx, const struct cr_opts *opts) _must_check_;
void dump_done(struct dump_ctx *ctx);
/*
 * The directory or bundle: what an earlier dump has left goes, the dump before is opened. Not if
 * there is no such tree or dump: what was mistyped must not cost images that may be the only ones.
 */
int dump_begin_images(struct dump_ctx *ctx) _must_check_;
/* tree_seize(), timed. */
int dump_seize(struct dump_ctx *ctx) _must_check_;
/* tree_release(), timed. */
int dump_release(struct dump_ctx *ctx, enum cr_final_state state) _must_check_;
/* After all other images: fields a next dump of the chain will look for. */
int dump_mark_generation(struct dump_ctx *ctx) _must_check_;

#endif
