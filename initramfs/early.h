/*
 * The early program: arrives in the new kernel, restores the trees and hands over to the real
 * init. Two carriers, one table of phases (early_main.c).
 *
 *   own      PID 1 of the initramfs made for this upgrade; mounts and configures everything
 *            itself, ends in exec of the real init
 *   initrd   a service of the distribution's initramfs, just before the switch to the real
 *            root (/sysroot), plus a guard that runs before udev (early_guard.c)
 *
 * Whatever goes wrong, the machine boots: a phase that fails makes all units start cold, with
 * its reason; only a missing root filesystem ends the boot, with a message and a reboot.
 */
#ifndef INITRAMFS_EARLY_H
#define INITRAMFS_EARLY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "crkexec/manifest.h"
#include "image/proto.h"
#include "util/macro.h"
#include "util/timer.h"

#define EARLY_ROOT		"/sysroot"
#define EARLY_REASON_BYTES	512
#define EARLY_MARKS_MAX		32
/* Devices of a booting machine appear within tenths of a second, slow disks within seconds. */
#define EARLY_DEVICE_USEC	(20u * 1000000u)
/* A process of ours that was told to end, or was killed, has so long; then we go on without it. */
#define EARLY_END_MSEC		5000

struct netlock;
struct early_pmem;
struct early_job;

/* What we look for in /proc/cmdline. Strings are heap, NULL when absent. */
struct early_cmdline {
	char *root, *root_type, *root_flags, *init, *id;
	char *store;		/* "pmem:..."; NULL: the images are in the initramfs */
	bool read_only;
	int panic_seconds;	/* as the kernel's: 0 never, < 0 at once */
};

struct early {
	bool initrd;
	char **argv;			/* for the real init */
	struct early_cmdline cmdline;
	struct manifest *manifest;
	char reason[EARLY_REASON_BYTES];/* set: nothing is restored, all units start cold */
	int rootfs_fd;			/* own: the initramfs' root, emptied at the end */
	int images_fd;			/* directory of the images; -EBADF before "manifest" */
	struct early_pmem *pmem;	/* or the memory they are in */
	int uevent_fd;
	int log_fd;
	struct early_lane *network;	/* own: brings the network up and holds its lock */
	struct early_lane *filter;	/* loads the packet filter's modules, then its rules */
	struct netlock *lock;		/* the process that has it: initrd, or the lane */
	bool unlocked;			/* the network, and for good */
	struct early_job *jobs;		/* restoring processes, from "restorers" on */
	size_t n_jobs;
	uint64_t begin_usec;		/* CLOCK_BOOTTIME of our own start */
	struct early_mark {		/* phases so far, in CLOCK_BOOTTIME: it is never set */
		const char *name;
		uint64_t begin_usec, end_usec;
	} marks[EARLY_MARKS_MAX];
	size_t n_marks;
};

/* One row of the tables in early_main.c. */
struct early_phase {
	const char *name;		/* for the log and the report */
	int (*run)(struct early *e);	/* an error: nothing can be restored any more */
	unsigned int flags;		/* early_main.c's */
};
/* Runs it, with its times into e->marks, its first error into e->reason. */
int early_run_phase(struct early *e, const struct early_phase *p);

/* early_log.c: the log and the console. */
int early_log_open(struct early *e);
/* One line to /dev/kmsg ("crkexec: ...") and to the log. */
void early_say(const char *fmt, ...) _printf_(1, 2);
/* A last message, then a reboot after panic= seconds (30 if unset). Own carrier only. */
void early_die(struct early *e, const char *why) __attribute__((noreturn));

/* early_cmdline.c */
int early_cmdline_parse(const char *text, struct early_cmdline *ret) _must_check_;
void early_cmdline_done(struct early_cmdline *c);

/* early_fence.c: where new process ids begin. Pure part: ids sorted ascending. */
uint32_t fence_place(const uint32_t *ids, size_t n, uint32_t pid_max);
/* All ids of one process, as this kernel's first PID namespace is to know them. ids: the caller's to free. */
int fence_push_process(uint32_t **ids, size_t *n, const PstreeEntry *e) _must_check_;
int early_fence(struct early *e);

