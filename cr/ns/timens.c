/*
 * Clocks that go on: CLOCK_MONOTONIC and CLOCK_BOOTTIME of the tree, in a time namespace.
 *
 *   dump     the readings as the tree sees them: ours plus its namespace's offsets
 *   restore  unshare(CLONE_NEWTIME) in the engine, offsets = image reading − clock now; each
 *            seed enters it
 *
 * Offsets in /proc/PID/timens_offsets are against the initial clocks, whatever namespace we
 * are in ourselves, and can be written only while the namespace is empty. See
 * time_namespaces(7).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "ns/state.h"
#include "util/timer.h"

#define SECOND ((int64_t)NSEC_PER_SEC)
/* Of an image's clock reading; a century, far below where the kernel refuses. */
#define READING_MAX_SEC (100ull * 366 * 86400)

/* "monotonic 1 500000000\nboottime -1 0": blanks vary, the first column may be a number. */
static int read_offsets(int proc_fd, struct clocks *ret)
{
	_cleanup_free_ char *text = NULL;
	char *line, *save = NULL;
	int r = read_file_at(proc_fd, "timens_offsets", 4096, &text, NULL);

	*ret = (struct clocks){ 0 };
	if (r == -ENOENT)	/* a kernel without time namespaces */
		return 0;
	if (r < 0)
		return r;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		int64_t sec, nsec;
		char name[16];

		if (sscanf(line, "%15s %" SCNd64 " %" SCNd64, name, &sec, &nsec) != 3)
			return -EBADMSG;
		if (!strcmp(name, "monotonic") || !strcmp(name, "1"))
			ret->monotonic_nsec = sec * SECOND + nsec;
		else if (!strcmp(name, "boottime") || !strcmp(name, "7"))
			ret->boottime_nsec = sec * SECOND + nsec;
	}
	return 0;
}

static int read_own_offsets(struct clocks *ret)
{
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return self < 0 ? neg_errno() : read_offsets(self, ret);
}

/* Our clocks without our own offsets. */
static int initial_clocks(struct clocks *ret)
{
	struct clocks ours;
	int r = read_own_offsets(&ours);

	if (r < 0)
		return r;
	ret->monotonic_nsec = clock_nsec(CLOCK_MONOTONIC) - ours.monotonic_nsec;
	ret->boottime_nsec = clock_nsec(CLOCK_BOOTTIME) - ours.boottime_nsec;
	return 0;
}

int timens_dump(struct dump_ctx *ctx, struct dump_process *root, uint32_t id)
{
	Timespec monotonic = TIMESPEC__INIT, boottime = TIMESPEC__INIT;
	TimensEntry e = TIMENS_ENTRY__INIT;
	struct clocks now, offsets;
	int r = read_offsets(root->proc_fd, &offsets);

	if (r >= 0)
		r = initial_clocks(&now);
	if (r < 0)
		return log_err(r, "cannot read the clocks of %d", root->pid);
	now.monotonic_nsec += offsets.monotonic_nsec;
	now.boottime_nsec += offsets.boottime_nsec;
	monotonic.tv_sec = (uint64_t)(now.monotonic_nsec / SECOND);
	monotonic.tv_nsec = (uint64_t)(now.monotonic_nsec % SECOND);
	boottime.tv_sec = (uint64_t)(now.boottime_nsec / SECOND);
	boottime.tv_nsec = (uint64_t)(now.boottime_nsec % SECOND);
	e.monotonic = &monotonic;
	e.boottime = &boottime;
	return image_write_one(ctx->store, &image_timens, &e.base, id);
}

static int find_offsets(struct dump_ctx *ctx, struct ns_dump *ns)
{
	int r;

	if (ns->clocks_read)
		return 0;
	/* All of a tree are in one time namespace: ids.c. */
	r = read_offsets(ctx->procs[0]->proc_fd, &ns->tree_ahead);
	if (r >= 0)
		r = read_own_offsets(&ns->own_ahead);
	if (r < 0)
		return log_err(r, "cannot read the clocks of %d", ctx->procs[0]->pid);
	ns->clocks_read = true;
	return 0;
}

