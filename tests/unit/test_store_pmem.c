/* The pmem store's pure parts: which memory, what is said about it, what is believed of it. */
#include <xxhash.h>

#include "crkexec/store_pmem.h"
#include "initramfs/early_store_pmem.h"
#include "tests/unit/unit.h"
#include "util/io.h"

#define MIB	(1ull << 20)
#define PAGE	HUGEPAGE_BYTES
#define BLOCK	(128 * MIB)

static const char recorded[] =
	"00000000-00000fff : Reserved\n"
	"00001000-0009fbff : System RAM\n"
	"00100000-17ffffff : System RAM\n"
	"  01000000-01d31f2f : Kernel code\n"
	"18000000-2fffffff : dax0.0\n"
	"  18000000-1fffffff : System RAM (kmem)\n"
	"30000000-307fffff : Persistent Memory (legacy)\n"
	"  30000000-307fffff : namespace0.0\n"
	"30800000-30ffffff : Persistent Memory (legacy)\n"
	"40000000-7ffdcfff : System RAM\n"
	"fd00000000-ffffffffff : Reserved\n";

TEST("iomem is read with depths, names and inclusive ends")
{
	struct iomem m;
	struct manifest_range all = { 0, 1ull << 40 }, part = { 0x17000000, 0x2000000 };

	ASSERT_EQ(iomem_parse(recorded, &m), 0);
	ASSERT_EQ(m.n, 11);
	ASSERT_STREQ(m.v[3].name, "Kernel code");
	ASSERT_EQ(m.v[3].depth, 1);
	ASSERT_EQ(m.v[1].bytes, 0x9ec00);
	ASSERT_EQ(iomem_overlap(&m, &all, IOMEM_PMEM), 0x1000000);
	ASSERT_EQ(iomem_overlap(&m, &part, IOMEM_RAM), 0x1000000);
	ASSERT_EQ(iomem_overlap(&m, &part, IOMEM_KMEM), 0x1000000);
	iomem_done(&m);
}

TEST("what is no iomem table is refused")
{
	static const char *const bad[] = {
		"", "x", "1000 : a\n", "2000-1000 : a\n", "1000-2000\n", "-2000 : a\n",
		"1000-2000 : a\n\n", "1000-fffffffffffffffffff", "1000-2000 : a\nfoo\n",
	};
	struct iomem m;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ASSERT_EQ(iomem_parse(bad[i], &m), -EBADMSG);
	/* What users other than root see. */
	ASSERT_EQ(iomem_parse("00000000-00000000 : System RAM\n", &m), -EACCES);
	ASSERT_EQ(iomem_parse("0-ffffffffffffffff : all\n", &m), 0);
	iomem_done(&m);
}

TEST("memory is read only when neither the kernel nor a driver has it")
{
	const struct iomem_entry *claim;
	struct iomem m;

	ASSERT_EQ(iomem_parse(recorded, &m), 0);
	ASSERT_EQ(early_pmem_check_range(&m, &(struct manifest_range){ 0x30800000, 8 * MIB }, &claim),
		  0);
	/* 7.2 keeps soft-reserved memory out of the table until its driver comes. */
	ASSERT_EQ(early_pmem_check_range(&m, &(struct manifest_range){ 0x32000000, 8 * MIB }, &claim),
		  0);
	ASSERT_EQ(early_pmem_check_range(&m, &(struct manifest_range){ 0x40000000, 8 * MIB }, &claim),
		  -EBADMSG);
	ASSERT_EQ(early_pmem_check_range(&m, &(struct manifest_range){ 0x3ff00000, 8 * MIB }, &claim),
		  -EBADMSG);
	ASSERT_EQ(early_pmem_check_range(&m, &(struct manifest_range){ 0x18000000, 8 * MIB }, &claim),
		  -EBADMSG);
	ASSERT_EQ(early_pmem_check_range(&m, &(struct manifest_range){ 0x30000000, 8 * MIB }, &claim),
		  -EBUSY);
	ASSERT_STREQ(claim->name, "namespace0.0");
	iomem_done(&m);
}

