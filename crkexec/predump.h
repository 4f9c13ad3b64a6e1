/* Memory that was copied before the freeze; see predump.c. */
#ifndef CRKEXEC_PREDUMP_H
#define CRKEXEC_PREDUMP_H

#include "crkexec/upgrade.h"

struct cr_track;

struct pre_dump {
	size_t unit, tree;		/* as the trees were counted then */
	pid_t root;
	struct image_store *images;	/* sealed */
	struct cr_track *track;
};

/* NULL: there is none, or the unit's trees are others by now. */
const struct pre_dump *pre_dump_find(const struct upgrade *u, size_t unit, size_t tree);
/* Ends the tracking and closes the images. */
void pre_dumps_done(struct upgrade *u);

#endif
