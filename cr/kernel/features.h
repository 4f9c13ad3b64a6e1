/* What the running kernel can do, beside cr_check_feature() by name. */
#ifndef CR_KERNEL_FEATURES_H
#define CR_KERNEL_FEATURES_H

#include <stdbool.h>

/* Ways to see which pages were written: task/mem_track.c. */
bool kernel_has_soft_dirty(void);
bool kernel_has_wp_async(void);
/* User space beyond 47 bits (x86: five levels of page tables). */
bool kernel_has_high_memory(void);

#endif