TEST("soft-reserved memory is nobody's, also where a device stands for it, until a driver has it")
{
	static const char before_6_3[] =
		"00100000-1fffffff : System RAM\n"
		"20000000-27ffffff : hmem.0\n"
		"  20000000-27ffffff : Soft Reserved\n";
	const struct manifest_range range = { 0x20000000, 8 * MIB };
	_cleanup_free_ char *driven = str_fmt("%s    20000000-27ffffff : dax0.0\n", before_6_3);
	const struct iomem_entry *claim;
	struct iomem m;

	ASSERT_EQ(iomem_parse(before_6_3, &m), 0);
	ASSERT_EQ(early_pmem_check_range(&m, &range, &claim), 0);
	iomem_done(&m);
	ASSERT_EQ(iomem_parse(driven, &m), 0);
	ASSERT_EQ(early_pmem_check_range(&m, &range, &claim), -EBUSY);
	ASSERT_STREQ(claim->name, "dax0.0");
	iomem_done(&m);
}

TEST("the loader's part of memory is the top of each range of it")
{
	struct manifest_range *v;
	struct iomem m;
	size_t n;

	ASSERT_EQ(iomem_parse(recorded, &m), 0);
	ASSERT_EQ(pmem_avoid_loader(&m, 16 * MIB, &v, &n), 0);
	ASSERT_EQ(n, 3);
	ASSERT_EQ(v[0].addr, 0x1000);
	ASSERT_EQ(v[1].addr, 0x17000000);
	ASSERT_EQ(v[2].addr + v[2].bytes, 0x7ffdd000);
	free(v);
	iomem_done(&m);
}

TEST("segments are found in the kernel's log and compared with the store")
{
	struct manifest_range s, store[] = { { 0x10000000, 0x8000000 }, { 0x40000000, 0x200000 } };

	ASSERT_EQ(pmem_parse_segment("6,1,2,-;kexec_file: segment[2]: buf=0x0000000091cf195f "
				     "bufsz=0xd207c0 mem=0x7c200000 memsz=0x3c35000\n", &s), 1);
	ASSERT_EQ(s.addr, 0x7c200000);
	ASSERT_EQ(s.bytes, 0x3c35000);
	ASSERT_EQ(pmem_check_segments(store, 2, &s, 1), 0);
	ASSERT_EQ(pmem_parse_segment("kexec_file: nr_segments = 4", &s), 0);
	ASSERT_EQ(pmem_parse_segment("segment[] mem=0x1 memsz=0x1", &s), 0);
	ASSERT_EQ(pmem_parse_segment("segment[0]: mem=0x1", &s), -EBADMSG);
	ASSERT_EQ(pmem_parse_segment("segment[0]: buf=0x1 mem=0x1 memsz=0x0", &s), -EBADMSG);
	ASSERT_EQ(pmem_parse_segment("segment[0]: mem=0x2 memsz=0xffffffffffffffff", &s), -EBADMSG);
	s = (struct manifest_range){ 0x401ff000, 0x1000 };
	ASSERT_EQ(pmem_check_segments(store, 2, &s, 1), -EADDRINUSE);
	s = (struct manifest_range){ 0x40200000, 0x1000 };
	ASSERT_EQ(pmem_check_segments(store, 2, &s, 1), 0);
}

TEST("ranges of memmap= are counted in every word of it")
{
	ASSERT_EQ(pmem_count_memmap("root=/dev/vda ro"), 0);
	ASSERT_EQ(pmem_count_memmap("memmap=1G!4G"), 1);
	ASSERT_EQ(pmem_count_memmap("a memmap=1G!4G,2M$0x100,3M#5 memmap=4M!7 x!y"), 4);
	ASSERT_EQ(pmem_count_memmap("xmemmap=1G!4G memmap=nopentium memmap=512M"), 0);
}

/* Choosing. */

struct frames {
	uint64_t v[4096];
	size_t n;
};

/* Downwards: nothing is taken for sorted. */
static void add_frames(struct frames *f, uint64_t addr, uint64_t bytes)
{
	while (bytes) {
		bytes -= PAGE;
		f->v[f->n++] = addr + bytes;
	}
}

