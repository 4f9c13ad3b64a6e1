/*
 * Images of System V IPC: damaged ones are refused before anything is made of them. And the
 * arrays that read and set adjustments (SEM_UNDO), asked of the kernel.
 */
#include "image_fixture.h"
#include "ns/ipc_state.h"

#include <sys/shm.h>

#define NS 3u

struct world {
	struct fixture f;
	struct restore_ctx ctx;
	struct restore_process proc;
	PstreeEntry pst;
	InventoryEntry inventory;
	TaskKobjIdsEntry ids;
	struct image_writer *w;
};

static void world_begin(struct world *w, const struct image_type *type)
{
	*w = (struct world){ .f = fixture_begin(BUNDLE, 8u << 20) };
	pstree_entry__init(&w->pst);
	inventory_entry__init(&w->inventory);
	task_kobj_ids_entry__init(&w->ids);
	w->pst.pid = 100;
	w->ids.has_ipc_ns_id = true;
	w->ids.ipc_ns_id = NS;
	w->inventory.root_ids = &w->ids;
	w->proc = (struct restore_process){ .ctx = &w->ctx, .pst = &w->pst, .alive = true };
	w->ctx.procs = &w->proc;
	w->ctx.n_procs = 1;
	w->ctx.inventory = &w->inventory;
	arena_init(&w->ctx.arena);
	ASSERT_OK(image_create(w->f.store, type, &w->w, NS));
}

static void world_refuses(struct world *w)
{
	ASSERT_OK(image_close(take_ptr(w->w)));
	fixture_reopen(&w->f);
	w->ctx.store = w->f.store;
	ASSERT_EQ(ipc_restore(&w->ctx), -EBADMSG);
	ipc_restore_done(&w->ctx, true);
	arena_done(&w->ctx.arena);
	fixture_end(&w->f);
}

static IpcDescEntry desc(uint32_t id)
{
	IpcDescEntry d = IPC_DESC_ENTRY__INIT;

	d.id = id;
	d.mode = 0600;
	return d;
}

struct sem_image {
	IpcDescEntry d;
	IpcSemEntry e;
	IpcSemUndoEntry u, *list[1];
	uint32_t pids[4];
	uint16_t values[4];
};

/* A good one of two semaphores with one adjustment. */
static void sem_good(struct sem_image *s)
{
	*s = (struct sem_image){ .d = desc(0x7fff0001), .values = { 1, 2 }, .pids = { 100, 0 } };
	ipc_sem_entry__init(&s->e);
	ipc_sem_undo_entry__init(&s->u);
	s->u.pid = 100;
	s->u.num = 1;
	s->u.adj = -5;
	s->list[0] = &s->u;
	s->e.desc = &s->d;
	s->e.nsems = s->e.n_pids = 2;
	s->e.pids = s->pids;
	s->e.undo = s->list;
	s->e.n_undo = 1;
}

static void sem_put(struct world *w, const struct sem_image *s, size_t bytes)
{
	ASSERT_OK(image_put(w->w, &s->e.base));
	if (bytes)
		ASSERT_OK(image_put_raw(w->w, s->values, bytes));
}

#define SEM_REFUSED(change)				\
	do {						\
		struct sem_image s;			\
		struct world w;				\
							\
		sem_good(&s);				\
		change;					\
		world_begin(&w, &image_ipcns_sem);	\
		sem_put(&w, &s, 8);			\
		world_refuses(&w);			\
	} while (0)

TEST("semaphores with impossible ids, modes, numbers, values and pids are refused")
{
	SEM_REFUSED(s.d.id = 0x80000000u);
	SEM_REFUSED(s.d.mode = 01600);
	SEM_REFUSED(s.e.nsems = 0);
	SEM_REFUSED(s.e.nsems = UINT32_MAX);
	SEM_REFUSED(s.e.nsems = 65536);
	SEM_REFUSED(s.values[1] = 32768);
	SEM_REFUSED(s.e.n_pids = 1);
	SEM_REFUSED(s.e.n_pids = 3);
}

