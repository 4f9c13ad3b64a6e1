/* What processes share, as images tell it: equal numbers of what only one can have again are refused. */
#include <signal.h>

#include "core/restore_steps.h"
#include "unit.h"

struct family {
	struct arena arena;
	struct restore_ctx ctx;
	struct restore_process p[4];
	PstreeEntry pst[4];
	TaskKobjIdsEntry ids[4];
};

/* 1 makes 2 and 4, 2 makes 3; each has everything for itself. */
static void family_begin(struct family *f)
{
	static const uint32_t parents[] = { 0, 1, 2, 1 };

	*f = (struct family){ .ctx = { .procs = f->p, .n_procs = 4 } };
	log_init(LOGLEVEL_NONE, -1);
	arena_init(&f->arena);
	lineage_init(&f->ctx.lineage, &f->arena);
	for (uint32_t i = 0; i < 4; i++) {
		struct kin kin = { .pid = i + 1, .sid = 1, .pgid = 1, .exit_signal = SIGCHLD }, *k;

		pstree_entry__init(&f->pst[i]);
		task_kobj_ids_entry__init(&f->ids[i]);
		f->pst[i].pid = i + 1;
		f->ids[i].vm_id = f->ids[i].fs_id = f->ids[i].sighand_id = f->ids[i].files_id = i + 2;
		f->p[i] = (struct restore_process){ .ctx = &f->ctx, .pst = &f->pst[i], .ids = &f->ids[i],
						    .parent = parents[i] ? &f->p[parents[i] - 1] : NULL };
		ASSERT_OK(lineage_add(&f->ctx.lineage, lineage_find(&f->ctx.lineage, parents[i]), &kin, &k));
	}
	ASSERT_OK(lineage_plan(&f->ctx.lineage));
}

static void family_end(struct family *f)
{
	lineage_done(&f->ctx.lineage);
	arena_done(&f->arena);
}

TEST("descriptors are shared with the parent, through any number of them, and with nobody but for being asked")
{
	struct family f;

	family_begin(&f);
	ASSERT_OK(restore_shares(&f.ctx));
	for (size_t i = 0; i < 4; i++)
		ASSERT(!f.p[i].shares_fds);
	f.ids[1].files_id = f.ids[2].files_id = f.ids[0].files_id;
	ASSERT_OK(restore_shares(&f.ctx));
	ASSERT(!f.p[0].shares_fds && f.p[1].shares_fds && f.p[2].shares_fds && !f.p[3].shares_fds);
	family_end(&f);
}

TEST("descriptors of one that is not the parent are refused: a sibling, a grandparent, an uncle")
{
	static const struct { size_t a, b; } pairs[] = { { 1, 3 }, { 0, 2 }, { 3, 2 } };
	struct family f;

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		family_begin(&f);
		f.ids[pairs[i].b].files_id = f.ids[pairs[i].a].files_id;
		ASSERT_EQ(restore_shares(&f.ctx), -EOPNOTSUPP);
		ASSERT_CONTAINS(log_first_error(), "which is not its parent");
		family_end(&f);
	}
	/* Nor are they had from there because the parent shares its own with somebody else. */
	family_begin(&f);
	f.ids[1].files_id = f.ids[0].files_id;
	f.ids[2].files_id = 9;
	f.ids[3].files_id = 9;
	ASSERT_EQ(restore_shares(&f.ctx), -EOPNOTSUPP);
	family_end(&f);
}

TEST("descriptors of a zombie, or of another root, are nobody's")
{
	struct family f;

	family_begin(&f);
	f.p[1].ids = NULL;
	f.ids[2].files_id = f.ids[3].files_id;
	ASSERT_EQ(restore_shares(&f.ctx), -EOPNOTSUPP);
	family_end(&f);
	family_begin(&f);
	f.p[3].parent = NULL;
	f.ids[3].files_id = f.ids[0].files_id;
	ASSERT_EQ(restore_shares(&f.ctx), -EOPNOTSUPP);
	family_end(&f);
}

TEST("whose descriptors its parent cannot give it is refused before it is made")
{
	struct family f;
	struct kin *k;

	family_begin(&f);
	f.ids[1].files_id = f.ids[0].files_id;
	k = lineage_find(&f.ctx.lineage, 2);
	k->maker = lineage_find(&f.ctx.lineage, 4);
	ASSERT_EQ(restore_shares(&f.ctx), -EOPNOTSUPP);
	ASSERT_CONTAINS(log_first_error(), "cannot be made by it");
	family_end(&f);
}

TEST("shared memory, signal handlers and working directories are refused by name, whoever has them, and whatever the number")
{
	for (int what = 0; what < 3; what++)
		for (size_t a = 0; a < 4; a++)
			for (size_t b = a + 1; b < 4; b++) {
				uint32_t *ids[2], number = (uint32_t[]){ 1, 0, UINT32_MAX }[b - a - 1];
				struct family f;

				family_begin(&f);
				for (size_t i = 0; i < 2; i++) {
					TaskKobjIdsEntry *e = &f.ids[i ? b : a];

					ids[i] = what == 0 ? &e->vm_id : what == 1 ? &e->sighand_id : &e->fs_id;
					*ids[i] = number;
				}
				ASSERT_EQ(restore_shares(&f.ctx), -EOPNOTSUPP);
				ASSERT_CONTAINS(log_first_error(), what == 0 ? "memory" : what == 1 ? "signal handlers" :
						"working directory, root and umask");
				family_end(&f);
			}
}
