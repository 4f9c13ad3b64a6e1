/*
 * The PID fence: every id that the trees had must be free when they come back, so whatever
 * the booting system starts meanwhile and afterwards gets ids from elsewhere.
 *
 *   kernel.pid_max      to its largest value: saved ids may be beyond the default
 *   ns_last_pid         to the beginning of the widest gap between saved ids
 *
 * Ids given by clone3(set_tid) are not touched by ns_last_pid, and systemd does not reset it.
 * The trap: ids are not in the manifest but in the names of the images, core-ID.img, one for
 * each thread; session and group ids of leaders that are gone are nowhere but in pstree.img,
 * near their members, hence the widest gap instead of the next free number.
 */
#include "initramfs/early.h"

#include <fcntl.h>
#include <string.h>

#include "util/io.h"
#include "util/log.h"

#define PID_LIMIT	4194304u	/* the kernel's PID_MAX_LIMIT on 64 bits */
#define PID_FIRST	300u		/* RESERVED_PIDS: where the kernel starts again */
/* Leaders that are gone had ids near those of their children. */
#define MARGIN		1000u

uint32_t fence_place(const uint32_t *ids, size_t n, uint32_t pid_max)
{
	uint32_t from = PID_FIRST, best = PID_FIRST, widest = 0;

	for (size_t i = 0; i <= n; i++) {
		uint32_t to = i < n ? MIN(ids[i], pid_max) : pid_max;

		if (to > from && to - from > widest) {
			widest = to - from;
			best = from;
		}
		from = MAX(from, to + 1);
	}
	return widest > 4 * MARGIN && best != PID_FIRST ? best + MARGIN : best;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static int push(uint32_t **ids, size_t *n, uint32_t id)
{
	uint32_t *p = *ids;

	if ((*n & (*n - 1)) == 0) {
		p = realloc(*ids, MAX(*n * 2, (size_t)64) * sizeof(*p));
		if (!p)
			return -ENOMEM;
		*ids = p;
	}
	p[(*n)++] = id;
	return 0;
}

static int push_tree(uint32_t **ids, size_t *n, const struct manifest_tree *t)
{
	int r = push(ids, n, t->root_pid);

	for (size_t i = 0; i < t->n_images && r == 0; i++) {
		unsigned int id;
		int end = 0;

		if (sscanf(t->images[i].name, "core-%u.img%n", &id, &end) == 1 && end &&
		    id > 0 && id < PID_LIMIT)
			r = push(ids, n, id);
	}
	return r;
}

static int collect(const struct manifest *m, uint32_t **ids, size_t *n)
{
	int r = 0;

	for (size_t u = 0; u < m->n_units && r == 0; u++)
		for (size_t t = 0; t < m->units[u].n_trees && r == 0; t++)
			r = push_tree(ids, n, &m->units[u].trees[t]);
	return r;
}

int early_fence(struct early *e)
{
	_cleanup_free_ uint32_t *ids = NULL;
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	uint32_t place;
	int r;

	r = collect(e->manifest, &ids, &n);
	if (r < 0)
		return log_err(r, "cannot collect the saved process ids");
	if (n)
		qsort(ids, n, sizeof(*ids), by_value);
	place = fence_place(ids, n, PID_LIMIT);
	text = str_fmt("%u", place);
	if (!text)
		return -ENOMEM;
	r = write_file_at(AT_FDCWD, "/proc/sys/kernel/pid_max", "4194304");
	if (r < 0)
		return log_err(r, "cannot raise kernel.pid_max");
	r = write_file_at(AT_FDCWD, "/proc/sys/kernel/ns_last_pid", text);
	if (r < 0)
		return log_err(r, "cannot set kernel.ns_last_pid");
	log_info("PID fence: %zu saved ids, new ones from %u", n, place + 1);
	return 0;
}
