/*
 * The wall clock. At boot the kernel sets it from an RTC that counts whole seconds and may
 * never have been right; a running database must not see time go back.
 *
 * The TSC runs on through a kexec: elapsed = (tsc now - tsc saved) / tsc_khz, and the clock is
 * what it was at commit plus that. Where the TSC cannot be trusted (not invariant, reset by
 * firmware or a hypervisor): the RTC, but never before the saved time.
 */
#include "initramfs/early.h"

#include <sys/time.h>
#include <time.h>
#include <x86intrin.h>

#include "util/log.h"

/* A jump takes seconds; what claims to have taken longer is no elapsed time. */
#define ELAPSED_MAX_NSEC	(3600ll * 1000000000ll)

static int64_t tsc_elapsed(const struct manifest_clock *saved, uint64_t tsc_now)
{
	unsigned __int128 nsec;

	if (!saved->tsc || !saved->tsc_khz || tsc_now <= saved->tsc)
		return -1;
	nsec = (unsigned __int128)(tsc_now - saved->tsc) * 1000000u / saved->tsc_khz;
	return nsec > (unsigned __int128)ELAPSED_MAX_NSEC ? -1 : (int64_t)nsec;
}

struct clock_choice clock_choose(const struct manifest_clock *saved, int64_t now_nsec,
				 uint64_t tsc_now)
{
	int64_t elapsed = tsc_elapsed(saved, tsc_now);

	if (elapsed >= 0)
		return (struct clock_choice){ saved->realtime_nsec + elapsed, elapsed, "tsc" };
	if (now_nsec > saved->realtime_nsec)
		return (struct clock_choice){ now_nsec, now_nsec - saved->realtime_nsec, "rtc" };
	return (struct clock_choice){ saved->realtime_nsec, -1, "saved" };
}

int early_clock(struct early *e)
{
	struct clock_choice c;
	struct timespec ts;
	int64_t now;

	if (clock_gettime(CLOCK_REALTIME, &ts) < 0)
		return log_err(neg_errno(), "cannot read the clock");
	now = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
	c = clock_choose(&e->manifest->clock, now, __rdtsc());
	ts = (struct timespec){ c.realtime_nsec / 1000000000, c.realtime_nsec % 1000000000 };
	if (clock_settime(CLOCK_REALTIME, &ts) < 0)
		return log_err(neg_errno(), "cannot set the clock");
	log_info("wall clock by %s: %+.3f s against the kernel's, %.3f s since the commit", c.by,
		 (c.realtime_nsec - now) / 1e9, c.elapsed_nsec / 1e9);
	return 0;
}