static struct choose_spec spec_of(uint64_t bytes)
{
	return (struct choose_spec){ .bytes = bytes, .block_bytes = BLOCK, .low = 64 * MIB,
				     .max_ranges = 60 };
}

TEST("the smallest run of whole blocks that suffices is taken, its upper end")
{
	struct choose_spec s = spec_of(130 * MIB);
	struct manifest_range *v;
	struct frames f = { .n = 0 };
	uint64_t bytes;
	size_t n;

	add_frames(&f, 1024 * MIB, 1024 * MIB);
	add_frames(&f, 4096 * MIB - 2 * MIB, 4 * BLOCK);
	ASSERT_EQ(hugepages_choose(f.v, f.n, &s, &v, &n, &bytes), 0);
	ASSERT_EQ(n, 1);
	/* Three whole blocks lie in there. */
	ASSERT_EQ(v[0].addr, 4096 * MIB + BLOCK);
	ASSERT_EQ(v[0].bytes, 2 * BLOCK);
	ASSERT_EQ(bytes, 2 * BLOCK);
	free(v);
}

TEST("memory to be avoided, low memory and given-back pages are not taken")
{
	const struct manifest_range avoid[] = { { 512 * MIB + PAGE / 2, 1 } };
	struct choose_spec s = spec_of(BLOCK);
	struct manifest_range *v;
	struct frames f = { .n = 0 };
	uint64_t bytes;
	size_t n;

	add_frames(&f, 0, BLOCK);
	add_frames(&f, 512 * MIB, BLOCK);
	f.v[f.n++] = 0;
	s.avoid = avoid;
	s.n_avoid = 1;
	s.only_blocks = true;
	ASSERT_EQ(hugepages_choose(f.v, f.n, &s, &v, &n, &bytes), -ENOMEM);
	s.only_blocks = false;
	ASSERT_EQ(hugepages_choose(f.v, f.n, &s, &v, &n, &bytes), 0);
	ASSERT_EQ(n, 2);
	ASSERT_GE(v[0].addr, 64 * MIB);
	ASSERT_GE(v[1].addr, 512 * MIB + PAGE);
	free(v);
}

TEST("pages beside blocks never spoil a block's alignment")
{
	struct choose_spec s = spec_of(2 * BLOCK);
	struct manifest_range *v;
	struct frames f = { .n = 0 };
	uint64_t bytes, back;
	size_t n;

	/* One whole block with 100 MiB on either side, and a lone piece. */
	add_frames(&f, 1024 * MIB - 100 * MIB, BLOCK + 200 * MIB);
	ASSERT_EQ(hugepages_choose(f.v, f.n, &s, &v, &n, &bytes), 0);
	ASSERT_GE(bytes, 2 * BLOCK);
	back = pmem_returnable_bytes(v, n, BLOCK);
	ASSERT_EQ(back, BLOCK);
	free(v);
}

TEST("too little memory and too many pieces are told apart, with what there is")
{
	struct choose_spec s = spec_of(20 * PAGE);
	struct manifest_range *v;
	struct frames f = { .n = 0 };
	uint64_t bytes;
	size_t n;

	for (uint64_t i = 0; i < 19; i++)
		add_frames(&f, 1024 * MIB + i * 2 * PAGE, PAGE);
	ASSERT_EQ(hugepages_choose(f.v, f.n, &s, &v, &n, &bytes), -ENOMEM);
	ASSERT_EQ(bytes, 19 * PAGE);
	s.bytes = 19 * PAGE;
	s.max_ranges = 10;
	ASSERT_EQ(hugepages_choose(f.v, f.n, &s, &v, &n, &bytes), -E2BIG);
	ASSERT_EQ(bytes, 10 * PAGE);
	s.max_ranges = 19;
	ASSERT_EQ(hugepages_choose(f.v, f.n, &s, &v, &n, &bytes), 0);
	ASSERT_EQ(n, 19);
	for (size_t i = 1; i < n; i++)
		ASSERT_LT(v[i - 1].addr, v[i].addr);
	free(v);
	ASSERT_EQ(hugepages_choose(NULL, 0, &s, &v, &n, &bytes), -ENOMEM);
}

