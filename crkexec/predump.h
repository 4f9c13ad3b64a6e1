/* Memory that was copied before the freeze; see predump.c. */
#ifndef CRKEXEC_PREDUMP_H
#define CRKEXEC_PREDUMP_H

#include "crkexec/upgrade.h"

struct cr_track;

struct pre_dump {
	size_t unit;
	pid_t root;			/* of its tree, then */
	struct image_store *images;	/* sealed */
	struct cr_track *track;
};

/* NULL: there is none, or the unit's tree is another by now. */
const struct pre_dump *pre_dump_find(const struct upgrade *u, size_t unit);
/* Ends the tracking and closes the images. */
void pre_dumps_done(struct upgrade *u);

#endif
