/*
 * Parent-death signal, subreaper, dumpable, huge pages, merging of pages, membarrier, umask,
 * oom_score_adj.
 */
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "maker.h"

#define REGISTERED (MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED | \
		    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ)

static bool mergeable(const char *addr)
{
	char line[1024];
	bool here = false, found = false;
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start, end;

	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %*4s %*x", &start, &end) == 2)
			here = start <= (unsigned long)addr && (unsigned long)addr < end;
		else if (here && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, " mg") != NULL;
	}
	fclose(f);
	return found;
}

static int oom_score(const char *write_this)
{
	char text[16] = "";
	int fd = open("/proc/self/oom_score_adj", O_RDWR);

	MAKER_MUST(fd >= 0);
	if (write_this)
		MAKER_MUST(write(fd, write_this, strlen(write_this)) > 0);
	else
		MAKER_MUST(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return atoi(text);
}

int main(int argc, char **argv)
{
	char *maps = mmap(NULL, 32768, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int v = 0, thp, merge;
	long reg;

	maker_begin(argc, argv);
	if (maker_sets_up()) {
		MAKER_MUST(!prctl(PR_SET_PDEATHSIG, SIGWINCH));
		MAKER_MUST(!prctl(PR_SET_CHILD_SUBREAPER, 1));
		/* Linux 6.18: except where advised. */
		if (maker_is_plain() || prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0))
			MAKER_MUST(!prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
		/* Of all memory but a part (Linux 6.4, CONFIG_KSM). */
		if (!maker_is_plain() && !prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0))
			madvise(maps + 8192, 4096, MADV_UNMERGEABLE);
		MAKER_MUST(!prctl(PR_SET_DUMPABLE, 0));
		for (int bit = 1; bit <= REGISTERED; bit <<= 1)
			if (REGISTERED & bit)
				MAKER_MUST(!syscall(SYS_membarrier, bit, 0, 0));
		umask(0137);
		oom_score("321");
	}
	thp = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	merge = prctl(68 /* PR_GET_MEMORY_MERGE */, 0, 0, 0, 0);
	maker_ready();
	maker_wait();
	MAKER_SAME("merging", prctl(68, 0, 0, 0, 0), merge);
	MAKER_SAME("merging of memory", mergeable(maps), merge == 1);
	MAKER_SAME("merging of what is excepted", mergeable(maps + 8192), false);
	prctl(PR_GET_PDEATHSIG, &v);
	MAKER_SAME("parent-death signal", v, SIGWINCH);
	prctl(PR_GET_CHILD_SUBREAPER, &v);
	MAKER_SAME("subreaper", v, 1);
	MAKER_SAME("THP disabled", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), thp);
	MAKER_SAME("THP disabled at all", thp & 1, 1);
	MAKER_SAME("dumpable", prctl(PR_GET_DUMPABLE), 0);
	reg = syscall(SYS_membarrier, 1 << 9, 0, 0);
	/* Before Linux 6.3 they can be neither read nor saved. */
	if (reg >= 0)
		MAKER_SAME("membarrier registrations", reg & REGISTERED, REGISTERED);
	MAKER_SAME("umask", umask(0), 0137);
	MAKER_SAME("oom_score_adj", oom_score(NULL), 321);
	maker_ok();
}
