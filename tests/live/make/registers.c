/*
 * Registers of a thread that computes: x87 and its control word, MXCSR, AVX (and AVX-512 where the
 * processor has it), the rights to protection keys, the base of GS as the thread itself sets it.
 *
 * processor: max
 */
#include <cpuid.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "maker.h"

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE 2
#endif
#define GS_BASE		0x123456789000ul
#define CONTROL_WORD	0x0e7f		/* double precision, towards zero */
#define MXCSR		0x7f80u		/* towards zero */

struct vectors {
	uint8_t ymm[4][32];
	uint8_t zmm[2][64];
	uint64_t mask[2];
	uint8_t st[2][10];
	uint16_t control;
	uint32_t mxcsr;
};

static struct vectors in, out;
static bool has_avx512;
static int stop, computes;
static uint32_t pkru_before, pkru_after;
static unsigned long gs_after;
static int key;

static uint32_t rights(void)
{
	uint32_t eax, edx;

	__asm__ volatile("rdpkru" : "=a"(eax), "=d"(edx) : "c"(0));
	return eax;
}

#define YMM(op, n, reg) "vmovdqu " op(#n " * 32(%[v])", "%%ymm" #reg) "\n"
#define TO_REG(mem, reg) mem ", " reg
#define TO_MEM(mem, reg) reg ", " mem
#define EACH_YMM(op) YMM(op, 0, 0) YMM(op, 1, 1) YMM(op, 2, 8) YMM(op, 3, 15)

/* Everything into registers, a loop until it is told to stop, and back. */
static void compute(void)
{
	const uint16_t control = CONTROL_WORD;
	const uint32_t mxcsr = MXCSR, usual = 0x1f80;

	__asm__ volatile("fninit\n fldcw %[cw]\n fldpi\n fldl2e\n ldmxcsr %[mx]\n"
			 EACH_YMM(TO_REG)
			 : : [v] "r"(&in), [cw] "m"(control), [mx] "m"(mxcsr) : "memory");
	if (has_avx512)
		__asm__ volatile("vmovdqu64 (%[z]), %%zmm16\n vmovdqu64 64(%[z]), %%zmm31\n"
				 "kmovq (%[k]), %%k1\n kmovq 8(%[k]), %%k7\n"
				 : : [z] "r"(in.zmm), [k] "r"(in.mask) : "memory");
	__asm__ volatile("movl $1, %[begun]\n 1: pause\n cmpl $0, %[stop]\n je 1b\n"
			 : [begun] "=m"(computes) : [stop] "m"(stop) : "memory", "cc");
	if (has_avx512)
		__asm__ volatile("vmovdqu64 %%zmm16, (%[z])\n vmovdqu64 %%zmm31, 64(%[z])\n"
				 "kmovq %%k1, (%[k])\n kmovq %%k7, 8(%[k])\n"
				 : : [z] "r"(out.zmm), [k] "r"(out.mask) : "memory");
	__asm__ volatile(EACH_YMM(TO_MEM)
			 "vzeroupper\n stmxcsr %[mx]\n fnstcw %[cw]\n fstpt (%[st])\n fstpt 10(%[st])\n"
			 "ldmxcsr %[usual]\n fninit\n"
			 : [cw] "=m"(out.control), [mx] "=m"(out.mxcsr)
			 : [v] "r"(&out), [st] "r"(out.st), [usual] "m"(usual) : "memory");
}

static void *thread(void *unused)
{
	unsigned long gs = GS_BASE;

	key = (int)syscall(SYS_pkey_alloc, 0, PKEY_DISABLE_WRITE);
	pkru_before = rights();
	__asm__ volatile("wrgsbase %0" : : "r"(gs));
	compute();
	__asm__ volatile("rdgsbase %0" : "=r"(gs_after));
	pkru_after = rights();
	return unused;
}

/* XCR0: what the kernel uses. */
static bool enabled(uint32_t bits)
{
	uint32_t eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE))
		return false;
	__asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return (eax & bits) == bits;
}

static void same_bytes(const char *what, const void *is, const void *should, size_t n)
{
	if (memcmp(is, should, n))
		maker_fail("%s differs", what);
}

int main(int argc, char **argv)
{
	/* log2(e) and pi, rounded towards zero. */
	static const uint8_t st[2][10] = {
		{ 0xbb, 0xf0, 0x17, 0x5c, 0x29, 0x3b, 0xaa, 0xb8, 0xff, 0x3f },
		{ 0x34, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40 },
	};
	pthread_t t;

	maker_begin(argc, argv);
	if (!enabled(0x204) || !(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
		maker_skip("the processor or the kernel has no AVX, protection keys or FSGSBASE");
	has_avx512 = enabled(0xe0) && __builtin_cpu_supports("avx512bw");
	for (size_t i = 0; i < sizeof(in); i++)
		((uint8_t *)&in)[i] = (uint8_t)(i * 37 + 11);
	MAKER_MUST(!pthread_create(&t, NULL, thread, NULL));
	while (!__atomic_load_n(&computes, __ATOMIC_ACQUIRE))
		usleep(1000);
	maker_ready();
	maker_wait();

	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	MAKER_MUST(!pthread_join(t, NULL));
	same_bytes("an AVX register", out.ymm, in.ymm, sizeof(in.ymm));
	if (has_avx512) {
		same_bytes("an AVX-512 register", out.zmm, in.zmm, sizeof(in.zmm));
		same_bytes("a mask register", out.mask, in.mask, sizeof(in.mask));
	}
	same_bytes("the x87 stack", out.st, st, sizeof(st));
	MAKER_SAME("the x87 control word", out.control, CONTROL_WORD);
	MAKER_SAME("MXCSR", out.mxcsr, MXCSR);
	MAKER_MUST(key > 0);
	MAKER_SAME("the thread's rights to its key", pkru_before >> 2 * key & 3, PKEY_DISABLE_WRITE);
	MAKER_SAME("its rights to all keys", pkru_after, pkru_before);
	MAKER_SAME("the base of GS", gs_after, GS_BASE);
	maker_ok();
}
