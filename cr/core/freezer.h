/* The cgroup v2 freezer: cgroup.freeze and the `frozen` key of cgroup.events. */
#ifndef CR_CORE_FREEZER_H
#define CR_CORE_FREEZER_H

#include "util/macro.h"

/* 1: asked to be frozen, 0: not; negative errno. path: the group's directory. */
int freezer_get(const char *path) _must_check_;
/* Asks, without waiting. */
int freezer_set(const char *path, int frozen) _must_check_;
/* Waits until every task of the group is frozen or thawed. -ETIMEDOUT. */
int freezer_wait(const char *path, int frozen, uint64_t timeout_usec) _must_check_;

#endif
