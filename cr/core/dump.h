/*
 * The state of one dump: the tree as it was found, the graph of open files, the images.
 * Everything hangs in the arena.
 */
#ifndef CR_CORE_DUMP_H
#define CR_CORE_DUMP_H

#include <sys/stat.h>

#include "cr.h"
#include "image/image.h"
#include "image/proto.h"
#include "kernel/peek.h"
#include "remote/remote.h"
#include "task/mem_runs.h"
#include "util/arena.h"
#include "util/io.h"
#include "util/log.h"
#include "util/map.h"

struct kind;
struct proc_status;
struct dump_ctx;

struct dump_thread {
	struct task task;		/* tid, registers, mask */
	uint32_t tid_virtual;		/* as the tree's PID namespace shows it */
	CoreEntry *core;
	struct proc_status *status;	/* read once by task_status(), task/parts.h */
	/* core/shares.c: who has the same has the same number. 0: none, or nobody can tell. */
	uint64_t shares[TASK_SHARES];
	unsigned int flags;		/* PF_* as it has found them; 0: it has not */
	/* core/thread_shares.c; never set for the one that speaks for the process. */
	bool shares_ns;			/* all namespaces are the process's, its children's, too */
	bool own_fs;			/* working directory, root and umask are its own */
	uint64_t sleep_end_nsec;	/* of the call that it goes on with, CLOCK_MONOTONIC; 0: as its registers say */
};

/* One descriptor. */
struct dump_fd {
	int t_fd;
	const char *link;		/* readlink of /proc/PID/fd/N, e.g. "pipe:[123]" */
	/* Of /proc/PID/fdinfo/N; only while and after dump_fds() works on the process. */
	const char *fdinfo;
	int64_t read_nsec;		/* our CLOCK_MONOTONIC then */
	bool cloexec;
	uint32_t flags;			/* struct file's, without O_CLOEXEC */
	uint64_t pos, ino;
	int mnt_id;
	struct dump_file *file;		/* NULL until its turn comes */
};

enum task_life { TASK_ALIVE = 1, TASK_DEAD = 2, TASK_STOPPED = 3 };	/* task_core_entry.task_state */

struct dump_process {
	struct dump_ctx *ctx;
	struct dump_process *parent;	/* NULL: root */
	uint32_t number;		/* nobody else has it, nor anybody who has been dropped */
	pid_t pid, host_pgid;
	/* As the tree's PID namespace shows them (pids.h). 0: a group or session from outside of it. */
	uint32_t pid_virtual, pgid, sid;
	uint32_t pid_ns;		/* as numbered in the images, if it is nested in the root's; else 0 */
	uint32_t pid_ns_for_children;	/* idem, if that is not its own; else 0 */
	bool time_later;		/* its children would get another time namespace */
	dev_t tty;			/* its controlling terminal, 0: none */
	int tty_pgrp;			/* and that one's foreground group */
	enum task_life life;
	uint32_t exit_code;		/* kernel/stat.h */
	int exit_signal;		/* idem; a root's is SIGCHLD */
	uint64_t start_ticks;		/* idem */
	/* [0] is the main thread, or any that lives: it speaks for the process. */
	struct dump_thread *threads;
	size_t n_threads;
	bool main_ended;		/* a zombie, but others go on */
	bool had_children;		/* as it was stopped: others may have fallen to it since */
	int proc_fd;			/* O_PATH directory /proc/PID */
	int pidfd;			/* opened by dump_pidfd() */
	struct dump_fd *fds;		/* core/fd_list.c: ascending, as they were when the tree stopped */
	size_t n_fds;
	TaskKobjIdsEntry *ids;
	MmEntry *mm;
	struct vma *vmas;		/* task/vma.h */
	size_t n_vmas;
	struct uring_fd *urings;	/* task/uring_fds.h */
	size_t n_urings;
	bool urings_read;
	struct mem_runs runs;		/* its pages, when they are found before they are written */
	struct dump_process *cow_from;	/* task/mem_cow.h: an ancestor whose pages it refers to */
	bool is_cow_source;
	uint32_t pages_id;		/* a source's, in the shared store */
	pid_t undo_with;		/* a process outside of the tree that shares its SEM_UNDO; 0: none seen */
	struct remote remote;
	char comm[16];
};

