/* A function in a child of ours: for what only its children may do. */
#ifndef CR_UTIL_CHILD_H
#define CR_UTIL_CHILD_H

#include "util/macro.h"

/*
 * In a PID namespace: by a grandchild that is born there (setns() itself is about one's children only)
 * and shares our memory and descriptors; we stand still until fn is done. Returns what fn does.
 */
int child_call_in_pidns(int ns_fd, int (*fn)(void *arg), void *arg) _must_check_;

#endif
