/* What of this machine the trees rely on and the new kernel must have before they run. */
#ifndef CRKEXEC_MACHINE_H
#define CRKEXEC_MACHINE_H

#include "crkexec/manifest.h"
#include "crkexec/strv.h"

struct upgrade;

/* netstate.c: links with a device behind them, their addresses, all routes over them. */
int netstate_read(struct upgrade *u, struct manifest *m) _must_check_;

/* mounts.c: the host's mounts, parents first. */
int mounts_read(struct upgrade *u, struct manifest *m) _must_check_;
/* Network, FUSE and stacked file systems: mounted by the new boot, not before it. */
bool mount_comes_late(const char *fstype);
/* The block device under the root file system, as "8:1"; NULL with *ret_why when it is none. */
int mounts_root_device(char **ret_majmin, const char **ret_why) _must_check_;

/* sysctls.c: settings that a restore depends on, as they are now. */
int sysctls_read(struct manifest *m) _must_check_;

/*
 * modules.c: what the target kernel must load for disks, file systems and network, in load
 * order, into u->module_paths, m->network_modules and m->modules. Says problems.
 */
int modules_find(struct upgrade *u, struct manifest *m) _must_check_;

/*
 * disks.c: is a block device plain: a disk or partition on hardware that a module list
 * brings up, nothing in between (LVM, RAID, encryption, network)? 1, or 0 with *ret_why.
 */
int disk_is_plain(const char *majmin, char **ret_why) _must_check_;

#endif
