/* What of this machine the trees rely on and the new kernel must have before they run. */
#ifndef CRKEXEC_MACHINE_H
#define CRKEXEC_MACHINE_H

#include "crkexec/manifest.h"
#include "crkexec/strv.h"
#include "kernel/mountinfo.h"

struct upgrade;

/* netstack.c: after the devices in m->links the bonds, VLANs and bridges over them that can be made again. */
int netstack_read(struct manifest *m) _must_check_;

/* policy_rules.c: those of routing, besides the kernel's own. */
int policy_rules_read(struct manifest *m) _must_check_;

/* netstate.c: links that are carried, their addresses and lo's, all routes over them, policy rules. */
int netstate_read(struct upgrade *u, struct manifest *m) _must_check_;

/* mounts_host.c: the host's mounts, and which of them are not there yet when the trees come back. */
struct host_mounts {
	struct arena arena;
	struct mount_table table;
	/*
	 * Of each mount: NULL, or what makes the new boot mount it, not the early program: its type
	 * (network, FUSE, stacked), its disk, or the mount it lies on. "ext4 on dm-1, which is LVM, RAID or encryption".
	 * Or it cannot be made by what the mount table tells.
	 */
	const char **late;
};
/* Both the caller's to release, also after an error. */
int host_mounts_read(struct host_mounts *h) _must_check_;
void host_mounts_done(struct host_mounts *h);
/* The file system (of btrfs: a subvolume) as mount(8) mounts it, for the first time; else it is bound. */
bool mount_is_whole(const struct mount_table *t, const struct mount *mt);
/* A path at which a mount before it shows the same directory, in the arena; NULL: none, or no memory. */
char *mount_bind_source(struct arena *a, const struct mount_table *t, const struct mount *mt);
/* The block device below; false: there is none. btrfs shows its own number, and has another below. */
bool mount_block_device(const struct mount *mt, dev_t *ret);
/*
 * m, of any namespace: the host's mount that it was copied or bound from, if that comes late. NULL: it
 * does not, or one of its file system's mounts does not.
 */
const struct mount *host_mounts_late(const struct host_mounts *h, const struct mount *m, const char **ret_why);
/* Is the root file system on a plain disk? 1, or 0 with *ret_why: "dm-0, which is LVM, RAID or encryption". */
int root_is_on_plain_disk(char **ret_why) _must_check_;
/* Does it come over a network, whatever lies between? */
bool mount_is_remote(const struct mount *mt);
bool root_is_remote(void);

/* mounts.c: the host's mounts that do not come late, parents first. */
bool mount_is_skipped(const char *target);
int mounts_read(struct upgrade *u, struct manifest *m) _must_check_;

/* packet_filter.c: rules of nftables. Warns where they cannot be carried. */
int packet_filter_read(struct upgrade *u, struct manifest *m) _must_check_;
/* In the new boot: deletes the tables that were carried. A failure is a warning in m. */
void packet_filter_remove(struct manifest *m);

/* sysctls.c: settings that a restore depends on, as they are now. */
int sysctls_read(struct manifest *m) _must_check_;

/*
 * modules.c: what the target kernel must load for disks, file systems and network, in load
 * order, into u->module_paths, m->network_modules and m->modules. Says problems.
 */
int modules_find(struct upgrade *u, struct manifest *m) _must_check_;

/*
 * disks.c: is a block device plain: a disk or partition on hardware that a module list
 * brings up, nothing in between (LVM, RAID, encryption, network)? 1, or 0 with *ret_why:
 * "dm-0, which is LVM, RAID or encryption", the caller's to free.
 */
int disk_is_plain(dev_t dev, char **ret_why) _must_check_;
/* Is it, or what it is made of, reached over a network? */
bool disk_is_remote(dev_t dev);

#endif
