/* Processors that can do less, or more, than the images' one; and images that cannot be right. */
#include "cr.h"
#include "task/cpuinfo.h"
#include "unit.h"
#include "util/log.h"

#define MPX		(1u << 14)	/* of word 9 */
#define TSC		(1u << 4)	/* of word 0 */
#define VME		(1u << 1)	/* of word 0; programs do not ask for it */
#define AVX512_STATES	0xe5u

static uint32_t words[2][CPUINFO_WORDS];
static CpuinfoX86Entry image, here;
static char names[2][PROCESSOR_NAME_BYTES];

/* Twice this machine. */
static void fixture(void)
{
	log_init(LOGLEVEL_NONE, -1);
	cpuinfo_here(&image, words[0], names[0]);
	cpuinfo_here(&here, words[1], names[1]);
}

static int judge(unsigned int caps)
{
	log_first_error_forget();
	return cpuinfo_judge(&image, &here, caps);
}

TEST("a processor can do what it can")
{
	fixture();
	ASSERT_OK(judge(CR_CPU_FPU | CR_CPU_CPU | CR_CPU_INS));
	ASSERT_EQ(image.n_capability, CPUINFO_WORDS);
	ASSERT(words[0][0] & TSC);
	ASSERT(image.cpu_family >= 6);
}

TEST("an instruction that only the images' processor had is named")
{
	fixture();
	words[0][9] |= MPX;
	words[1][9] &= ~MPX;
	ASSERT_EQ(judge(CR_CPU_DEFAULT), -EOPNOTSUPP);
	ASSERT(strstr(log_first_error(), ": mpx"));
	ASSERT_OK(judge(CR_CPU_FPU));
	ASSERT_OK(judge(0));
	words[1][0] &= ~TSC;
	ASSERT_EQ(judge(CR_CPU_INS), -EOPNOTSUPP);
	ASSERT(strstr(log_first_error(), ": tsc mpx"));
}

TEST("one that only this processor has matters if they are to be the same")
{
	fixture();
	words[0][0] &= ~TSC;
	ASSERT_OK(judge(CR_CPU_DEFAULT));
	ASSERT_EQ(judge(CR_CPU_CPU), -EOPNOTSUPP);
	ASSERT(strstr(log_first_error(), "lacked: tsc"));
}

TEST("what is for the kernel only does not matter")
{
	fixture();
	words[0][0] ^= VME;
	words[0][3] = words[0][7] = words[0][8] = ~0u;
	ASSERT_OK(judge(CR_CPU_FPU | CR_CPU_CPU | CR_CPU_INS));
}

TEST("states that the kernel does not save are named")
{
	fixture();
	image.has_xfeatures_mask = true;
	image.xfeatures_mask = AVX512_STATES;
	here.xfeatures_mask = 5;
	ASSERT_EQ(judge(CR_CPU_DEFAULT), -EOPNOTSUPP);
	ASSERT(strstr(log_first_error(), "0xe0 of 0xe5"));
	ASSERT_OK(judge(CR_CPU_INS));
	image.has_xfeatures_mask = false;
	ASSERT_OK(judge(CR_CPU_DEFAULT));
}

TEST("another model is named, when that is asked for")
{
	fixture();
	image.model++;
	image.model_id = NULL;
	ASSERT_OK(judge(CR_CPU_DEFAULT));
	ASSERT_EQ(judge(CR_CPU_CPU), -EOPNOTSUPP);
	ASSERT(strstr(log_first_error(), "the images' one a ? ("));
}

TEST("words of another version or number are refused")
{
	fixture();
	image.n_capability = CPUINFO_WORDS - 1;
	ASSERT_EQ(judge(CR_CPU_DEFAULT), -EBADMSG);
	image.n_capability = 0;
	image.capability = NULL;
	ASSERT_EQ(judge(CR_CPU_DEFAULT), -EBADMSG);
	fixture();
	image.capability_ver = 3;
	ASSERT_EQ(judge(CR_CPU_DEFAULT), -EOPNOTSUPP);
	image.capability_ver = 1;
	ASSERT_EQ(judge(CR_CPU_DEFAULT), -EBADMSG);
	image.n_capability = 12;
	ASSERT_OK(judge(CR_CPU_DEFAULT | CR_CPU_CPU));
}
