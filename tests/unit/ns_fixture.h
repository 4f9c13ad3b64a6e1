/* Images of one process in namespaces of its own, as a restore prepares them. */
#ifndef TESTS_UNIT_NS_FIXTURE_H
#define TESTS_UNIT_NS_FIXTURE_H

#include "image_fixture.h"
#include "ns/state.h"

#define NS_ID	20u

struct ns_fixture {
	struct fixture images;
	struct restore_ctx ctx;
	struct restore_process p;
	struct cr_opts opts;
	InventoryEntry inventory;
	TaskKobjIdsEntry root_ids, ids;
};

static inline void ns_fixture_begin(struct ns_fixture *f)
{
	memset(f, 0, sizeof(*f));
	f->images = fixture_begin(DIRECTORY, 0);
	inventory_entry__init(&f->inventory);
	task_kobj_ids_entry__init(&f->root_ids);
	task_kobj_ids_entry__init(&f->ids);
	f->inventory.root_ids = &f->root_ids;
	f->p.ids = &f->ids;
	f->opts.cgroup_mode = -1;
	f->ctx.opts = &f->opts;
	f->ctx.inventory = &f->inventory;
	f->ctx.procs = &f->p;
	f->ctx.n_procs = 1;
	f->ctx.store = f->images.store;
	arena_init(&f->ctx.arena);
}

static inline void ns_fixture_end(struct ns_fixture *f)
{
	arena_done(&f->ctx.arena);
	fixture_end(&f->images);
}

/* The engine's two steps, with nobody between them. */
static inline int prepare_all(struct restore_ctx *ctx)
{
	int r = ns_restore_prepare(ctx), left;

	if (r >= 0)
		r = ns_restore_enter(ctx);
	if (r >= 0)
		r = ns_restore_mounts(ctx);
	left = ns_restore_leave(ctx);
	if (r < 0)
		ns_restore_done(ctx);
	return r < 0 ? r : left;
}

/* A restore's preparation, and its end. */
static inline int ns_fixture_prepare(struct ns_fixture *f)
{
	int r = prepare_all(&f->ctx);

	ASSERT(!f->ctx.ns_state || r >= 0);
	ns_restore_done(&f->ctx);
	ns_fixture_end(f);
	return r;
}

#endif
