/* What is found out while the tree still runs: cr_look_ahead(). */
#ifndef CR_CORE_EARLY_H
#define CR_CORE_EARLY_H

#include "core/dump.h"

struct cr_ahead {
	struct arena arena;
	struct map processes;		/* that were looked at */
	struct map waits;		/* task/epoll_end.c: struct wait_seen by thread */
	uint64_t hint;			/* peek_sleep_end() */
	struct {
		pid_t pid;
		uint64_t start, end;
	} libc;				/* of the process that was looked at last; t_addr */
};

#endif