/* early_clock.c. Pure part: what the wall clock shall show. */
struct clock_choice {
	int64_t realtime_nsec;
	int64_t elapsed_nsec;	/* since manifest.clock was read; < 0: unknown */
	const char *by;		/* "tsc", "rtc", "saved" */
};
struct clock_choice clock_choose(const struct manifest_clock *saved, int64_t now_nsec,
				 uint64_t tsc_now);
int early_clock(struct early *e);

/* early_mount.c */
/* What every phase needs; then, while devices appear, what restored trees do. */
int early_mount_api(struct early *e);
int early_mount_more_api(struct early *e);
int early_mount_root(struct early *e);
int early_mount_others(struct early *e);
int early_enter_root(struct early *e);
/* Directory and all its parents, 0755. */
int early_mkdirs(const char *path, mode_t mode) _must_check_;

/* early_device.c */
int uevent_open(void);
/*
 * Calls ready(arg) at once and after each uevent until it returns something else than -EAGAIN
 * or the time is over (-ETIMEDOUT).
 */
int uevent_wait(int fd, uint64_t timeout_usec, int (*ready)(void *arg), void *arg) _must_check_;
/*
 * "UUID=", "LABEL=", "PARTUUID=", "/dev/disk/by-uuid/…" or a path to the device's path. A path
 * that exists is itself. Waits for it.
 */
int device_find(int uevent_fd, const char *spec, uint64_t timeout_usec, char **ret) _must_check_;

/* early_probe.c: pure reader of superblocks. A filesystem's id as text, NULL if it has none. */
struct fs_id {
	const char *type;
	char uuid[40], label[64];
};
#define FS_PROBE_BYTES	(66u << 10)	/* this much of the device's beginning is looked at */
int fs_probe(const uint8_t *data, size_t bytes, struct fs_id *ret) _must_check_;

/* early_lane.c: phases beside the others, in a process that then waits to be ended. */
struct early_lane;
int early_lane_begin(struct early *e, const struct early_phase *phases, size_t n,
		     struct early_lane **ret) _must_check_;
/* Waits for its phases, so long; their times are added to e->marks. The first error, said as ours. */
int early_lane_join(struct early *e, struct early_lane *l, uint64_t usec) _must_check_;
/* Its descriptors go with it. Frees it. */
void early_lane_end(struct early_lane *l);

/* early_modules.c */
int early_modules(struct early *e);
int early_network_modules(struct early *e);
int early_sysctls(struct early *e);
int early_sysctls_again(struct early *e);

/* early_net.c */
int early_net_lock(struct early *e);
int early_net_configure(struct early *e);
int early_net_unlock(struct early *e);

/* early_filter.c */
int early_filter_begin(struct early *e);
/* When all sockets are there and nothing comes in yet. */
void early_filter_load(struct early *e);

/* early_syslog.c */
int early_syslog(struct early *e);

/* early_guard.c: `crkexec-early --fence`, holds fence, clock and network lock until told. */
int early_guard(struct early *e, bool notify);
int early_guard_stop(void);

/* early_manifest.c */
int early_manifest(struct early *e);
int early_verify_tree(struct early *e, const struct manifest_tree *t) _must_check_;

/* early_apparmor.c */
int early_apparmor(struct early *e);

/* early_carry.c */
int early_carry(struct early *e);
void early_carry_remove(struct early *e, const struct manifest_unit *u);

/* early_cgroup.c: dir is manifest_unit.cgroup, "/system.slice/x.service". */
int early_cgroup_make(struct early *e, const char *dir) _must_check_;
/*
 * A descriptor for early_cgroup_enter(), by which the process that calls it goes into the group. Of two,
 * as the path does not lead there while the kernel's file systems are moved to the root.
 */
int early_cgroup_open(const char *dir) _must_check_;
int early_cgroup_enter(int group_fd) _must_check_;
/* SIGKILL to all in it; waits until it is empty and removes it. */
int early_cgroup_kill(const char *dir) _must_check_;

/* early_restore.c */
int early_restore_begin(struct early *e);
int early_restore(struct early *e);
/* Ends what was begun and will not be restored. */
void early_restore_abandon(struct early *e);
/* How long one of these may last. */
uint64_t early_restore_usec(const struct manifest_unit *u);

/* early_outcome.c */
/* The unit will not be restored; the first reason counts. */
void early_mark_cold(struct manifest_unit *u, const char *fmt, ...) _printf_(2, 3);
int early_outcome(struct early *e);
int early_exec_init(struct early *e);

#endif
