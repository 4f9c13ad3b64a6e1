/* What files.c, files_table.c and locks.c share during a dump. */
#ifndef CR_CORE_FILES_DUMP_H
#define CR_CORE_FILES_DUMP_H

#include "core/files.h"

/* files_same.c: the kernel's table of the descriptors that are dumped just now. */
struct files_table {
	pid_t tid;		/* whose; 0: nobody's */
	uint64_t at, n;		/* in the kernel: n addresses of struct file; at 0: not looked up */
};

struct files_state {
	struct files_table table;
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

/* files_same.c. The descriptors of p come next; NULL: they are done. */
void files_same_begin(struct dump_ctx *ctx, const struct dump_process *p);
struct file_place {
	struct dump_file *known;	/* NULL: it is new... */
	struct file_set *set;		/* ...and belongs here */
	size_t at;
	uint64_t addr;
};
/* The open file behind descriptor d, of process pid (the engine's own, too). 1: known; 0: new; or logged error. */
int files_same_find(struct dump_ctx *ctx, const struct dump_fd *d, pid_t pid, struct file_place *ret) _must_check_;
/* Right after it was not found. d and pid must go on to name it until the dump's end. */
int files_same_add(struct dump_ctx *ctx, const struct file_place *place, const struct dump_fd *d, pid_t pid,
		   struct dump_file *f) _must_check_;

/* 0 for an obstacle in check mode (counted), else r. */
int dump_files_obstacle(struct dump_ctx *ctx, int r);

#endif
