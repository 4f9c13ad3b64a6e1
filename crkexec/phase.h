/*
 * Phases: a table of {name, run, undo}, run in order; when one fails, is interrupted or says
 * stop, what ran is undone in reverse, the failing phase included: it may have got half way.
 */
#ifndef CRKEXEC_PHASE_H
#define CRKEXEC_PHASE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/macro.h"

struct phase {
	const char *name;
	const char *doing;		/* for the progress line: "stopping other services" */
	int (*run)(void *arg);
	int (*undo)(void *arg);		/* may be NULL; never leaves half of its work for an error */
};

struct phase_hooks {
	/* Before each phase; negative: stop here (-ECANCELED: the operator asked). */
	int (*before)(void *arg, const struct phase *p);
	void (*after)(void *arg, const struct phase *p, int result, uint64_t usec);
	void (*undone)(void *arg, const struct phase *p, int result);
};

#define PHASE_STOP 1	/* run() result: done early, as asked; undo all */

/*
 * Returns 0 when every phase ran, else the failing phase's error (PHASE_STOP: 0) after the
 * undoing; *ret_undo is the first error of an undo, 0 if all went well.
 */
int phases_run(const struct phase *table, size_t n, const struct phase_hooks *hooks, void *arg,
	       int *ret_undo);

uint64_t now_realtime_usec(void);
uint64_t now_monotonic_usec(void);

#endif
