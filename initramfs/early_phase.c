/* See struct early_phase. */
#include <string.h>

#include "initramfs/early.h"
#include "util/io.h"
#include "util/log.h"

int early_run_phase(struct early *e, const struct early_phase *p)
{
	uint64_t begin = clock_usec(CLOCK_BOOTTIME);
	int r;

	/* The first error of this phase is its reason, not one that an earlier phase got over. */
	log_init(LOGLEVEL_INFO, e->log_fd);
	r = p->run(e);
	log_info("phase %s: %s in %.3f s", p->name, r < 0 ? "failed" : "done",
		 (clock_usec(CLOCK_BOOTTIME) - begin) / 1e6);
	if (e->n_marks < EARLY_MARKS_MAX)
		e->marks[e->n_marks++] = (struct early_mark){
			p->name, begin, clock_usec(CLOCK_BOOTTIME)
		};
	if (r < 0 && !*e->reason)
		snprintf(e->reason, sizeof(e->reason), "%s: %s", p->name,
			 *log_first_error() ? log_first_error() : strerror(-r));
	return r;
}
