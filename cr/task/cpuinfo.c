/*
 * cpuinfo.img: what the processor of a dump could do, as CPUID says it. Written and compared when somebody asks for it
 * (--cpu-cap, cr cpuinfo): images that go to another machine. What the images use of it for sure, the FPU's state and what
 * the auxiliary vector promised, every restore compares (regs_x86.c).
 *
 * Words are in CRIU's order (the kernel's of about 4.14, arch/x86/include/asm/cpufeature.h); those that only Linux or its
 * drivers have a use for stay 0, for whoever compares all of them.
 */
#include <cpuid.h>
#include <string.h>

#include "cr.h"
#include "image/image.h"
#include "task/cpuinfo.h"
#include "util/arena.h"
#include "util/log.h"

#define CAPABILITY_VERSION	2u	/* of 19 words */
#define OLDER_VERSION		1u	/* of 12, the first of them the same */
#define OLDER_WORDS		12u
#define OSXSAVE			(1u << 27)	/* in word 4: XGETBV may be used */

/* Words with bits that programs ask for: which register of which leaf. */
static const struct word {
	size_t index;
	uint32_t leaf, subleaf;
	enum { EAX, EBX, ECX, EDX } reg;
} words_of_leaves[] = {
	{ 0, 1, 0, EDX },
	{ 1, 0x80000001, 0, EDX },
	{ 4, 1, 0, ECX },
	{ 6, 0x80000001, 0, ECX },
	{ 9, 7, 0, EBX },
	{ 10, 0xd, 1, EAX },
	{ 11, 7, 0, ECX },
	{ 13, 0x80000008, 0, EBX },
	{ 18, 7, 0, EDX },
};

/* Instructions and states that programs use without asking the kernel, by the kernel's names for them. */
static const struct instruction {
	unsigned int word, bit;
	const char *name;
} instructions[] = {
	{ 0, 0, "fpu" }, { 0, 4, "tsc" }, { 0, 8, "cx8" }, { 0, 15, "cmov" }, { 0, 19, "clflush" }, { 0, 23, "mmx" },
	{ 0, 24, "fxsr" }, { 0, 25, "sse" }, { 0, 26, "sse2" },
	{ 1, 11, "syscall" }, { 1, 22, "mmxext" }, { 1, 27, "rdtscp" }, { 1, 29, "lm" }, { 1, 30, "3dnowext" },
	{ 1, 31, "3dnow" },
	{ 4, 0, "pni" }, { 4, 1, "pclmulqdq" }, { 4, 9, "ssse3" }, { 4, 12, "fma" }, { 4, 13, "cx16" }, { 4, 19, "sse4_1" },
	{ 4, 20, "sse4_2" }, { 4, 22, "movbe" }, { 4, 23, "popcnt" }, { 4, 25, "aes" }, { 4, 26, "xsave" },
	{ 4, 27, "osxsave" }, { 4, 28, "avx" }, { 4, 29, "f16c" }, { 4, 30, "rdrand" },
	{ 6, 0, "lahf_lm" }, { 6, 5, "abm" }, { 6, 6, "sse4a" }, { 6, 7, "misalignsse" }, { 6, 8, "3dnowprefetch" },
	{ 6, 11, "xop" }, { 6, 16, "fma4" }, { 6, 21, "tbm" }, { 6, 29, "mwaitx" },
	{ 9, 0, "fsgsbase" }, { 9, 3, "bmi1" }, { 9, 4, "hle" }, { 9, 5, "avx2" }, { 9, 8, "bmi2" }, { 9, 9, "erms" },
	{ 9, 11, "rtm" }, { 9, 14, "mpx" }, { 9, 16, "avx512f" }, { 9, 17, "avx512dq" }, { 9, 18, "rdseed" },
	{ 9, 19, "adx" }, { 9, 21, "avx512ifma" }, { 9, 23, "clflushopt" }, { 9, 24, "clwb" }, { 9, 26, "avx512pf" },
	{ 9, 27, "avx512er" }, { 9, 28, "avx512cd" }, { 9, 29, "sha_ni" }, { 9, 30, "avx512bw" }, { 9, 31, "avx512vl" },
	{ 10, 0, "xsaveopt" }, { 10, 1, "xsavec" }, { 10, 2, "xgetbv1" },
	{ 11, 1, "avx512vbmi" }, { 11, 3, "pku" }, { 11, 4, "ospke" }, { 11, 5, "waitpkg" }, { 11, 6, "avx512_vbmi2" },
	{ 11, 7, "shstk" }, { 11, 8, "gfni" }, { 11, 9, "vaes" }, { 11, 10, "vpclmulqdq" }, { 11, 11, "avx512_vnni" },
	{ 11, 12, "avx512_bitalg" }, { 11, 14, "avx512_vpopcntdq" }, { 11, 22, "rdpid" }, { 11, 25, "cldemote" },
	{ 11, 27, "movdiri" }, { 11, 28, "movdir64b" },
	{ 13, 0, "clzero" }, { 13, 4, "rdpru" },
	{ 18, 2, "avx512_4vnniw" }, { 18, 3, "avx512_4fmaps" }, { 18, 4, "fsrm" }, { 18, 8, "avx512_vp2intersect" },
	{ 18, 14, "serialize" }, { 18, 16, "tsxldtrk" }, { 18, 22, "amx_bf16" }, { 18, 23, "avx512_fp16" },
	{ 18, 24, "amx_tile" }, { 18, 25, "amx_int8" },
};

