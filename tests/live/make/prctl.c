/* Parent-death signal, subreaper, dumpable, huge pages, membarrier, umask, oom_score_adj. */
#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "maker.h"

#define REGISTERED (MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED | \
		    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ)

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
	int v = 0;
	long reg;

	maker_begin(argc, argv);
	if (maker_sets_up()) {
		MAKER_MUST(!prctl(PR_SET_PDEATHSIG, SIGWINCH));
		MAKER_MUST(!prctl(PR_SET_CHILD_SUBREAPER, 1));
		MAKER_MUST(!prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
		MAKER_MUST(!prctl(PR_SET_DUMPABLE, 0));
		for (int bit = 1; bit <= REGISTERED; bit <<= 1)
			if (REGISTERED & bit)
				MAKER_MUST(!syscall(SYS_membarrier, bit, 0, 0));
		umask(0137);
		oom_score("321");
	}
	maker_ready();
	maker_wait();
	prctl(PR_GET_PDEATHSIG, &v);
	MAKER_SAME("parent-death signal", v, SIGWINCH);
	prctl(PR_GET_CHILD_SUBREAPER, &v);
	MAKER_SAME("subreaper", v, 1);
	MAKER_SAME("THP disabled", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
	MAKER_SAME("dumpable", prctl(PR_GET_DUMPABLE), 0);
	reg = syscall(SYS_membarrier, 1 << 9, 0, 0);
	/* Before Linux 6.3 they can be neither read nor saved. */
	if (reg >= 0)
		MAKER_SAME("membarrier registrations", reg & REGISTERED, REGISTERED);
	MAKER_SAME("umask", umask(0), 0137);
	MAKER_SAME("oom_score_adj", oom_score(NULL), 321);
	maker_ok();
}
