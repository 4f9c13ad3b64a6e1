/* The clocks at the last moment, with the time stamp counter that runs through a kexec. */
#ifndef CRKEXEC_CLOCK_H
#define CRKEXEC_CLOCK_H

#include "crkexec/manifest.h"

/* Measures the counter's rate where the kernel does not tell it: takes 20 ms, once, early. */
uint64_t clock_tsc_khz(void);
/* One reading of all clocks within a microsecond or so. tsc_khz: from above. */
void clock_read(struct manifest_clock *ret, uint64_t tsc_khz);
/* "flags : ..." lines of /proc/cpuinfo: constant_tsc and nonstop_tsc. */
bool cpuinfo_tsc_is_invariant(const char *text);

#endif