/* What the new kernel is told, and believes. */

TEST("the command line's words say where and what")
{
	const struct manifest_range r[] = { { 0x18000000, BLOCK }, { 0x100000000, 6 * MIB } };
	const struct pmem_spec spec = { 0x18000000, BLOCK, 0x0123456789abcdef };
	struct pmem_spec back;
	char *text = pmem_memmap_format(r, 2, false);

	ASSERT_STREQ(text, "memmap=128M!0x18000000,6M!0x100000000");
	free(text);
	text = pmem_memmap_format(r, 1, true);
	ASSERT_STREQ(text, "memmap=128M!0x18000000,64T%0-12+0xefffffff");
	free(text);
	text = pmem_spec_format(&spec);
	ASSERT_STREQ(text, "pmem:0x18000000+0x8000000:0123456789abcdef");
	ASSERT_EQ(pmem_spec_parse(text, &back), 0);
	ASSERT_MEM_EQ(&back, &spec, sizeof(spec));
	free(text);
}

TEST("a place that cannot be one is refused")
{
	static const char *const bad[] = {
		"", "pmem:", "pmem:0x200000", "pmem:0x200000+0x200000", "tmpfs:0x200000+0x200000:1",
		"pmem:0x200000+0x200000:", "pmem:0x200000+0x200000:1x", "pmem:0x200000+0x0:1",
		"pmem:0x200001+0x200000:1", "pmem:0x200000+0x1000:1", "pmem:-1+0x200000:1",
		"pmem:0x10000000000000+0x200000:1", "pmem:0x200000+0xffffffffffe00000:1",
		"pmem:0x200000+0x200000:11112222333344445", "pmem:0x200000 +0x200000:1",
		"pmem:00000000000000000000000000200000+0x200000:1",
	};
	struct pmem_spec spec;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (pmem_spec_parse(bad[i], &spec) >= 0)
			unit_fail(__FILE__, __LINE__, "taken: %s", bad[i]);
}

#define SALT	42u
static const char id[] = "0123456789abcdef";

static uint8_t *make_head(void)
{
	uint8_t *head = calloc(1, PMEM_HEAD_BYTES);
	struct pmem_header *h = (struct pmem_header *)head;

	ASSERT(head);
	memcpy(h->id, id, sizeof(h->id));
	h->salt = SALT;
	h->n_ranges = 2;
	h->ranges[0].addr = 0x18000000;
	h->ranges[0].bytes = BLOCK;
	h->ranges[1].addr = 0x40000000;
	h->ranges[1].bytes = PAGE;
	h->total_bytes = BLOCK + PAGE;
	h->manifest_bytes = 5;
	memcpy(head + PMEM_MANIFEST_OFF, "text\n", 5);
	h->manifest_hash = XXH3_64bits("text\n", 5);
	pmem_header_seal(h);
	return head;
}

static int check(const void *head)
{
	return pmem_header_check(head, id, SALT, 0x18000000, BLOCK);
}

TEST("a header is believed only as it was written, by its own upgrade")
{
	uint8_t *head = make_head();

	ASSERT_EQ(check(head), 0);
	for (size_t i = 0; i < sizeof(struct pmem_header); i++) {
		head[i] ^= 0x10;
		ASSERT_EQ(check(head), -EBADMSG);
		head[i] ^= 0x10;
	}
	head[PMEM_MANIFEST_OFF + 2] ^= 1;
	ASSERT_EQ(check(head), -EBADMSG);
	head[PMEM_MANIFEST_OFF + 2] ^= 1;
	ASSERT_EQ(pmem_header_check(head, id, SALT + 1, 0x18000000, BLOCK), -EBADMSG);
	ASSERT_EQ(pmem_header_check(head, "0123456789abcdee", SALT, 0x18000000, BLOCK), -EBADMSG);
	ASSERT_EQ(pmem_header_check(head, "0123", SALT, 0x18000000, BLOCK), -EBADMSG);
	ASSERT_EQ(pmem_header_check(head, id, SALT, 0x18200000, BLOCK), -EBADMSG);
	ASSERT_EQ(pmem_header_check(head, id, SALT, 0x18000000, PAGE), -EBADMSG);
	free(head);
}

