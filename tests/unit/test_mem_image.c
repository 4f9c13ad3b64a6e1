/* Areas of mm-N.img that no kernel has: refused before a task is made. */
#include "kernel/features.h"
#include "task/mem.h"
#include "task/parts.h"
#include "task/vma.h"
#include "unit.h"

static struct {
	struct restore_process p;
	PstreeEntry pst;
	MmEntry mm;
	VmaEntry v[2], *vmas[2];
	AioRingEntry aio[2], *aios[2];
} f;

static void fixture(uint32_t status)
{
	log_init(LOGLEVEL_NONE, -1);
	pstree_entry__init(&f.pst);
	mm_entry__init(&f.mm);
	f.p.pst = &f.pst;
	f.p.mm = &f.mm;
	for (size_t i = 0; i < 2; i++) {
		vma_entry__init(&f.v[i]);
		f.v[i].start = 0x10000000 + i * 0x10000;
		f.v[i].end = f.v[i].start + 0x2000;
		f.v[i].status = status;
		f.vmas[i] = &f.v[i];
		aio_ring_entry__init(&f.aio[i]);
		f.aio[i].id = f.v[i].start;
		f.aio[i].ring_len = 0x2000;
		f.aio[i].nr_req = 10;
		f.aios[i] = &f.aio[i];
	}
	f.mm.vmas = f.vmas;
	f.mm.n_vmas = 2;
	f.mm.aios = f.aios;
}

TEST("areas that overlap, are not page-aligned or lie outside user space are refused")
{
	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	ASSERT_OK(mem_check(&f.p));
	f.v[1].start = f.v[0].start + 0x1000;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	f.v[0].end += 1;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	f.v[1].end = 1ull << 56;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
}

TEST("the page of old system calls lies outside of user space, behind all areas")
{
	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	f.v[1].status = VMA_VSYSCALL;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.v[1].start = 0xffffffffff600000;
	f.v[1].end = 0xffffffffff601000;
	ASSERT_OK(mem_check(&f.p));
	f.v[1].start = 0x10000000 + 0x10000;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.vmas[0] = &f.v[1];
	f.vmas[1] = &f.v[0];
	f.v[1].start = 0xffffffffff600000;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
}

TEST("an area of huge pages begins and ends with one")
{
	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	f.v[1].flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.v[1].start = 0x20000000;
	f.v[1].end = 0x20200000;
	ASSERT_OK(mem_check(&f.p));
	f.v[1].flags |= 21u << MAP_HUGE_SHIFT;
	ASSERT_OK(mem_check(&f.p));
	f.v[1].flags |= 30u << MAP_HUGE_SHIFT;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.v[1].flags |= 63u << MAP_HUGE_SHIFT;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
}

TEST("guard pages stand behind all areas and inside user space")
{
	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	f.v[1].status = VMA_GUARD;
	ASSERT_OK(guards_load(&f.p));
	ASSERT_EQ(f.p.n_guards, 1);
	ASSERT_EQ(f.mm.n_vmas, 1);
	ASSERT_OK(mem_check(&f.p));
	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	f.v[0].status = VMA_GUARD;
	ASSERT_OK(guards_load(&f.p));
	ASSERT_EQ(f.p.n_guards, 0);
	ASSERT_EQ(mem_check(&f.p), -EOPNOTSUPP);
	fixture(VMA_GUARD);
	f.v[1].end = f.v[1].start;
	ASSERT_EQ(guards_load(&f.p), -EBADMSG);
	fixture(VMA_GUARD);
	f.v[1].end = 1ull << 56;
	ASSERT_EQ(guards_load(&f.p), -EBADMSG);
}

TEST("guard pages are found by range, in whatever order they are stored, but once each")
{
	static VmaEntry guard[4];
	static VmaEntry *list[4];

	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	for (size_t i = 0; i < ARRAY_SIZE(guard); i++) {
		vma_entry__init(&guard[i]);
		guard[i].status = VMA_GUARD;
		guard[i].start = 0x10000 * (4 - i);
		guard[i].end = guard[i].start + 0x2000;
		list[i] = &guard[i];
	}
	f.mm.vmas = list;
	f.mm.n_vmas = ARRAY_SIZE(list);
	ASSERT_OK(guards_load(&f.p));
	ASSERT_EQ(f.p.n_guards, ARRAY_SIZE(list));
	ASSERT(guards_are_in(&f.p, 0x11000, 0x12000));
	ASSERT(guards_are_in(&f.p, 0xf000, 0x11000));
	ASSERT(guards_are_in(&f.p, 0x41000, 0x50000));
	ASSERT(guards_are_in(&f.p, 0, UINT64_MAX));
	ASSERT(!guards_are_in(&f.p, 0, 0x10000));
	ASSERT(!guards_are_in(&f.p, 0x12000, 0x20000));
	ASSERT(!guards_are_in(&f.p, 0x42000, UINT64_MAX));
	guard[1].start = 0x41000;
	guard[1].end = 0x42000;
	f.mm.n_vmas = ARRAY_SIZE(list);
	ASSERT_EQ(guards_load(&f.p), -EBADMSG);
	f.mm.n_vmas = 0;
	ASSERT_OK(guards_load(&f.p));
	ASSERT(!guards_are_in(&f.p, 0, UINT64_MAX));
}