int ns_dump_moment(struct dump_ctx *ctx, int64_t own_nsec, uint64_t *ret_nsec)
{
	struct ns_dump *ns = ctx->ns_state;
	int r = find_offsets(ctx, ns);

	if (r >= 0)
		*ret_nsec = (uint64_t)MAX(own_nsec - ns->own_ahead.monotonic_nsec +
					  ns->tree_ahead.monotonic_nsec, 0);
	return r;
}

int ns_dump_end(struct dump_ctx *ctx, clockid_t clock, uint64_t nsec, uint64_t *ret_nsec,
		uint64_t *ret_left_nsec)
{
	struct ns_dump *ns = ctx->ns_state;
	int64_t tree = 0, own = 0, now;
	int r = find_offsets(ctx, ns);

	if (r < 0)
		return r;
	if (clock == CLOCK_MONOTONIC) {
		tree = ns->tree_ahead.monotonic_nsec;
		own = ns->own_ahead.monotonic_nsec;
	} else if (clock == CLOCK_BOOTTIME) {
		tree = ns->tree_ahead.boottime_nsec;
		own = ns->own_ahead.boottime_nsec;
	}
	now = clock_nsec(clock) - own;
	*ret_nsec = timer_sum(tree, nsec);
	*ret_left_nsec = now < 0 || nsec > (uint64_t)now ? timer_sum(-now, nsec) : 0;
	return 0;
}

static int reading(const Timespec *ts, int64_t *ret_nsec)
{
	if (ts->tv_sec > READING_MAX_SEC || ts->tv_nsec >= (uint64_t)SECOND)
		return -EBADMSG;
	*ret_nsec = (int64_t)ts->tv_sec * SECOND + (int64_t)ts->tv_nsec;
	return 0;
}

/* sec may be negative, nsec never is. */
static void split_nsec(int64_t v, int64_t *sec, int64_t *nsec)
{
	*sec = v / SECOND;
	*nsec = v % SECOND;
	if (*nsec < 0) {
		*nsec += SECOND;
		(*sec)--;
	}
}

static int write_offsets(struct ns_restore *ns, const struct clocks *image, int64_t advance_nsec)
{
	int64_t m_sec, m_nsec, b_sec, b_nsec;
	struct clocks now;
	char text[160];
	int r;

	/* What that file tells is our children's, from the next line on no longer ours. */
	r = read_own_offsets(&ns->own);
	/* Read last, so that the clocks do not stand still for long. */
	if (r >= 0)
		r = initial_clocks(&now);
	if (r < 0)
		return r;
	ns->has_clocks = true;
	ns->monotonic_at_dump_nsec = image->monotonic_nsec;
	ns->ahead.monotonic_nsec = image->monotonic_nsec + advance_nsec - clock_nsec(CLOCK_MONOTONIC);
	ns->ahead.boottime_nsec = image->boottime_nsec + advance_nsec - clock_nsec(CLOCK_BOOTTIME);
	split_nsec(image->monotonic_nsec + advance_nsec - now.monotonic_nsec, &m_sec, &m_nsec);
	split_nsec(image->boottime_nsec + advance_nsec - now.boottime_nsec, &b_sec, &b_nsec);
	snprintf(text, sizeof(text), "monotonic %" PRId64 " %" PRId64 "\nboottime %" PRId64 " %"
		 PRId64 "\n", m_sec, m_nsec, b_sec, b_nsec);
	return write_filef(text, "/proc/self/timens_offsets");
}

/*
 * A namespace is made for one's children, and then we leave it to the seeds: while ours would be born in another one
 * than we are in, kernels before 6.3 make no thread for us, nor a child that shares our memory (EINVAL).
 */
static int make(struct ns_restore *ns, const struct clocks *image, int64_t advance_nsec)
{
	_cleanup_close_ int own_fd = open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC);
	int r;

	if (own_fd < 0)
		return log_err(neg_errno(), "this kernel has no time namespaces: the tree's clocks would jump");
	if (unshare(CLONE_NEWTIME) < 0)
		return log_err(neg_errno(), "cannot make a time namespace");
	r = write_offsets(ns, image, advance_nsec);
	if (r < 0)
		log_err(r, "cannot set the clocks of the time namespace");
	ns->time_fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (ns->time_fd < 0 && r >= 0)
		r = log_err(neg_errno(), "cannot open the time namespace");
	if (setns(own_fd, CLONE_NEWTIME) < 0 && r >= 0)
		r = log_err(neg_errno(), "cannot leave the time namespace");
	return r;
}