/* With a right checksum: a hostile writer's. */
static int check_sealed(uint8_t *head)
{
	int r;

	pmem_header_seal((struct pmem_header *)head);
	r = check(head);
	free(head);
	return r;
}

#define ASSERT_REFUSED(change)							\
	do {									\
		uint8_t *head = make_head();					\
		struct pmem_header *h = (struct pmem_header *)head;		\
										\
		change;								\
		ASSERT_EQ(check_sealed(head), -EBADMSG);			\
	} while (0)

TEST("numbers of a header are bounded, whatever its checksum says")
{
	ASSERT_REFUSED(h->n_ranges = 0);
	ASSERT_REFUSED(h->n_ranges = PMEM_RANGES_MAX + 1);
	ASSERT_REFUSED(h->n_ranges = UINT64_MAX);
	ASSERT_REFUSED(h->total_bytes += PAGE);
	ASSERT_REFUSED(h->ranges[1].addr = 0x18000000);
	ASSERT_REFUSED(h->ranges[1].addr += 4096);
	ASSERT_REFUSED(h->ranges[1].bytes = 4096);
	ASSERT_REFUSED(h->ranges[1].bytes = 0);
	ASSERT_REFUSED(h->ranges[1].addr = PMEM_ADDR_MAX);
	ASSERT_REFUSED(h->ranges[1].bytes = UINT64_MAX - PAGE + 1);
	ASSERT_REFUSED(h->manifest_bytes = 0);
	ASSERT_REFUSED(h->manifest_bytes = PMEM_MANIFEST_MAX + 1);
	ASSERT_REFUSED(h->manifest_bytes = UINT64_MAX);
}

TEST("only whole blocks of well-placed ranges count as given back")
{
	const struct manifest_range r[] = {
		{ 8 * BLOCK, 2 * BLOCK + PAGE }, { 16 * BLOCK + PAGE, 4 * BLOCK }, { 32 * BLOCK, PAGE },
	};

	ASSERT_EQ(pmem_returnable_bytes(r, 3, BLOCK), 2 * BLOCK);
	ASSERT_EQ(pmem_returnable_bytes(r, 3, 0), 0);
	ASSERT_EQ(pmem_returnable_bytes(NULL, 0, BLOCK), 0);
}

TEST("a range that the kernel's RAM buffer would cover forbids the conversion")
{
	/* The second is as found in a VM: not readable from 0x25a00000 to 0x27ffffff. */
	const struct manifest_range r[] = {
		{ 0x18000000, BLOCK }, { 0x25a00000, 132 * MIB }, { 0x30000000, BLOCK },
	};
	const struct manifest_range half[] = { { 0x18000000, BLOCK }, { 0x24000000, 6 * MIB } };

	ASSERT(!pmem_may_convert(r, 3));
	ASSERT(!pmem_may_convert(r + 1, 1));
	ASSERT(pmem_may_convert(r, 1));
	ASSERT(pmem_may_convert(half, 2));
}

TEST("what is swapped out must fit into memory beside the images, for the new kernel has no swap yet")
{
	const struct options opt = { 0 };
	struct upgrade u = { .opt = &opt, .target = { .version = (char *)"1", .own_initramfs = true,
						      .cmdline_max = 4096 } };
	struct store s = { .u = &u };
	struct pmem_state p = { 0 };
	_cleanup_free_ char *why = NULL, *more = NULL;
	int r = pmem_plan(&s, &p, 1u << 20, 0, &why);

	if (r < 0)
		unit_skip("no store in memory on this machine: %s", why);
	ASSERT_EQ(pmem_plan(&s, &p, 1u << 20, 1ull << 50, &more), -ENOMEM);
	ASSERT_CONTAINS(more, "and 1073741824 MiB for what is swapped out now, ");
}