/* Zeros where the processor has no such leaf; of a leaf that is too high Intel's answer with their highest. */
static void ask(uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	uint32_t a = 0, b = 0, c = 0, d = 0;

	if (__get_cpuid_max(leaf & 0x80000000, NULL) >= leaf)
		__cpuid_count(leaf, subleaf, a, b, c, d);
	ret[EAX] = a;
	ret[EBX] = b;
	ret[ECX] = c;
	ret[EDX] = d;
}

static void ask_name(char name[PROCESSOR_NAME_BYTES])
{
	uint32_t r[3][4];
	size_t n;

	for (uint32_t i = 0; i < 3; i++)
		ask(0x80000002 + i, 0, r[i]);
	memcpy(name, r, sizeof(r));
	name[sizeof(r)] = '\0';
	for (n = strlen(name); n && name[n - 1] == ' '; n--)
		name[n - 1] = '\0';
	memmove(name, name + strspn(name, " "), n + 1 - strspn(name, " "));
}

static CpuinfoX86Entry__Vendor ask_vendor(void)
{
	uint32_t r[4];

	ask(0, 0, r);
	if (r[EBX] == signature_INTEL_ebx && r[ECX] == signature_INTEL_ecx && r[EDX] == signature_INTEL_edx)
		return CPUINFO_X86_ENTRY__VENDOR__INTEL;
	if (r[EBX] == signature_AMD_ebx && r[ECX] == signature_AMD_ecx && r[EDX] == signature_AMD_edx)
		return CPUINFO_X86_ENTRY__VENDOR__AMD;
	return CPUINFO_X86_ENTRY__VENDOR__UNKNOWN;
}

static void ask_model(CpuinfoX86Entry *e)
{
	uint32_t r[4], family;

	ask(1, 0, r);
	family = r[EAX] >> 8 & 0xf;
	e->stepping = r[EAX] & 0xf;
	e->model = r[EAX] >> 4 & 0xf;
	if (family >= 6)
		e->model |= (r[EAX] >> 16 & 0xf) << 4;
	e->cpu_family = family == 0xf ? family + (r[EAX] >> 20 & 0xff) : family;
}

/* XCR0, what the kernel has switched on. CRIU has no bit for SSE, which no x86-64 lacks, and takes it for one too many. */
static void ask_states(CpuinfoX86Entry *e, bool has_xgetbv)
{
	uint32_t r[4], low = 0, high = 0;

	if (!has_xgetbv)
		return;
	__asm__ volatile ("xgetbv" : "=a" (low), "=d" (high) : "c" (0));
	e->has_xfeatures_mask = e->has_xsave_size = e->has_xsave_size_max = true;
	e->xfeatures_mask = ((uint64_t)high << 32 | low) & ~2ull;
	ask(0xd, 0, r);
	e->xsave_size = r[EBX];
	e->xsave_size_max = r[ECX];
}

void cpuinfo_here(CpuinfoX86Entry *e, uint32_t words[CPUINFO_WORDS], char name[PROCESSOR_NAME_BYTES])
{
	*e = (CpuinfoX86Entry)CPUINFO_X86_ENTRY__INIT;
	memset(words, 0, CPUINFO_WORDS * sizeof(*words));
	for (size_t i = 0; i < ARRAY_SIZE(words_of_leaves); i++) {
		const struct word *w = &words_of_leaves[i];
		uint32_t r[4];

		ask(w->leaf, w->subleaf, r);
		words[w->index] = r[w->reg];
	}
	e->capability_ver = CAPABILITY_VERSION;
	e->capability = words;
	e->n_capability = CPUINFO_WORDS;
	e->vendor_id = ask_vendor();
	ask_model(e);
	ask_name(name);
	e->model_id = *name ? name : NULL;
	ask_states(e, words[4] & OSXSAVE);
}

