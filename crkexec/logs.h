/*
 * Logs of runs, in CRKEXEC_LOG_DIR: ID.log of the old kernel's side; of upgrades that took place also
 * ID-early.log and ID-adopt.log of the new kernel's.
 */
#ifndef CRKEXEC_LOGS_H
#define CRKEXEC_LOGS_H

#include "util/macro.h"

#define LOGS_KEPT	20

/* A new one, for appending; the descriptor. Those that are too old go. */
int logs_open(const char *dir, const char *id) _must_check_;

#endif
