/* What the running kernel can do, beside cr_check_feature() by name. */
#ifndef CR_KERNEL_FEATURES_H
#define CR_KERNEL_FEATURES_H

#include <stdbool.h>

#include "util/macro.h"

/* Ways to see which pages were written: task/mem_track.c. */
bool kernel_has_soft_dirty(void);
bool kernel_has_wp_async(void);
/* PAGEMAP_SCAN that finds guard pages. */
bool kernel_has_guard_scan(void);
/* feature_names.c: by a name of CRIU's that is not among those that cr needs; -ENOENT: of nobody. */
int feature_of_name(const char *name) _must_check_;
/* User space beyond 47 bits (x86: five levels of page tables). */
bool kernel_has_high_memory(void);

#endif
