/* io_uring entries that no kernel's ring gives, and a ring made of one. */
#include <fcntl.h>

#include "kind/io_uring.h"
#include "unit.h"

static struct {
	struct restore_ctx ctx;
	struct restore_file f;
	FileEntry fe;
	IoUringEntry e;
	FownEntry fown;
	uint32_t offsets[URING_OFFSETS];
	_Alignas(8) uint8_t rings[8192], sqes[8192];
} g;

static void fixture(void)
{
	log_init(LOGLEVEL_NONE, -1);
	file_entry__init(&g.fe);
	io_uring_entry__init(&g.e);
	fown_entry__init(&g.fown);
	g.f.fe = &g.fe;
	g.fe.uring = &g.e;
	g.e.fown = &g.fown;
	g.e.flags = O_RDWR;
	g.e.sq_entries = 8;
	g.e.cq_entries = 16;
	g.e.offsets = g.offsets;
	g.e.n_offsets = URING_OFFSETS;
}

TEST("io_uring entries with sizes, flags or counts that no ring has are refused")
{
	fixture();
	ASSERT_OK(uring_check(&g.e));
	g.e.sq_entries = 0;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	g.e.sq_entries = 12;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	g.e.sq_entries = 1u << 16;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	g.e.sq_entries = 32;		/* more than events */
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	g.e.sq_entries = 8;
	g.e.setup_flags = URING_SQPOLL;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	g.e.setup_flags = URING_SINGLE_ISSUER;	/* and nobody may submit */
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	g.e.has_submitter = true;
	ASSERT_OK(uring_check(&g.e));
	g.e.setup_flags |= URING_R_DISABLED;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	g.e.has_submitter = false;
	ASSERT_OK(uring_check(&g.e));
	g.e.sq_head = 1;		/* served before it was enabled */
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	fixture();
	g.e.sq_head = URING_COUNT_MAX + 1;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	g.e.sq_head = 5;
	g.e.cq_tail = 6;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	fixture();
	g.e.n_offsets = 15;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	fixture();
	g.e.n_files = URING_SLOTS_MAX + 1;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
	fixture();
	g.e.n_iowq_limits = 1;
	ASSERT_EQ(uring_check(&g.e), -EBADMSG);
}

TEST("a ring that cannot be is refused before anything is made")
{
	struct restore_file *files[] = { &g.f };
	struct restore_ctx ctx = { .files = files, .n_files = 1 };

	fixture();
	g.fe.type = FD_TYPES__IO_URING;
	arena_init(&ctx.arena);
	ASSERT_OK(uring_prepare(&ctx));
	g.e.cq_entries = 3;
	ASSERT_EQ(uring_prepare(&ctx), -EBADMSG);
	arena_done(&ctx.arena);
}

TEST("a ring that only one thread may use is refused if that one cannot enable it")
{
	struct restore_file *files[] = { &g.f };
	FdinfoEntry fd = FDINFO_ENTRY__INIT, *fds[] = { &fd };
	PstreeEntry pst[2] = { PSTREE_ENTRY__INIT, PSTREE_ENTRY__INIT };
	struct restore_process procs[2] = { { .pst = &pst[0], .n_threads = 2 },
					    { .pst = &pst[1], .n_threads = 1, .parent = procs } };
	struct restore_ctx ctx = { .files = files, .n_files = 1, .procs = procs, .n_procs = 2 };

	fixture();
	g.fe.type = FD_TYPES__IO_URING;
	g.e.setup_flags = URING_SINGLE_ISSUER;
	g.e.has_submitter = true;
	g.e.submitter = 8;
	pst[0].pid = 7;
	pst[0].threads = (uint32_t[]){ 7, 8 };
	pst[1].pid = 9;
	arena_init(&ctx.arena);
	ASSERT_EQ(uring_prepare(&ctx), -EBADMSG);	/* nobody has it */
	procs[0].fds = fds;
	procs[0].n_fds = 1;
	fd.id = g.f.id = 3;
	ASSERT_OK(uring_prepare(&ctx));
	g.e.submitter = 9;
	ASSERT_EQ(uring_prepare(&ctx), -EBADMSG);	/* only its parent */
	procs[1].shares_fds = true;
	ASSERT_OK(uring_prepare(&ctx));
	g.e.submitter = 10;
	ASSERT_EQ(uring_prepare(&ctx), -EBADMSG);	/* no such thread */
	g.f.id = 0;
	arena_done(&ctx.arena);
}

