/* Which services stay up while the others are stopped before the freeze, and why. */
#ifndef CRKEXEC_KEEP_H
#define CRKEXEC_KEEP_H

#include "crkexec/upgrade.h"

/* Part of the way out (logging, devices, network, storage) or of the caller's login. */
bool keep_by_name(const char *unit);
/* The units that this process and its ancestors belong to, from /proc/PID/cgroup. */
int keep_own_units(struct strv *keep) _must_check_;
/*
 * Adds all that would stop a unit of keep when it stopped: Requires=, BindsTo= and the like,
 * transitively.
 */
int keep_close(sd_bus *bus, struct strv *keep) _must_check_;
/* Adds all that stops with a unit of the list: the other direction. */
int keep_dependents(sd_bus *bus, struct strv *units) _must_check_;
/* Last component of "0::/a/b.slice/c.service" that names a service or scope; heap, or NULL. */
char *cgroup_text_unit(const char *text);

#endif
