/* What files.c, files_table.c and locks.c share during a dump. */
#ifndef CR_CORE_FILES_DUMP_H
#define CR_CORE_FILES_DUMP_H

#include "core/files.h"

struct files_state {
	struct map tables_done;		/* files_ids that have their fdinfo-N.img */
	struct map links;		/* files reached without a descriptor */
	struct image_writer *w_locks;
	int *kept;			/* our own descriptors of queued files */
	size_t n_kept;
	struct made_link *made_links;	/* by --link-remap */
};

/* A hard link that the dump made, to be removed if the tree goes on here. */
struct made_link {
	struct made_link *next;
	int dir_fd;
	const char *name;
};

struct files_state *dump_files_state(struct dump_ctx *ctx);
/* 0 for an obstacle in check mode (counted), else r. */
int dump_files_obstacle(struct dump_ctx *ctx, int r);

#endif
