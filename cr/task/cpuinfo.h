/* What the processor can do, in cpuinfo.img, and whether this one can do as much: cr_cpuinfo_check(). */
#ifndef CR_TASK_CPUINFO_H
#define CR_TASK_CPUINFO_H

#include "image/proto.h"
#include "util/macro.h"

#define CPUINFO_WORDS	19u	/* of capability_ver 2 */

/* This machine's, all optional fields set but model_id; words and name (PROCESSOR_NAME_BYTES) are the caller's. */
#define PROCESSOR_NAME_BYTES	(3 * 4 * sizeof(uint32_t) + 1)
void cpuinfo_here(CpuinfoX86Entry *e, uint32_t words[CPUINFO_WORDS], char name[PROCESSOR_NAME_BYTES]);
/*
 * Can `here` do what `image` could, as far as CR_CPU_* of caps ask? All that is missing is logged; -EOPNOTSUPP. An image
 * that cannot be right: -EBADMSG.
 */
int cpuinfo_judge(const CpuinfoX86Entry *image, const CpuinfoX86Entry *here, unsigned int caps) _must_check_;

#endif