/* One struct file of the kernel, however many descriptors and tasks share it. */
struct dump_file {
	uint32_t id;			/* in files.img */
	const struct kind *kind;
	struct dump_process *owner;	/* a task that holds it, and as which number; */
	int t_fd;			/* -1: reached without a descriptor (exe, map, cwd) */
	int fd;				/* our duplicate (pidfd_getfd) while kind->dump runs, or -1 */
	int queued_fd;			/* ours until the dump's end, if it is only queued; t_fd is -1 then */
	const char *link;		/* struct dump_fd's */
	struct stat st;			/* of the open file */
	const char *fdinfo;		/* text of /proc/PID/fdinfo/N, "" if t_fd < 0 */
	int64_t read_nsec;		/* struct dump_fd's */
	uint32_t flags;			/* from fdinfo, without O_CLOEXEC */
	uint64_t pos;
	uint32_t net_ns_id;		/* a socket's network namespace, as numbered in the images */
	int mnt_id;			/* from fdinfo; -1 unknown */
	FileEntry *fe;			/* what goes to files.img */
};

/* An obstacle (log_obstacle()) that may have gone by itself when the dump comes: a check warns of it, 0. */
#define dump_obstacle_for_now(ctx, remedy, ...)							\
	((ctx)->opts->log_obstacles_only ?							\
	 (log_warn("just now a dump would be refused: " __VA_ARGS__), 0) : log_obstacle(remedy, __VA_ARGS__))

struct dump_ctx {
	struct arena arena;
	const struct cr_opts *opts;
	struct image_store *store;
	struct image_store *shared_store;	/* pages that several refer to; NULL: none */
	struct dump_process **procs;	/* parents before children, root first */
	size_t n_procs;
	uint32_t last_number;		/* of a process */
	struct map procs_by_pid;
	struct dump_file **files;	/* in id order */
	size_t n_files;
	struct map files_by_key;	/* files.c */
	struct map ns_by_key;		/* ns ids by (type, inode) */
	struct map mapped;		/* task/vma_file.c */
	struct map sharers;		/* core/shares.h */
	struct map sockets_by_ino;	/* kernel/sockdiag.h: all sockets of the tree's net ns */
	TaskKobjIdsEntry *root_ids;	/* the dumper's own */
	InventoryEntry *inventory;
	struct image_writer *w_files, *w_remap, *w_pipes_data, *w_fifo_data, *w_sk_queues;
	struct segment *ipc_segments;	/* ns/ipc_*_dump.c: the tree's, but for ipc_sets */
	struct sem_set *ipc_sets;	/* until ipc_check(): all there are */
	struct msg_queue *ipc_queues;
	struct cgroup_ids *cgroup_ids;	/* ns/cgroup_id.c */
	void *kind_state[32];		/* a kind's own memory during the dump, by FdTypes number */
	void *ns_state;			/* ns/dump.h */
	struct image_store *parent;	/* task/mem_chain.h: the dump before; NULL: none */
	uint64_t parent_uptime_usec;	/* when that was; 0: it did not track memory */
	bool soft_dirty;		/* the kernel's bits may be used */
	bool pre_dump;			/* memory only */
	bool tree_runs;			/* pre-dump, while the pages are copied */
	bool tracking_begun;		/* by this dump: a failure now spoils the chain */
	uint64_t frozen_since_usec;	/* CLOCK_MONOTONIC */
	uint64_t uptime_usec;		/* CLOCK_BOOTTIME, when the tree stood */
	struct cr_ahead *ahead;		/* early.h; borrowed, if it is opts->ahead; or NULL */
	struct peek *peek;		/* dump_peek(); borrowed, if it is opts->peek */
	struct landlock_seen {		/* task/landlock.c */
		bool looked;
		uint64_t offset;	/* of a domain in the security modules' part of credentials */
		uint64_t free;		/* credentials without one, the last that were seen */
	} landlock;
	struct {			/* ns/visit.c: our own network namespace, when a socket is found there */
		uint64_t cookie;
		uint32_t id;
	} own_net;
	long cpus_online;		/* task/cpus.c; 0: not asked yet */
	bool no_labels;			/* task/lsm.c: no security module gives any */
	bool timeouts_lost;		/* task/timeout.c has said so */
	struct cr_stats stats;
	uint32_t next_file_id, next_pages_id, next_ghost_id;
	bool mntns_dumped;		/* reg_file_entry.mnt_id is meaningful */
	unsigned int pid_level;		/* PID namespaces from ours down to the root's; 0: it is ours */
	bool nested_pids;		/* some process has a pid_ns */
	bool network_locked;		/* "network-lock" was notified */
	int obstacles;			/* number found by check */
	bool cancelled;
	bool freezer_used;		/* opts->freeze_cgroup may not be as it was any more */
	bool was_frozen;		/* it was, before we came */
	bool frozen;			/* tree_seize(): it is, by us */
	bool children_lost;		/* idem: some ended before they were looked at, and may have left others */
	bool stop_on_thaw;		/* idem, and the freezer is v1's */
	unsigned int wchan_looks;	/* idem: how often a frozen task had no wchan yet */
};

