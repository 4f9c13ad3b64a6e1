/* What is done while the tree still runs, so that it stands still for less. */
#ifndef CR_CORE_EARLY_H
#define CR_CORE_EARLY_H

#include "core/dump.h"

/* Silent: what goes wrong here will go wrong later, if it matters. */
void early_look(struct dump_ctx *ctx);

#endif
