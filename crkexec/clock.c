/*
 * The TSC is not reset by a kexec: the new kernel's side computes from it how long the jump
 * took, exactly, where a battery clock has whole seconds.
 *
 * Its rate: what the kernel itself uses for user space clocks, from a perf event's page
 * (time_mult, time_shift; perf_event_open(2)), else measured. A counter that is not invariant
 * is not used at all: 0.
 */
#include <fcntl.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <x86intrin.h>

#include "crkexec/clock.h"
#include "util/io.h"
#include "util/log.h"

static bool flags_have(const char *line, const char *flag)
{
	size_t n = strlen(flag);

	for (const char *s = line; (s = strstr(s, flag)); s += n)
		if (s[-1] == ' ' && (s[n] == ' ' || s[n] == '\n' || !s[n]))
			return true;
	return false;
}

bool cpuinfo_tsc_is_invariant(const char *text)
{
	const char *line = strstr(text, "\nflags");
	_cleanup_free_ char *flags = line ? strndup(line + 1, strcspn(line + 1, "\n")) : NULL;

	return flags && flags_have(flags, "constant_tsc") && flags_have(flags, "nonstop_tsc");
}

static uint64_t tsc_khz_from_perf(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_DUMMY,
		.exclude_kernel = 1, .exclude_hv = 1,
	};
	_cleanup_close_ int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1,
					      PERF_FLAG_FD_CLOEXEC);
	struct perf_event_mmap_page *page;
	uint64_t khz = 0;

	if (fd < 0)
		return 0;
	page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return 0;
	/* ns = cycles * time_mult >> time_shift */
	if (page->cap_user_time && page->time_mult && page->time_shift < 64)
		khz = (uint64_t)(((__uint128_t)1000000 << page->time_shift) / page->time_mult);
	munmap(page, PAGE_BYTES);
	return khz;
}

static int64_t read_nsec(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint64_t tsc_khz_measured(void)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	int64_t begin = read_nsec(CLOCK_MONOTONIC_RAW), nsec;
	uint64_t tsc = __rdtsc();

	nanosleep(&pause, NULL);
	nsec = read_nsec(CLOCK_MONOTONIC_RAW) - begin;
	tsc = __rdtsc() - tsc;
	return nsec > 0 ? (uint64_t)((__uint128_t)tsc * 1000000 / (uint64_t)nsec) : 0;
}

uint64_t clock_tsc_khz(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t khz;

	if (read_file_at(AT_FDCWD, "/proc/cpuinfo", 16u << 20, &text, NULL) < 0 ||
	    !cpuinfo_tsc_is_invariant(text))
		return 0;
	khz = tsc_khz_from_perf();
	return khz ? khz : tsc_khz_measured();
}

void clock_read(struct manifest_clock *ret, uint64_t tsc_khz)
{
	uint64_t best = UINT64_MAX;

	/* An interrupt between the readings would make them unequal: the closest of some. */
	for (int i = 0; i < 8; i++) {
		uint64_t begin = __rdtsc(), end;
		struct manifest_clock c = {
			.realtime_nsec = read_nsec(CLOCK_REALTIME),
			.monotonic_nsec = read_nsec(CLOCK_MONOTONIC),
			.boottime_nsec = read_nsec(CLOCK_BOOTTIME),
		};

		end = __rdtsc();
		if (end - begin >= best)
			continue;
		best = end - begin;
		*ret = c;
		ret->tsc = begin + best / 2;
	}
	ret->tsc_khz = tsc_khz;
}
