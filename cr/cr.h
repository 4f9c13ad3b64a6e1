/*
 * libcr: checkpoint and restore of process trees. The one header others include.
 *
 * Functions return 0 or a negative errno; details are in the log (util/log.h).
 */
#ifndef CR_H
#define CR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct image_store;

enum cr_final_state {
	CR_KILL,		/* the tree ends, silently for its peers */
	CR_LEAVE_RUNNING,
	CR_LEAVE_STOPPED,
	CR_LEAVE_FROZEN,	/* in opts.freeze_cgroup, as it was; thawing resumes the tree */
};

/* What of a processor is compared: states of the FPU, model, instructions. */
#define CR_CPU_FPU	1u
#define CR_CPU_CPU	2u
#define CR_CPU_INS	4u
#define CR_CPU_IMAGE	8u
#define CR_CPU_DEFAULT	(CR_CPU_FPU | CR_CPU_INS)

enum cr_network_lock { CR_LOCK_IPTABLES, CR_LOCK_NFTABLES, CR_LOCK_SKIP };

/*
 * Tracking of memory between dumps of one tree where the kernel has no soft-dirty bits, or where
 * they are not to be touched: a userfaultfd(2) of each process (Linux >= 6.7). Filled by a dump with
 * track_mem and by cr_pre_dump(), used by the next one. Freeing it ends the tracking: everything
 * counts as written then, and the tree runs at full speed again.
 */
struct cr_track;
/* The kernel has no soft-dirty bits: chains of dumps need a struct cr_track. */
bool cr_track_needed(void);
/* The kernel can do it. */
bool cr_track_supported(void);
int cr_track_new(struct cr_track **ret);
void cr_track_free(struct cr_track *t);
/* From process to process, over a connected unix stream socket. */
int cr_track_send(const struct cr_track *t, int sock);
int cr_track_receive(int sock, struct cr_track **ret);

/*
 * The kernel's own structures, which tell what no file of it does (by BPF). To find one's way in them takes
 * milliseconds. A dump does that before it stops the tree; who has the tree stopped before hands it
 * one. NULL: this kernel, or our rights, do not allow it. To be used by forked children, too.
 */
struct peek;
struct peek *cr_peek_new(void);
void cr_peek_free(struct peek *pk);

/*
 * What can be found out of a tree only while it runs: when its calls with time-outs end. A dump looks itself, before it
 * stops the tree; who has the tree stopped before looks before that, with the options of the dump (pid, more_pids) and a
 * peek or NULL. NULL: no memory. To be used by forked children, too.
 */
struct cr_opts;
struct cr_ahead;
struct cr_ahead *cr_look_ahead(const struct cr_opts *opts, struct peek *pk);
void cr_ahead_free(struct cr_ahead *ahead);

struct cr_external {
	const char *key;	/* "unix[1234]", "mnt[/path]:cookie", "file[4:5f]" ... */
	int fd;			/* --inherit-fd, else -1 */
};

