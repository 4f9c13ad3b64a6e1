/* All sixteen limits: soft and hard ones lowered. */
#include <sys/resource.h>

#include "maker.h"

#define N_RLIMITS 16

/* What the second of two equal calls finds is what the first one set. */
static struct rlimit wanted(int i, const struct rlimit *now)
{
	static const rlim_t soft[N_RLIMITS] = {
		1000, 1 << 30, 1ul << 33, 9 << 20, 4096, 1 << 29, 3000, 300,
		1 << 16, 1ul << 40, 77, 444, 100000, 5, 2, 5000000,
	};
	struct rlimit w = { soft[i], RLIM_INFINITY };

	if (i % 2)
		w.rlim_max = soft[i] * 2;
	if (w.rlim_max > now->rlim_max)
		w.rlim_max = now->rlim_max;
	if (w.rlim_cur > w.rlim_max)
		w.rlim_cur = w.rlim_max;
	return w;
}

int main(int argc, char **argv)
{
	struct rlimit set[N_RLIMITS], now;

	maker_begin(argc, argv);
	for (int i = 0; i < N_RLIMITS; i++) {
		MAKER_MUST(!syscall(SYS_prlimit64, 0, i, NULL, &now));
		set[i] = wanted(i, &now);
		if (maker_sets_up())
			MAKER_MUST(!syscall(SYS_prlimit64, 0, i, &set[i], NULL));
	}
	maker_ready();
	maker_wait();
	for (int i = 0; i < N_RLIMITS; i++) {
		char what[40];

		MAKER_MUST(!syscall(SYS_prlimit64, 0, i, NULL, &now));
		snprintf(what, sizeof(what), "soft limit %d", i);
		MAKER_SAME(what, now.rlim_cur, set[i].rlim_cur);
		snprintf(what, sizeof(what), "hard limit %d", i);
		MAKER_SAME(what, now.rlim_max, set[i].rlim_max);
	}
	maker_ok();
}
