/*
 * The PID fence: every id that the trees had must be free when they come back, so whatever
 * the booting system starts meanwhile and afterwards gets ids from elsewhere.
 *
 *   kernel.pid_max      to its largest value: saved ids may be beyond the default
 *   ns_last_pid         to the beginning of the widest gap between saved ids
 *
 * Ids given by clone3(set_tid) are not touched by ns_last_pid, and systemd does not reset it.
 * They are in pstree.img: those of threads, and of sessions and groups whose leaders are gone. The
 * trap: of a tree in a PID namespace of its own it is those outside that somebody here could take.
 */
#include "initramfs/early.h"

#include <fcntl.h>
#include <string.h>

#include "initramfs/early_store.h"
#include "util/io.h"
#include "util/log.h"

#define PID_LIMIT	4194304u	/* the kernel's PID_MAX_LIMIT on 64 bits */
#define PID_FIRST	300u		/* RESERVED_PIDS: where the kernel starts again */
/* A way off from what the trees themselves may start soon. */
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

static int push_numbers(uint32_t **ids, size_t *n, const PidNumbersEntry *e, uint32_t id)
{
	return push(ids, n, e && e->n_at ? e->at[0] : id);
}

int fence_push_process(uint32_t **ids, size_t *n, const PstreeEntry *e)
{
	int r = push_numbers(ids, n, e->n_numbers ? e->numbers[0] : NULL, e->pid);

	for (size_t i = 1; i < e->n_threads && r == 0; i++)
		r = push_numbers(ids, n, i < e->n_numbers ? e->numbers[i] : NULL, e->threads[i]);
	if (r == 0)
		r = push_numbers(ids, n, e->group_numbers, e->pgid);
	return r < 0 ? r : push_numbers(ids, n, e->session_numbers, e->sid);
}

/* A tree whose images are damaged does not come back, and needs none. */
static int push_tree(struct early *e, uint32_t **ids, size_t *n, const struct manifest_tree *t)
{
	struct image_reader raw, rd = { 0 };
	struct early_images images;
	struct arena arena;
	PstreeEntry *entry;
	int r = push(ids, n, (uint32_t)t->root_pid);

	if (r < 0 || early_images_open_files(e, t, &images) < 0)
		return r;
	arena_init(&arena);
	if (early_images_file(t, &images, "pstree.img", &raw) >= 0 &&
	    image_open(images.store, &image_pstree, &rd) >= 0)
		while (r >= 0 && image_get(&rd, &arena, pstree_entry, &entry) > 0)
			r = fence_push_process(ids, n, entry);
	image_reader_done(&rd);
	image_reader_done(&raw);
	arena_done(&arena);
	early_images_close(&images);
	return r;
}

static int collect(struct early *e, uint32_t **ids, size_t *n)
{
	const struct manifest *m = e->manifest;
	int r = 0;

	for (size_t u = 0; u < m->n_units && r == 0; u++)
		for (size_t t = 0; t < m->units[u].n_trees && r == 0; t++)
			r = push_tree(e, ids, n, &m->units[u].trees[t]);
	return r;
}

int early_fence(struct early *e)
{
	_cleanup_free_ uint32_t *ids = NULL;
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	uint32_t place;
	int r;

	r = collect(e, &ids, &n);
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