static uint32_t *saved(uint32_t off)
{
	return (uint32_t *)(g.e.rings.data + off);
}

/* What a dump of a ring like this would have saved; its counters are the test's. */
static void save_one(uint32_t flags)
{
	_cleanup_uring_map_ struct uring_map m = { 0 };
	struct io_uring_params p;
	int fd, r;

	fixture();
	g.e.setup_flags = flags;
	r = uring_setup(8, 16, flags, &p, &fd);
	if (r == -ENOSYS || r == -EPERM || r == -EINVAL)
		unit_skip("io_uring_setup(flags 0x%x): %s", flags, strerror(-r));
	ASSERT_OK(r);
	ASSERT_OK(uring_map(fd, &p, PROT_READ, &m));
	uring_offsets(&p, g.offsets);
	ASSERT(m.rings_bytes <= sizeof(g.rings) && m.sqes_bytes <= sizeof(g.sqes));
	g.e.rings.data = g.rings;
	g.e.rings.len = m.rings_bytes;
	g.e.sqes.data = g.sqes;
	g.e.sqes.len = m.sqes_bytes;
	memcpy(g.e.rings.data, m.rings, m.rings_bytes);
	memset(g.e.sqes.data, 7, m.sqes_bytes);
	close(fd);
	g.e.sq_head = 1003;
	g.e.cq_tail = 1001;
	*saved(g.offsets[0]) = 1003;
	*saved(g.offsets[9]) = 1001;
	*saved(g.offsets[8]) = 999;
}

static void restore_one(uint32_t flags)
{
	_cleanup_uring_map_ struct uring_map m = { 0 };
	struct io_uring_params p;
	int fd, like;

	save_one(flags);
	ASSERT_OK(uring_restore(&g.ctx, &g.f, &fd));
	ASSERT_OK(uring_setup(8, 16, flags, &p, &like));
	ASSERT_OK(uring_map(fd, &p, PROT_READ, &m));
	ASSERT(!memcmp(m.rings, g.e.rings.data, m.rings_bytes));
	ASSERT(!memcmp(m.sqes, g.e.sqes.data, m.sqes_bytes));
	close(fd);
	close(like);
}

TEST("a ring comes back with its counters and contents, whatever its layout")
{
	restore_one(0);
	restore_one(URING_SQE128);
	restore_one(URING_CQE32 | URING_COOP_TASKRUN);
	restore_one(URING_NO_SQARRAY | URING_SUBMIT_ALL);
}

TEST("rings that contradict their description, or lie elsewhere in memory, are refused")
{
	int fd;

	save_one(0);
	*saved(g.offsets[0]) = 1002;
	ASSERT_EQ(uring_restore(&g.ctx, &g.f, &fd), -EBADMSG);
	save_one(0);
	*saved(g.offsets[9]) = 1002;
	ASSERT_EQ(uring_restore(&g.ctx, &g.f, &fd), -EBADMSG);
	save_one(0);
	*saved(g.offsets[3]) = 1u << 20;
	ASSERT_EQ(uring_restore(&g.ctx, &g.f, &fd), -EBADMSG);
	save_one(0);
	g.offsets[13] += 64;
	ASSERT_EQ(uring_restore(&g.ctx, &g.f, &fd), -EOPNOTSUPP);
	save_one(0);
	g.e.rings.len -= 1;
	ASSERT_EQ(uring_restore(&g.ctx, &g.f, &fd), -EOPNOTSUPP);
	save_one(0);
	g.e.sqes.len = 0;
	ASSERT_EQ(uring_restore(&g.ctx, &g.f, &fd), -EOPNOTSUPP);
	save_one(0);
	g.e.files = (uint32_t[]){ 4711 };	/* of no entry */
	g.e.n_files = 1;
	ASSERT_EQ(uring_restore(&g.ctx, &g.f, &fd), -EBADMSG);
}
