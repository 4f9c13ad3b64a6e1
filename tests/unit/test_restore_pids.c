/* cr/core/restore_pids: which numbers clone3() is given, and images that tell wrong ones. */
#include "core/restore_pids.h"
#include "unit.h"

struct pids_fixture {
	struct restore_ctx ctx;
	struct cr_opts opts;
	InventoryEntry inventory;
	TaskKobjIdsEntry root_ids, ids;
	struct restore_process p;
	PstreeEntry e;
	PidNumbersEntry numbers[2], group, session, *list[2];
	uint32_t at[4][3], threads[2];
};

static void numbers_set(PidNumbersEntry *e, uint32_t at[3], uint32_t outer, uint32_t inner)
{
	pid_numbers_entry__init(e);
	at[0] = outer;
	at[1] = inner;
	e->at = at;
	e->n_at = 2;
}

/* Process 7 with a thread 8, which are 1007 and 1008 outside. */
static void pids_begin(struct pids_fixture *f)
{
	*f = (struct pids_fixture){ .ctx = { .opts = &f->opts, .inventory = &f->inventory, .procs = &f->p, .n_procs = 1 },
				    .p = { .ctx = &f->ctx, .pst = &f->e, .ids = &f->ids }, .threads = { 7, 8 } };
	inventory_entry__init(&f->inventory);
	task_kobj_ids_entry__init(&f->ids);
	task_kobj_ids_entry__init(&f->root_ids);
	f->inventory.root_ids = &f->root_ids;
	f->ids.has_pid_ns_id = f->root_ids.has_pid_ns_id = true;
	f->ids.pid_ns_id = 30;
	f->root_ids.pid_ns_id = 2;
	pstree_entry__init(&f->e);
	f->e.pid = f->e.pgid = f->e.sid = 7;
	f->e.threads = f->threads;
	f->e.n_threads = f->e.n_numbers = 2;
	f->e.numbers = f->list;
	f->e.group_numbers = &f->group;
	f->e.session_numbers = &f->session;
	for (uint32_t i = 0; i < 2; i++) {
		f->list[i] = &f->numbers[i];
		numbers_set(f->list[i], f->at[i], 1007 + i, 7 + i);
	}
	numbers_set(&f->group, f->at[2], 1007, 7);
	numbers_set(&f->session, f->at[3], 1007, 7);
}

TEST("a task is made with its numbers of all PID namespaces, the innermost first")
{
	struct pids_fixture f;
	struct set_tid t;

	pids_begin(&f);
	ASSERT_OK(restore_pids_check(&f.ctx, &f.e));
	t = restore_set_tid(&f.p, 1);
	ASSERT_EQ(t.n, 2);
	ASSERT_EQ(t.v[0], 8);
	ASSERT_EQ(t.v[1], 1008);
	ASSERT_EQ(restore_pid_outer(&f.p, 0), 1007);
}

TEST("images that do not tell the numbers outside are taken, with those inside only")
{
	struct pids_fixture f;

	pids_begin(&f);
	f.e.n_numbers = 0;
	f.e.group_numbers = f.e.session_numbers = NULL;
	ASSERT_OK(restore_pids_check(&f.ctx, &f.e));
	ASSERT_EQ(restore_set_tid(&f.p, 1).n, 1);
	ASSERT_EQ(restore_set_tid(&f.p, 1).v[0], 8);
	ASSERT_EQ(restore_pid_outer(&f.p, 1), 0);
}

TEST("a number outside that cannot be had is given up only where that is allowed")
{
	unsigned int tries = 0, used_up = UINT_MAX - 9;
	struct pids_fixture f;
	struct set_tid t;

	pids_begin(&f);
	t = restore_set_tid(&f.p, 0);
	t.v[1] = getpid();
	ASSERT(!restore_set_tid_again(&f.ctx, &t, -ENOMEM, &tries));
	f.opts.keep_outer_pids = true;
	ASSERT(!restore_set_tid_again(&f.ctx, &t, -EEXIST, &used_up));
	ASSERT_EQ(t.n, 2);
	f.opts.keep_outer_pids = false;
	ASSERT(restore_set_tid_again(&f.ctx, &t, -EEXIST, &tries));
	ASSERT_EQ(t.n, 1);
	ASSERT_EQ(t.v[0], 7);
	ASSERT(!restore_set_tid_again(&f.ctx, &t, -EEXIST, &used_up));
}

TEST("a number that nobody has is waited for")
{
	unsigned int tries = 0, n = 0;
	struct pids_fixture f;
	struct set_tid t;
	pid_t gone;

	pids_begin(&f);
	gone = fork();
	if (!gone)
		_exit(0);
	ASSERT_EQ(waitpid(gone, NULL, 0), gone);
	t = restore_set_tid(&f.p, 0);
	t.v[1] = gone;
	while (n < 5 && restore_set_tid_again(&f.ctx, &t, -EEXIST, &tries))
		n++;
	ASSERT_EQ(n, 5);
	ASSERT_EQ(t.n, 2);
	ASSERT_EQ(tries, 5);
}

#define BREAK(what)							\
	do {								\
		pids_begin(&f);						\
		what;							\
		ASSERT_EQ(restore_pids_check(&f.ctx, &f.e), -EBADMSG);	\
	} while (0)

