#include "crkexec/store.h"

const struct store_ops *const store_table[] = {
	/* The kernel is loaded before the freeze and nothing is copied at the jump. */
	&store_pmem,
	/* Needs little of the machine; each copy of the images is part of the blackout. */
	&store_tmpfs,
	NULL
};
