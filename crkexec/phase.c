#include "crkexec/phase.h"
#include "util/timer.h"

uint64_t now_realtime_usec(void)
{
	return clock_usec(CLOCK_REALTIME);
}

uint64_t now_monotonic_usec(void)
{
	return clock_usec(CLOCK_MONOTONIC);
}

static int phases_undo(const struct phase *table, size_t n, const struct phase_hooks *hooks,
		       void *arg)
{
	int first = 0;

	while (n--) {
		int r;

		if (!table[n].undo)
			continue;
		r = table[n].undo(arg);
		if (hooks->undone)
			hooks->undone(arg, &table[n], r);
		if (r < 0 && !first)
			first = r;
	}
	return first;
}

int phases_run(const struct phase *table, size_t n, const struct phase_hooks *hooks, void *arg,
	       int *ret_undo)
{
	int r = 0;
	size_t i;

	*ret_undo = 0;
	for (i = 0; i < n; i++) {
		uint64_t begin;

		r = hooks->before ? hooks->before(arg, &table[i]) : 0;
		if (r < 0)
			break;
		begin = now_monotonic_usec();
		r = table[i].run(arg);
		if (hooks->after)
			hooks->after(arg, &table[i], r, now_monotonic_usec() - begin);
		if (r != 0) {
			i++;
			break;
		}
	}
	if (r == 0)
		return 0;
	*ret_undo = phases_undo(table, i, hooks, arg);
	return r == PHASE_STOP ? 0 : r;
}
