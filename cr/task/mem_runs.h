/* What is to be saved of a process's memory, and how: found first, then written in one go. */
#ifndef CR_TASK_MEM_RUNS_H
#define CR_TASK_MEM_RUNS_H

#include "util/macro.h"

struct mem_run {
	uint64_t start, end;		/* t_addr */
	uint64_t first;			/* PE_PRESENT pages of the runs before it */
	uint32_t flags;			/* PE_PRESENT: its contents go to the images; PE_PARENT */
};

struct mem_runs {
	struct mem_run *run;		/* ascending; heap */
	size_t n, room;
	uint64_t n_present, n_parent;	/* pages */
};

int mem_runs_add(struct mem_runs *m, uint64_t start, uint64_t end, uint32_t flags) _must_check_;
/* The PE_PRESENT run that has page `at` of all those pages. */
const struct mem_run *mem_runs_find(const struct mem_runs *m, uint64_t at);
void mem_runs_done(struct mem_runs *m);

#endif