int timens_build(struct restore_ctx *ctx, uint32_t id)
{
	struct ns_restore *ns = ctx->ns_state;
	struct clocks image;
	TimensEntry *e;
	int r;

	r = image_read_one(ctx->store, &ctx->arena, &image_timens, timens_entry, &e, id);
	if (r < 0)
		return r;
	r = reading(e->monotonic, &image.monotonic_nsec);
	if (r >= 0)
		r = reading(e->boottime, &image.boottime_nsec);
	if (r < 0)
		return log_fail(r, "timens-%u.img: not a clock reading", id);
	return make(ns, &image, ctx->opts->clock_advance_nsec);
}

/* By how much a time namespace with these offsets moves the clock. -EINVAL: see ns_restore_clock(). */
static int offset_of(clockid_t clock, const struct clocks *offsets, int64_t *ret_nsec)
{
	switch (clock) {
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
		*ret_nsec = offsets->monotonic_nsec;
		return 0;
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		*ret_nsec = offsets->boottime_nsec;
		return 0;
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_REALTIME_ALARM:
	case CLOCK_TAI:
		*ret_nsec = 0;
		return 0;
	default:
		return -EINVAL;
	}
}

int ns_restore_clock(struct restore_ctx *ctx, clockid_t clock, int64_t *ret_nsec)
{
	const struct ns_restore *ns = ctx->ns_state;
	int64_t offset;
	int r = offset_of(clock, ns ? &ns->ahead : &(struct clocks){ 0 }, &offset);

	if (r >= 0)
		*ret_nsec = clock_nsec(clock) + offset;
	return r;
}

int ns_restore_clock_age(struct restore_ctx *ctx, clockid_t clock, int64_t *ret_nsec)
{
	const struct ns_restore *ns = ctx->ns_state;
	struct clocks ours;
	int64_t tree, own;
	int r = ns_restore_clock(ctx, clock, &tree);

	if (r >= 0 && ns && ns->has_clocks)
		ours = ns->own;
	else if (r >= 0)
		r = read_own_offsets(&ours);
	if (r >= 0)
		r = offset_of(clock, &ours, &own);
	if (r >= 0)
		*ret_nsec = MIN(tree, clock_nsec(clock) - own);
	return r;
}

static uint64_t elapsed_since(struct restore_ctx *ctx, int64_t monotonic_nsec)
{
	const struct ns_restore *ns = ctx->ns_state;
	int64_t nsec = ctx->opts->clock_advance_nsec;

	if (ns && ns->has_clocks)
		nsec = clock_nsec(CLOCK_MONOTONIC) + ns->ahead.monotonic_nsec - monotonic_nsec;
	return nsec > 0 ? (uint64_t)nsec : 0;
}

uint64_t ns_restore_elapsed_since(struct restore_ctx *ctx, uint64_t monotonic_nsec)
{
	return elapsed_since(ctx, (int64_t)MIN(monotonic_nsec, (uint64_t)INT64_MAX));
}

uint64_t ns_restore_elapsed(struct restore_ctx *ctx)
{
	const struct ns_restore *ns = ctx->ns_state;

	return elapsed_since(ctx, ns ? ns->monotonic_at_dump_nsec : 0);
}

uint64_t ns_restore_left(struct restore_ctx *ctx, clockid_t clock, uint64_t end_nsec, uint64_t left_nsec)
{
	const struct ns_restore *ns = ctx->ns_state;
	uint64_t elapsed = ns_restore_elapsed(ctx);
	int64_t now;

	if ((clock != CLOCK_REALTIME && !(ns && ns->has_clocks)) || ns_restore_clock(ctx, clock, &now) < 0)
		return left_nsec > elapsed ? left_nsec - elapsed : 0;
	return (int64_t)end_nsec > now ? timer_sum(-now, end_nsec) : 0;
}
