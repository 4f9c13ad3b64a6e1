/*
 * One upgrade at a time: flock(2) on /run/crkexec/lock, which says who holds it ("PID ID"). The
 * lock belongs to an open file that front, worker and dump processes share by fork, so it is
 * free only when all of them have ended.
 */
#ifndef CRKEXEC_LOCK_H
#define CRKEXEC_LOCK_H

#include <stdbool.h>
#include <sys/types.h>

#include "util/macro.h"

#define LOCK_ID_BYTES	17

/* The descriptor; -EWOULDBLOCK when another holds it (wait: waits instead). */
int lock_take(bool wait) _must_check_;
/* Says who we are in the file. */
int lock_write(int fd, const char *id) _must_check_;
/* Gives it back and removes the file, and the directory if it is empty. */
void lock_drop(int *fd);
/* 1: held, with pid and id as far as they are known (0, ""); 0: free. */
int lock_holder(pid_t *ret_pid, char *ret_id) _must_check_;
bool lock_id_is_valid(const char *id);

#endif
