/* The commands that main() calls; each returns the exit status. */
#ifndef CRKEXEC_COMMANDS_H
#define CRKEXEC_COMMANDS_H

#include "crkexec/upgrade.h"

/* upgrade and check: front and worker. */
int command_upgrade(const struct options *opt);
int command_status(const struct options *opt);
int command_finish(void);
int command_recover(const struct options *opt);

/*
 * Undoes all that the upgrade in /run/crkexec/ID had done, and removes its directory; it stays, with
 * what is left, when something cannot be undone. The caller holds the lock. 0, also when there is
 * nothing; else the first error.
 */
int recover_upgrade(const char *id) _must_check_;
/* The same for whatever directory is there; *ret_id (LOCK_ID_BYTES) of the last one, or "". */
int recover_all(char *ret_id) _must_check_;
/* 1: an upgrade's directory is there (*ret_id, LOCK_ID_BYTES); 0: none. */
int recover_pending(char *ret_id);

#endif