struct cr_opts {
	struct image_store *store;	/* borrowed */
	int work_dir_fd;
	pid_t pid;			/* dump: root of the tree */
	/*
	 * Dump: roots of other trees that belong to it (daemons that a service has left to PID 1):
	 * saved and restored together, whatever they share. Children of the restore's caller, too.
	 */
	const pid_t *more_pids;
	size_t n_more_pids;
	enum cr_final_state final_state;
	const char *freeze_cgroup;	/* directory of the tree's cgroup (v2, or v1 freezer); or NULL */
	uint64_t timeout_usec;		/* for freezing; 0: ten seconds */
	bool tcp_established, tcp_close, skip_in_flight;
	bool shell_job, ext_unix_sk, file_locks, link_remap;
	bool orphan_pts_master;		/* masters of terminals in the tree's own devpts may be outside */
	bool detached, sibling;		/* restore */
	bool time_namespace;		/* restore: clocks go on from the images' readings */
	int64_t clock_advance_nsec;	/* restore: added to them, the time since the dump */
	bool leave_stopped;		/* restore */
	/*
	 * Restore of a tree with a PID namespace of its own: outside of it, too, every task has the pid it had,
	 * or the restore fails. Without it only those do whose pid is free.
	 */
	bool keep_outer_pids;
	bool log_obstacles_only;	/* check: find all, change nothing */
	bool no_cgroups;
	uint64_t ghost_limit_bytes;	/* 0: 1 MiB */
	enum cr_network_lock network_lock;
	const char *run_id;		/* dump: a UUID for the inventory; NULL: a new one */
	int cgroup_mode;		/* CRIU's bits; -1: default */
	/* Restore: "[CONTROLLER:]/PATH", where the groups of a hierarchy, or of all, go. The last one counts. */
	const char *const *cgroup_roots;
	size_t n_cgroup_roots;
	bool empty_net;			/* what a network namespace of its own holds is somebody else's work */
	unsigned int cpu_caps;		/* CR_CPU_*, of which CR_CPU_IMAGE: dump: write, restore: check cpuinfo.img */
	bool skip_mode_check;		/* restore: files may have another mode than at the dump */
	const char *lsm_profile;	/* restore: TYPE:NAME instead of the labels there are, or "none" */
	const char *root;
	/*
	 * Dump: pages that a process shares with an ancestor by copy-on-write are saved once. A
	 * directory then has a `parent`: the images cannot have an earlier dump besides.
	 */
	bool share_pages;
	/*
	 * An earlier dump of the same tree with track_mem, or pre-dump, relative to the images'
	 * directory: only pages written since are saved. A `parent` link that is there counts too.
	 */
	const char *parent_dir;
	bool track_mem;			/* dump: the next one will refer to this one */
	struct cr_track *track;		/* borrowed; NULL: soft-dirty bits */
	struct peek *peek;		/* dump; borrowed; NULL: one of its own */
	struct cr_ahead *ahead;		/* dump; borrowed; NULL: the same */
	/* Dump: pages of the parents that are saved anew are punched out there; restore: all used ones. */
	bool auto_dedup;
	const struct cr_external *externals;
	size_t n_externals;
	/*
	 * Asked at every safe point of a dump, may be NULL: true ends it with -ECANCELED and the
	 * tree as it was. A tracer that dies leaves it so, too, but for what README names.
	 */
	bool (*cancelled)(void *arg);
	void *cancelled_arg;
	/*
	 * Hooks of --action-script, of requests and of crkexec: called at the named points, may be NULL.
	 * root: -1 before there is one. At query-ext-files it may add to externals.
	 */
	int (*notify)(void *arg, const char *event, pid_t root);
	/* Restore with orphan_pts_master: a new master for whoever shows the terminal; borrowed. May be NULL. */
	int (*give_master)(void *arg, int fd);
	void *notify_arg;		/* of both */
};

struct cr_stats {
	uint64_t freezing_usec, frozen_usec, memdump_usec, memwrite_usec;
	uint64_t pages_scanned, pages_skipped_parent, pages_written, pages_restored;
	uint64_t pages_compared, pages_skipped_cow;	/* restore: against the parent's */
	uint64_t forking_usec, restore_usec;
};

/* Writes the images of the tree at opts->pid. On failure the tree is as it was, and there are none. */
int cr_dump(const struct cr_opts *opts, struct cr_stats *ret_stats);

/*
 * Memory only, mostly while the tree runs: it is stopped to see which pages there are, and goes on
 * while they are copied. A dump with parent_dir then saves what was written since the stop.
 */
int cr_pre_dump(const struct cr_opts *opts, struct cr_stats *ret_stats);

/*
 * Rebuilds the tree, or trees, from opts->store. On failure nothing of it is left. *ret_root is the root
 * task's pid. With sibling the root's parent is the caller's parent.
 */
int cr_restore(const struct cr_opts *opts, pid_t *ret_root, struct cr_stats *ret_stats);

/* Writes cpuinfo.img; compares this machine with it. -EOPNOTSUPP: this processor cannot do as much. */
int cr_cpuinfo_dump(struct image_store *store);
int cr_cpuinfo_check(struct image_store *store, unsigned int caps);

/* All obstacles of the tree, through log_obstacles_set(); -EOPNOTSUPP if there is any. */
int cr_check_tree(const struct cr_opts *opts);

/* The running kernel's features; see `cr check`. 1 yes, 0 no, -ENOENT unknown name. */
int cr_check_feature(const char *name);
int cr_check_mandatory(void);			/* -EOPNOTSUPP: something is missing, logged */
bool cr_check_kernel(bool extra, bool all);	/* prints; true: nothing is missing */

#endif