/*
 * core/files.c. The struct file behind a descriptor: found by kcmp or made (id, link, stat,
 * fdinfo, kind matched and dumped). Several descriptors of one file give the same result.
 */
int dump_file_get(struct dump_ctx *ctx, struct dump_process *p, int t_fd,
		  struct dump_file **ret) _must_check_;
/*
 * A regular file reached without descriptor through a /proc link (exe, cwd, root,
 * map_files/START-END); de-duplicated on device, inode, mount. flags: O_RDONLY ...
 */
int dump_file_get_link(struct dump_ctx *ctx, struct dump_process *p, const char *proc_link,
		       uint32_t flags, struct dump_file **ret) _must_check_;
/* All descriptors of one process → fdinfo-N.img. */
int dump_fds(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* F_GETOWN_EX, F_GETSIG and the setter's uids; every kind has such an entry. */
int dump_fown(struct dump_ctx *ctx, struct dump_file *f, FownEntry **ret) _must_check_;
/* The value after "key:" in fdinfo text, e.g. fdinfo_u64(f, "eventfd-count", 16, &v). -ENOENT. */
int fdinfo_u64(const char *fdinfo, const char *key, int base, uint64_t *ret) _must_check_;
/* -ECANCELED (logged once) when the caller wants an end, else 0. At points where a rollback is safe. */
int dump_check_cancelled(struct dump_ctx *ctx) _must_check_;
/* kernel/peek.h, opened once for the whole dump. Borrowed. -EOPNOTSUPP: see peek_open(). */
int dump_peek(struct dump_ctx *ctx, struct peek **ret) _must_check_;
/* Of what is behind a descriptor of ours, the kernel's own structure (struct file's private_data). */
int dump_peek_private(struct dump_ctx *ctx, int fd, struct peek **ret, uint64_t *ret_addr) _must_check_;
/* Through which the files of a stopped process can be had; stays open in p. -1: see errno. */
int dump_pidfd(struct dump_process *p) _must_check_;
/* A process of the tree by its (real) pid, or NULL. */
struct dump_process *dump_process_find(struct dump_ctx *ctx, pid_t pid);
/* Image-side ids of a user namespace's outside id, identity without userns (ns/userns.c). */
uint32_t dump_uid(struct dump_ctx *ctx, uint32_t outside);
uint32_t dump_gid(struct dump_ctx *ctx, uint32_t outside);

#endif