TEST("adjustments of semaphores that are out of range or of nobody are refused")
{
	SEM_REFUSED(s.u.num = 2);
	SEM_REFUSED(s.u.adj = 0);
	SEM_REFUSED(s.u.adj = 32768);
	SEM_REFUSED(s.u.adj = -32769);
	SEM_REFUSED(s.u.adj = INT32_MIN);
	SEM_REFUSED(s.u.pid = 101);
	SEM_REFUSED(s.u.pid = 0);
	SEM_REFUSED(s.e.by_owner = s.e.has_by_owner = true);
}

TEST("a set of semaphores that is there twice, or without all its values, is refused")
{
	struct sem_image s;
	struct world w;

	sem_good(&s);
	world_begin(&w, &image_ipcns_sem);
	sem_put(&w, &s, 8);
	sem_put(&w, &s, 8);
	world_refuses(&w);
	world_begin(&w, &image_ipcns_sem);
	sem_put(&w, &s, 0);
	world_refuses(&w);
	s.e.nsems = 60000;
	s.e.n_pids = 0;
	world_begin(&w, &image_ipcns_sem);
	sem_put(&w, &s, 8);
	world_refuses(&w);
}

static void msg_put(struct world *w, uint32_t id, uint32_t qnum, uint32_t qbytes)
{
	IpcMsgEntry e = IPC_MSG_ENTRY__INIT;
	IpcDescEntry d = desc(id);

	e.desc = &d;
	e.qnum = qnum;
	e.qbytes = qbytes;
	ASSERT_OK(image_put(w->w, &e.base));
}

static void msg_put_message(struct world *w, uint64_t type, uint32_t size, size_t bytes)
{
	static const char text[64];
	IpcMsg m = IPC_MSG__INIT;

	m.mtype = type;
	m.msize = size;
	ASSERT_OK(image_put(w->w, &m.base));
	if (bytes)
		ASSERT_OK(image_put_raw(w->w, text, bytes));
}

TEST("message queues with impossible ids, sizes and numbers of messages are refused")
{
	const struct { uint32_t id, qnum, qbytes; } bad[] = {
		{ 0xffffffff, 0, 100 }, { 1, 0, 0xffffffff }, { 1, 0xffffffff, 100 }, { 1, 1, 100 },
	};
	struct world w;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		world_begin(&w, &image_ipcns_msg);
		msg_put(&w, bad[i].id, bad[i].qnum, bad[i].qbytes);
		world_refuses(&w);
	}
	world_begin(&w, &image_ipcns_msg);
	msg_put(&w, 0x7fff0001, 0, 100);
	msg_put(&w, 0x7fff0001, 0, 100);
	world_refuses(&w);
}

TEST("messages of impossible types and sizes, and cut off ones, are refused")
{
	const struct { uint64_t type; uint32_t size; size_t bytes; } bad[] = {
		{ 0, 1, 8 }, { 1ull << 63, 1, 8 }, { UINT64_MAX, 1, 8 }, { 1, UINT32_MAX, 8 },
		{ 1, MESSAGE_BYTES_MAX + 1, 8 }, { 1, 9, 8 }, { 1, 1, 0 }, { 1, 1, 4 },
	};
	struct world w;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		world_begin(&w, &image_ipcns_msg);
		msg_put(&w, 0x7fff0001, 1, 100);
		msg_put_message(&w, bad[i].type, bad[i].size, bad[i].bytes);
		world_refuses(&w);
	}
}

static void shm_put(struct world *w, uint64_t size, uint32_t huge)
{
	IpcDescEntry d = desc(0x7fff0001);
	IpcShmEntry e = IPC_SHM_ENTRY__INIT;

	e.desc = &d;
	e.size = size;
	e.has_in_pagemaps = e.in_pagemaps = true;
	e.has_hugetlb_flag = true;
	e.hugetlb_flag = huge;
	ASSERT_OK(image_put(w->w, &e.base));
}

