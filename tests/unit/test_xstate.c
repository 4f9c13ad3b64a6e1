/* Registers of a processor that has more than this one. */
#include <sys/auxv.h>

#include "task/parts.h"
#include "task/regs.h"
#include "unit.h"

#define AVX	0x7ull
#define AVX512	0xe7ull
#define PKEYS	0x200ull

static UserX86XsaveEntry x;
static uint32_t words[64], rights[2];
static uint64_t wide[128];

/* As a machine with these components writes it. */
static void fixture(uint64_t has, uint64_t in_use)
{
	log_init(LOGLEVEL_NONE, -1);
	user_x86_xsave_entry__init(&x);
	x.xstate_bv = in_use;
	x.ymmh_space = words;
	x.n_ymmh_space = has & 4 ? 64 : 0;
	x.bndreg_state = x.bndcsr_state = x.opmask_reg = x.zmm_upper = x.hi16_zmm = wide;
	x.n_bndreg_state = x.n_bndcsr_state = has & 0x18 ? 8 : 0;
	x.n_opmask_reg = has & 0xe0 ? 8 : 0;
	x.n_zmm_upper = has & 0xe0 ? 64 : 0;
	x.n_hi16_zmm = has & 0xe0 ? 128 : 0;
	x.pkru = rights;
	x.n_pkru = has & PKEYS ? 2 : 0;
	rights[0] = 0x55555554;
}

TEST("a processor without what the image's had is refused, used at the dump or not")
{
	fixture(AVX512, 3);
	ASSERT_OK(xstate_check(&x, AVX512));
	ASSERT_EQ(xstate_check(&x, AVX), -EOPNOTSUPP);
	ASSERT_EQ(xstate_check(&x, 3), -EOPNOTSUPP);
	fixture(AVX, AVX);
	ASSERT_EQ(xstate_check(&x, 3), -EOPNOTSUPP);
}

TEST("a processor with more than the image's had is taken")
{
	fixture(AVX, AVX);
	ASSERT_OK(xstate_check(&x, AVX512 | PKEYS));
	ASSERT_OK(xstate_check(NULL, AVX512 | PKEYS));
	ASSERT_OK(xstate_check(NULL, 3));
}

TEST("rights to protection keys need a processor that has them, unless nobody has set any")
{
	fixture(AVX | PKEYS, AVX | PKEYS);
	ASSERT_OK(xstate_check(&x, AVX));
	rights[0] = 0x55555550;
	ASSERT_EQ(xstate_check(&x, AVX), -EOPNOTSUPP);
	ASSERT_OK(xstate_check(&x, AVX | PKEYS));
	x.xstate_bv = AVX;
	ASSERT_OK(xstate_check(&x, AVX));
}

TEST("MPX, which Linux knows no more, is missed only by those who used it")
{
	fixture(AVX | 0x18, AVX);
	ASSERT_OK(xstate_check(&x, AVX));
	x.xstate_bv |= 8;
	ASSERT_EQ(xstate_check(&x, AVX), -EOPNOTSUPP);
}

TEST("state that images have no room for is noticed")
{
	ASSERT_EQ(xstate_unsaved(0x2ff), 0);
	ASSERT_EQ(xstate_unsaved(0x602e7), 0x60000);
	ASSERT_EQ(xstate_unsaved(0x80003), 0x80000);
}

TEST("a program that was told of FSGSBASE needs it")
{
	uint64_t auxv[] = { AT_PAGESZ, 4096, AT_HWCAP2, ~0ull, AT_NULL };
	MmEntry mm = MM_ENTRY__INIT;
	int should = getauxval(AT_HWCAP2) & 2 ? 0 : -EOPNOTSUPP;

	log_init(LOGLEVEL_NONE, -1);
	ASSERT_OK(auxv_check(&mm));
	mm.mm_saved_auxv = auxv;
	/* Cut anywhere. */
	for (size_t n = 0; n <= ARRAY_SIZE(auxv); n++) {
		mm.n_mm_saved_auxv = n;
		ASSERT_EQ(auxv_check(&mm), n < 4 ? 0 : should);
	}
	auxv[3] = ~2ull;
	ASSERT_OK(auxv_check(&mm));
}

TEST("what a process has asked the processor for is refused by name, before it is used")
{
	log_init(LOGLEVEL_NONE, -1);
	ASSERT_OK(xfeatures_check(7, AVX512 | PKEYS | 1 << 17, ~0ull));
	ASSERT_EQ(xfeatures_check(7, AVX512 | 1 << 17 | 1 << 18, ~0ull), -EOPNOTSUPP);
	ASSERT_CONTAINS(log_first_error(), "process 7 has asked for AMX");
	log_first_error_forget();
	ASSERT_EQ(xfeatures_check(8, AVX512, ~(0x3full << 57)), -EOPNOTSUPP);
	ASSERT_CONTAINS(log_first_error(), "process 8 has tags in addresses");
}
