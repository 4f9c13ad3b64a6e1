/*
 * What runs leave on disk. In CRKEXEC_LOG_DIR: ID.log of the old kernel's side; of upgrades that took place
 * also ID-early.log and ID-adopt.log of the new kernel's. In CRKEXEC_STATE_DIR: their reports ID.json, and
 * failed/ID, the images of what could not be restored.
 */
#ifndef CRKEXEC_LOGS_H
#define CRKEXEC_LOGS_H

#include "util/macro.h"

#define LOGS_KEPT	20
#define REPORTS_KEPT	20
/* Memory of services: large, and nobody else's business. */
#define IMAGES_KEPT	3

/* A new one, for appending; the descriptor. Those that are too old go. */
int logs_open(const char *dir, const char *id) _must_check_;
/* After upgrade id: reports and images that are too old go. */
int logs_trim_state(const char *dir, const char *id) _must_check_;

#endif
