/*
 * The mount interface of Linux ≥ 5.12. <sys/mount.h> and <linux/mount.h> cannot both be included
 * with Debian 12's C library: this is the latter and what of the former is needed.
 */
#ifndef CR_NS_MOUNTAPI_H
#define CR_NS_MOUNTAPI_H

#include <linux/mount.h>

#include "util/macro.h"

int mount(const char *source, const char *target, const char *type, unsigned long flags,
	  const void *data);
int umount2(const char *target, int flags);

#ifndef MNT_DETACH
#define MNT_DETACH		2
#endif
#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW		8
#endif
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW		256
#endif

/* path "": dirfd itself. Neither follows a link nor mounts an autofs. */
int sys_open_tree(int dirfd, const char *path, unsigned int flags) _must_check_;
int sys_move_mount(int from_fd, int to_fd, const char *to_path, unsigned int flags) _must_check_;

#endif