static bool has(const CpuinfoX86Entry *e, const struct instruction *i)
{
	return e->capability[i->word] >> i->bit & 1;
}

/* Those of a that b lacks, of the words that both have, as text; "" for none. Cut short when that is full. */
static const char *lacked(const CpuinfoX86Entry *a, const CpuinfoX86Entry *b, char *text, size_t bytes)
{
	const size_t words = MIN(a->n_capability, b->n_capability);
	size_t n = 0;

	*text = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(instructions) && n < bytes; i++)
		if (instructions[i].word < words && has(a, &instructions[i]) && !has(b, &instructions[i]))
			n += (size_t)snprintf(text + n, bytes - n, "%s%s", n ? " " : "", instructions[i].name);
	return text;
}

static int is_well_formed(const CpuinfoX86Entry *e)
{
	const bool older = e->capability_ver == OLDER_VERSION;

	if (!older && e->capability_ver != CAPABILITY_VERSION)
		return log_fail(-EOPNOTSUPP, "cpuinfo.img: version %u of the processor's words is not known", e->capability_ver);
	if (e->n_capability != (older ? OLDER_WORDS : CPUINFO_WORDS))
		return log_fail(-EBADMSG, "cpuinfo.img: %zu words, not %u", e->n_capability,
				older ? OLDER_WORDS : CPUINFO_WORDS);
	return 0;
}

int cpuinfo_judge(const CpuinfoX86Entry *image, const CpuinfoX86Entry *here, unsigned int caps)
{
	const uint64_t states = image->has_xfeatures_mask ? image->xfeatures_mask & ~2ull : 0;
	char text[1024];
	int r = is_well_formed(image), bad = 0;

	if (r < 0)
		return r;
	if ((caps & (CR_CPU_INS | CR_CPU_CPU)) && *lacked(image, here, text, sizeof(text)))
		bad = log_fail(-EOPNOTSUPP, "this processor lacks instructions that the images' one had: %s", text);
	if ((caps & CR_CPU_FPU) && (states & ~here->xfeatures_mask))
		bad = log_fail(-EOPNOTSUPP, "this processor, or its kernel, lacks states (XSAVE) that the images' had: 0x%lx of 0x%lx",
			       states & ~here->xfeatures_mask, states);
	if (!(caps & CR_CPU_CPU))
		return bad;
	if (*lacked(here, image, text, sizeof(text)))
		bad = log_fail(-EOPNOTSUPP, "this processor has instructions that the images' one lacked: %s", text);
	if (image->vendor_id != here->vendor_id || image->cpu_family != here->cpu_family || image->model != here->model)
		bad = log_fail(-EOPNOTSUPP, "this processor is a %s (vendor %d, family %u, model %u), the images' one a %s (%d, %u, %u)",
			       here->model_id ?: "?", (int)here->vendor_id, here->cpu_family, here->model,
			       image->model_id ?: "?", (int)image->vendor_id, image->cpu_family, image->model);
	return bad;
}

int cr_cpuinfo_dump(struct image_store *store)
{
	uint32_t words[CPUINFO_WORDS];
	char name[PROCESSOR_NAME_BYTES];
	CpuinfoEntry e = CPUINFO_ENTRY__INIT;
	CpuinfoX86Entry here, *list = &here;

	cpuinfo_here(&here, words, name);
	e.x86_entry = &list;
	e.n_x86_entry = 1;
	return image_write_one(store, &image_cpuinfo, &e.base);
}

int cr_cpuinfo_check(struct image_store *store, unsigned int caps)
{
	uint32_t words[CPUINFO_WORDS];
	char name[PROCESSOR_NAME_BYTES];
	CpuinfoX86Entry here;
	CpuinfoEntry *e;
	struct arena a;
	int r;

	arena_init(&a);
	r = image_read_one(store, &a, &image_cpuinfo, cpuinfo_entry, &e);
	if (r >= 0 && e->n_x86_entry != 1)
		r = log_fail(-EOPNOTSUPP, "cpuinfo.img: of %zu x86 processors, not of one", e->n_x86_entry);
	if (r >= 0) {
		cpuinfo_here(&here, words, name);
		r = cpuinfo_judge(e->x86_entry[0], &here, caps);
	}
	arena_done(&a);
	return r;
}
