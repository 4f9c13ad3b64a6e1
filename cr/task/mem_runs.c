#include "image/pages.h"
#include "task/mem_runs.h"

int mem_runs_add(struct mem_runs *m, uint64_t start, uint64_t end, uint32_t flags)
{
	struct mem_run *last = m->n ? &m->run[m->n - 1] : NULL;
	uint64_t n = (end - start) / PAGE_BYTES;

	if (last && last->end == start && last->flags == flags) {
		last->end = end;
	} else {
		if (m->n == m->room) {
			size_t room = m->room ? m->room * 2 : 16;
			struct mem_run *more = reallocarray(m->run, room, sizeof(*more));

			if (!more)
				return -ENOMEM;
			m->run = more;
			m->room = room;
		}
		m->run[m->n++] = (struct mem_run){ start, end, m->n_present, flags };
	}
	if (flags & PE_PRESENT)
		m->n_present += n;
	else
		m->n_parent += n;
	return 0;
}

const struct mem_run *mem_runs_find(const struct mem_runs *m, uint64_t at)
{
	size_t lo = 0, hi = m->n;

	/* The last that begins with `at` pages before it or fewer: the others there are PE_PARENT. */
	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->run[mid].first <= at)
			lo = mid;
		else
			hi = mid;
	}
	return &m->run[lo];
}

void mem_runs_done(struct mem_runs *m)
{
	free(m->run);
	*m = (struct mem_runs){ 0 };
}
