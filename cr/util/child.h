/* A function in a child of ours: for what a process may only do to its children, or to itself. */
#ifndef CR_UTIL_CHILD_H
#define CR_UTIL_CHILD_H

#include "util/macro.h"

/*
 * As vfork(2): the child shares our memory, and descriptors, and we stand still until fn is done. Returns
 * what fn does.
 */
int child_call(int (*fn)(void *arg), void *arg) _must_check_;
/* In a PID namespace: by a grandchild that is born there (setns() itself is about one's children only). */
int child_call_in_pidns(int ns_fd, int (*fn)(void *arg), void *arg) _must_check_;

#endif
