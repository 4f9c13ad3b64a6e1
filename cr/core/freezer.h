/*
 * The freezer of a control group: in v2 cgroup.freeze and the `frozen` key of cgroup.events, in v1
 * freezer.state of the hierarchy with that controller.
 *
 * A task that v1 has frozen cannot be brought into a ptrace stop: it stops when it is thawed, before it
 * does anything else.
 */
#ifndef CR_CORE_FREEZER_H
#define CR_CORE_FREEZER_H

#include <stdbool.h>

#include "util/macro.h"

/*
 * 1: asked to be frozen, 0: not; negative errno, -ENOENT: no freezer. path: the group's directory. -EBUSY:
 * (v1) a group above it is frozen, so that it cannot be thawed.
 */
int freezer_get(const char *path) _must_check_;
/* Asks, without waiting. */
int freezer_set(const char *path, int frozen) _must_check_;
/* Waits until every task of the group is frozen or thawed. -ETIMEDOUT. */
int freezer_wait(const char *path, int frozen, uint64_t timeout_usec) _must_check_;
/* Do frozen tasks stop only when they are thawed? */
bool freezer_is_v1(const char *path);

#endif
