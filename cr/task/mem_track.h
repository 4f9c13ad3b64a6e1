/* Tracking which pages are written between two dumps. */
#ifndef CR_TASK_MEM_TRACK_H
#define CR_TASK_MEM_TRACK_H

#include "core/dump.h"
#include "task/mem_scan.h"

/* -EOPNOTSUPP, logged: the kernel has no way that opts allow. */
int mem_track_check(const struct dump_ctx *ctx) _must_check_;
/* How p has been tracked since the last dump. */
enum mem_tracking mem_track_how(const struct dump_ctx *ctx, const struct dump_process *p);
/* Calls inside the stopped task, if any are needed. Its zone is mapped. */
int mem_track_prepare(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* From now on: all pages of the stopped p are unwritten. */
int mem_track_begin(struct dump_ctx *ctx, struct dump_process *p, int pagemap_fd) _must_check_;
/* Which dump the tracking began with: the only one that the next may refer to. */
void mem_track_name(struct dump_ctx *ctx, const char *run_id);
bool mem_track_is_since(const struct dump_ctx *ctx, const char *run_id);
/* The dump has failed after mem_track_begin(): what was written before it is not known any more. */
void mem_track_spoil(struct dump_ctx *ctx);

#endif
