/* Pages that a process and an ancestor share by copy-on-write are saved once. */
#ifndef CR_TASK_MEM_COW_H
#define CR_TASK_MEM_COW_H

#include "core/dump.h"

/*
 * With opts->share_pages: sets cow_from of the processes whose images shall refer to an
 * ancestor's pages, and their runs; is_cow_source of those ancestors.
 */
int mem_cow_plan(struct dump_ctx *ctx) _must_check_;

#endif
