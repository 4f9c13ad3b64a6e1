#include "crkexec/store.h"

const struct store_ops *const store_table[] = {
	&store_tmpfs,
	NULL
};