TEST("an area above 47 bits needs a processor and a kernel with 57, and ends there")
{
	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	f.v[1].start = 1ull << 50;
	f.v[1].end = f.v[1].start + 0x1000;
	ASSERT_EQ(mem_check(&f.p), kernel_has_high_memory() ? 0 : -EOPNOTSUPP);
	f.v[1].end = (1ull << 56) - 0x1000;
	ASSERT_EQ(mem_check(&f.p), kernel_has_high_memory() ? 0 : -EOPNOTSUPP);
	f.v[1].end = 1ull << 56;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.v[1].end = UINT64_MAX & ~0xfffull;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
}

static struct remote remote;
static struct restore_thread thread;
static struct batch b;
static struct restore_ctx ctx;

static int restore(const struct task_part *part)
{
	remote.mirror = remote.mirror ? remote.mirror : calloc(1, ZONE_BYTES);
	remote.zone = 0x10000000;
	remote.zone_bytes = ZONE_BYTES;
	thread.task.remote = &remote;
	batch_begin(&b, &thread.task);
	return part->restore_calls(&ctx, &f.p, &thread, &b);
}

TEST("protection keys, policies, names and locks that no kernel has are refused")
{
	uint64_t nodes[17] = { 1 };
	MempolicyEntry policy = MEMPOLICY_ENTRY__INIT;
	char name[81];

	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	memset(name, 'n', sizeof(name));
	name[80] = '\0';
	f.v[0].name = name;
	ASSERT_EQ(restore(&part_area_state), -EBADMSG);
	name[79] = '\0';
	ASSERT_OK(restore(&part_area_state));
	f.mm.lock_future = 1;
	ASSERT_EQ(restore(&part_lock_future), -EBADMSG);
	f.mm.lock_future = 6;
	ASSERT_OK(restore(&part_lock_future));
	f.mm.mdwe = 4;
	ASSERT_EQ(restore(&part_mdwe), -EBADMSG);
	f.mm.pkeys = 1;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.mm.pkeys = 1u << 16;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.mm.pkeys = 1u << 5;
	ASSERT_EQ(pkeys_check(&f.p, 0xff), -EOPNOTSUPP);
	ASSERT_OK(pkeys_check(&f.p, 0x2ff));
	f.v[0].pkey = 1000;
	ASSERT(!pkeys_area_has_own(&f.mm, &f.v[0]));
	f.mm.pkeys = 0;
	policy.nodes = nodes;
	policy.n_nodes = 17;
	f.v[1].policy = &policy;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	policy.n_nodes = 1;
	ASSERT_OK(mem_check(&f.p));
	policy.mode = 1u << 16;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
}

TEST("AIO rings and their entries belong together, one each")
{
	fixture(VMA_AIORING);
	f.mm.n_aios = 2;
	ASSERT_OK(mem_check(&f.p));
	f.mm.n_aios = 1;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.mm.n_aios = 2;
	f.aio[1].id += 0x1000;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.aio[1].id -= 0x1000;
	f.aio[0].ring_len = 0x1000;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.aio[0].ring_len = 0x2000;
	f.aio[0].nr_req = 0;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	f.aio[0].nr_req = 10;
	f.v[1].status |= VMA_ANON_PRIVATE;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
	fixture(VMA_REGULAR | VMA_ANON_PRIVATE);
	f.mm.n_aios = 1;
	ASSERT_EQ(mem_check(&f.p), -EBADMSG);
}

TEST("an AIO ring whose header no kernel writes is refused")
{
	/* id, nr, head, tail, magic, compat, incompat, header length */
	const uint32_t good[1024] = { 0, 127, 5, 126, 0xa10a10a1, 1, 0, 32 };
	uint32_t bad[1024];

	ASSERT(aio_ring_is_sane(good, 4096));
	ASSERT(!aio_ring_is_sane(good, 8192));
	ASSERT(!aio_ring_is_sane(good, 0));
	ASSERT(!aio_ring_is_sane(good, 1ull << 32));
	for (size_t i = 1; i < 8; i++) {
		memcpy(bad, good, sizeof(bad));
		bad[i] = i == 5 ? 1 : bad[i] + 200;
		ASSERT_EQ(aio_ring_is_sane(bad, 4096), i == 5);
	}
}