TEST("segments of impossible sizes and of pages that no processor has are refused, also when they are counted")
{
	const struct { uint64_t size; uint32_t huge; } bad[] = {
		{ 0, 0 }, { INT64_MAX, 0 }, { UINT64_MAX, SHM_HUGETLB }, { 4096, 1 }, { 4096, 21u << 26 },
		{ 4096, SHM_HUGETLB | 11u << 26 }, { 4096, SHM_HUGETLB | 63u << 26 },
		{ 4096, SHM_HUGETLB | 62u << 26 }, { 4096, SHM_HUGETLB | SHM_EXEC },
	};
	uint64_t need[64] = { 0 };
	struct world w;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		world_begin(&w, &image_ipcns_shm);
		shm_put(&w, bad[i].size, bad[i].huge);
		ASSERT_OK(image_close(take_ptr(w.w)));
		fixture_reopen(&w.f);
		w.ctx.store = w.f.store;
		ASSERT_EQ(ipc_huge_pages(&w.ctx, need), -EBADMSG);
		ASSERT_EQ(ipc_restore(&w.ctx), -EBADMSG);
		arena_done(&w.ctx.arena);
		fixture_end(&w.f);
	}
	world_begin(&w, &image_ipcns_shm);
	shm_put(&w, (4u << 20) + 1, SHM_HUGETLB | 21u << 26);
	ASSERT_OK(image_close(take_ptr(w.w)));
	fixture_reopen(&w.f);
	w.ctx.store = w.f.store;
	ASSERT_OK(ipc_huge_pages(&w.ctx, need));
	ASSERT_EQ(need[21], 3);
	arena_done(&w.ctx.arena);
	fixture_end(&w.f);
}

TEST("a segment that is there twice is refused before any is made")
{
	uint64_t need[64] = { 0 };
	struct world w;

	world_begin(&w, &image_ipcns_shm);
	shm_put(&w, 4096, 0);
	shm_put(&w, 4096, 0);
	ASSERT_OK(image_close(take_ptr(w.w)));
	fixture_reopen(&w.f);
	w.ctx.store = w.f.store;
	ASSERT_EQ(ipc_huge_pages(&w.ctx, need), -EBADMSG);
	arena_done(&w.ctx.arena);
	fixture_end(&w.f);
}

static int probe(int id, int value, unsigned int t)
{
	struct sembuf ops[SEM_OPS_MAX];
	unsigned int n = sem_ops_probe(ops, 0, value, t);

	ASSERT(n <= SEM_OPS_MAX);
	ASSERT_EQ(semop(id, ops, n), -1);
	return errno;
}

TEST("an adjustment of any size is set and found without a trace")
{
	const int values[] = { 0, 1, 32767 }, adjs[] = { 1, -1, 77, -32767, 32767, -32768 };
	int id = semget(IPC_PRIVATE, 1, 0600);
	struct sembuf ops[SEM_OPS_MAX];

	ASSERT_OK(id);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		for (size_t k = 0; k < ARRAY_SIZE(adjs); k++) {
			unsigned int least = (unsigned int)(adjs[k] + 32769), n;

			/* Which forgets all adjustments. */
			ASSERT_OK(semctl(id, 0, SETVAL, (union semctl_arg){ .val = values[i] }));
			n = sem_ops_adjust(ops, 0, values[i], adjs[k]);
			ASSERT(n <= SEM_OPS_MAX);
			ASSERT_OK(semop(id, ops, n));
			ASSERT_EQ(semctl(id, 0, GETVAL), values[i]);
			ASSERT_EQ(probe(id, values[i], least), ERANGE);
			if (least > 1)
				ASSERT_EQ(probe(id, values[i], least - 1), EAGAIN);
			/* Whatever the value really is, it never succeeds. */
			probe(id, 5, 1);
			ASSERT_EQ(semctl(id, 0, GETVAL), values[i]);
		}
	ASSERT_OK(semctl(id, 0, IPC_RMID));
}
