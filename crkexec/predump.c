/*
 * Phase "pre-dump": the private memory of large trees is copied while they run, and the dump then
 * saves only what was written since. A gain, no need: what does not work out here is left to
 * the dump, in the pause.
 *
 * The trap: descriptors of this process keep the tracking; it ends with them, whatever ends us.
 */
#include "crkexec/dumpopts.h"
#include "crkexec/memory.h"
#include "crkexec/phases.h"
#include "crkexec/predump.h"
#include "util/log.h"

/* For stopping the tree, which then goes on at once. */
#define STOP_TIMEOUT_USEC	(2ull * 1000000u)

static bool wants_end(void *u)
{
	return upgrade_check_stop(u) < 0;
}

static int keep(struct upgrade *u, const struct pre_dump *pd)
{
	struct pre_dump *v = reallocarray(u->pre_dumps, u->n_pre_dumps + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	u->pre_dumps = v;
	v[u->n_pre_dumps++] = *pd;
	return 0;
}

static int copy_into(struct upgrade *u, struct pre_dump *pd, struct dump_setup *setup)
{
	uint64_t bytes, hash;
	int r;

	setup->opts.store = pd->images;
	setup->opts.track = pd->track;
	/* No freezer: should we be killed, traced tasks run on, a frozen group would not. */
	setup->opts.freeze_cgroup = NULL;
	setup->opts.timeout_usec = STOP_TIMEOUT_USEC;
	setup->opts.cancelled = wants_end;
	setup->opts.cancelled_arg = u;
	r = cr_pre_dump(&setup->opts, NULL);
	if (r == 0)
		r = image_store_seal(pd->images, &bytes, &hash);
	if (r == 0)
		r = keep(u, pd);
	if (r == 0)
		u->pre_dump_bytes += bytes;
	return r;
}

static int copy_tree(struct upgrade *u, size_t i)
{
	struct pre_dump pd = { .unit = i, .root = u->units[i]->tree.root };
	struct dump_setup setup;
	int r = dump_setup_init(&setup, u, i), r2;

	if (r < 0)
		return r;
	r = cr_track_new(&pd.track);
	if (r == 0)
		r = u->store.ops->tree_open(&u->store, i, ROOM_ALL, &pd.images);
	if (r == 0)
		r = copy_into(u, &pd, &setup);
	dump_setup_done(&setup);
	if (r == 0)
		return 0;
	cr_track_free(pd.track);
	r2 = u->store.ops->tree_done(&u->store, pd.images, NULL);
	return r2 < 0 ? r2 : r;
}

int upgrade_pre_dump(void *arg)
{
	struct upgrade *u = arg;
	const struct store_ops *ops = u->store.ops;

	/* The dumps find the trees stopped: what costs them milliseconds is done now. */
	u->peek = cr_peek_new();
	for (size_t i = 0; i < u->n_units; i++) {
		int r;

		if (!ops->has_rest || !ops->has_rest(&u->store, i))
			continue;
		r = copy_tree(u, i);
		if (upgrade_check_stop(u) < 0)
			return -ECANCELED;
		if (r == 0)
			continue;
		upgrade_warn(u, "%s: all its memory is saved in the pause, nothing of it before: %s",
			     u->units[i]->name, *log_first_error() ? log_first_error() : strerror(-r));
		log_first_error_forget();
	}
	return 0;
}

void pre_dumps_done(struct upgrade *u)
{
	for (size_t i = 0; i < u->n_pre_dumps; i++) {
		cr_track_free(u->pre_dumps[i].track);
		/* Closes the images. */
		if (u->store.ops->tree_done(&u->store, u->pre_dumps[i].images, NULL) < 0)
			log_warn("a pre-dump of %s was not closed", u->units[u->pre_dumps[i].unit]->name);
	}
	free(u->pre_dumps);
	u->pre_dumps = NULL;
	u->n_pre_dumps = 0;
	cr_peek_free(u->peek);
	u->peek = NULL;
	for (size_t i = 0; u->ahead && i < u->n_units; i++)
		cr_ahead_free(u->ahead[i]);
	free(u->ahead);
	u->ahead = NULL;
}

int upgrade_unpre_dump(void *arg)
{
	pre_dumps_done(arg);
	return 0;
}

const struct pre_dump *pre_dump_find(const struct upgrade *u, size_t unit)
{
	for (size_t i = 0; i < u->n_pre_dumps; i++)
		if (u->pre_dumps[i].unit == unit && u->pre_dumps[i].root == u->units[unit]->tree.root)
			return &u->pre_dumps[i];
	return NULL;
}