TEST("numbers of other PID namespaces that cannot be are refused")
{
	struct pids_fixture f;

	BREAK(f.e.n_numbers = 1);
	BREAK(f.e.n_numbers = 0);
	BREAK(f.e.group_numbers = NULL);
	BREAK(f.e.session_numbers = NULL);
	BREAK(f.numbers[1].n_at = 0);
	BREAK(f.numbers[1].n_at = 1);
	BREAK(f.numbers[1].n_at = 3);
	BREAK(f.numbers[1].n_at = 1u << 30);
	BREAK(f.at[0][1] = 8);			/* not what the images call it */
	BREAK(f.at[0][0] = 0);
	BREAK(f.at[0][0] = PIDS_MAX);
	BREAK(f.at[1][0] = UINT32_MAX);
	BREAK(f.group.n_at = 0);
	BREAK(f.at[2][1] = 9);
	BREAK(f.at[3][0] = PIDS_MAX);
	BREAK(f.ids.pid_ns_id = 2);		/* it has no namespace of its own */
}

TEST("a stand-in has the number outside that its session's members know")
{
	struct pids_fixture f;
	PstreeEntry helper = PSTREE_ENTRY__INIT, stranger = PSTREE_ENTRY__INIT;

	pids_begin(&f);
	arena_init(&f.ctx.arena);
	f.e.sid = helper.pid = 5;
	numbers_set(&f.session, f.at[3], 1005, 5);
	ASSERT_OK(restore_pids_check(&f.ctx, &f.e));
	ASSERT_OK(restore_pids_of_helper(&f.ctx, &helper, 0));
	ASSERT_EQ(helper.n_numbers, 1);
	ASSERT_EQ(helper.numbers[0]->at[0], 1005);
	stranger.pid = 6;
	ASSERT_OK(restore_pids_of_helper(&f.ctx, &stranger, 0));
	ASSERT_EQ(stranger.n_numbers, 0);
	arena_done(&f.ctx.arena);
}

/* Process 7, in the images' PID namespace 1007 outside, is 3 in one nested in that; its group is from above. */
static void nested_begin(struct pids_fixture *f)
{
	pids_begin(f);
	f->e.has_pid_ns_id = true;
	f->e.pid_ns_id = 31;
	for (size_t i = 0; i < 2; i++) {
		f->at[i][2] = (uint32_t)(3 + i);
		f->list[i]->n_at = 3;
	}
	f->at[2][2] = 0;
	f->at[3][2] = 3;
	f->group.n_at = f->session.n_at = 3;
}

TEST("a task of a nested PID namespace has its number there, and can only do without the outermost")
{
	unsigned int used_up = UINT_MAX - 9;
	struct pids_fixture f;
	struct pid_place place;
	struct set_tid t;

	nested_begin(&f);
	ASSERT_OK(restore_pids_check(&f.ctx, &f.e));
	t = restore_set_tid(&f.p, 1);
	ASSERT_EQ(t.n, 3);
	ASSERT(t.v[0] == 4 && t.v[1] == 8 && t.v[2] == 1008);
	ASSERT(restore_set_tid_again(&f.ctx, &t, -EEXIST, &used_up));
	ASSERT(!restore_set_tid_again(&f.ctx, &t, -EEXIST, &used_up));
	ASSERT_EQ(t.n, 2);
	ASSERT_EQ(restore_pid_inside(&f.p, 1), 4);
	ASSERT_EQ(restore_pgid_inside(&f.p, 7), 0);
	place = restore_place(&f.p);
	ASSERT(place.ns == 31 && !place.first && place.levels == 3);
	ASSERT(place.pgid_levels == 2 && place.sid_levels == 3);
	/* The tree is in the engine's own: every number is one that it must have. */
	f.ids.pid_ns_id = 2;
	f.at[0][0] = 7;
	f.at[1][0] = 8;
	f.at[2][0] = f.at[3][0] = 7;
	ASSERT_OK(restore_pids_check(&f.ctx, &f.e));
	t = restore_set_tid(&f.p, 0);
	ASSERT(!restore_set_tid_again(&f.ctx, &t, -EEXIST, &used_up));
}

#define BREAK_NESTED(what)						\
	do {								\
		nested_begin(&f);					\
		what;							\
		ASSERT_EQ(restore_pids_check(&f.ctx, &f.e), -EBADMSG);	\
	} while (0)

TEST("numbers of nested PID namespaces that cannot be are refused")
{
	struct pids_fixture f;

	BREAK_NESTED(f.e.has_pid_ns_id = false);
	BREAK_NESTED(f.e.pid_ns_id = 0);
	BREAK_NESTED(f.e.n_numbers = 0; f.e.group_numbers = f.e.session_numbers = NULL);
	BREAK_NESTED(f.numbers[1].n_at = 2);
	BREAK_NESTED(f.numbers[0].n_at = f.numbers[1].n_at = f.group.n_at = f.session.n_at = 2);
	BREAK_NESTED(f.numbers[0].n_at = f.numbers[1].n_at = f.group.n_at = f.session.n_at = SET_TID_MAX + 1);
	BREAK_NESTED(f.at[0][2] = 0);
	BREAK_NESTED(f.at[1][2] = PIDS_MAX);
	BREAK_NESTED(f.group.n_at = 2);
	BREAK_NESTED(f.at[3][0] = 0);		/* it shows below, but not above */
}
