/*
 * The state of one restore: what the images say, the objects rebuilt in the engine, the
 * tasks under remote control.
 *
 * Kernel objects behind descriptors are created by the engine itself and handed to the tasks
 * with pidfd_getfd(2), called there; only what is tied to the calling task (epoll's key, POSIX
 * locks) is done in the task, by batch, in kind->attach.
 */
#ifndef CR_CORE_RESTORE_H
#define CR_CORE_RESTORE_H

#include "core/lineage.h"
#include "cr.h"
#include "image/image.h"
#include "image/pages.h"
#include "image/proto.h"
#include "remote/remote.h"
#include "util/arena.h"
#include "util/io.h"
#include "util/log.h"
#include "util/map.h"

struct kind;
struct task_inherit;
struct cpus;
struct vdso_image;
struct restore_ctx;
struct mapped_node;
struct late_fown;

struct restore_thread {
	struct task task;
	CoreEntry *core;
	int64_t result;			/* task/timeout.c: of the call that it waits in, made again */
	bool has_result;
	int t_cwd, t_root;		/* core/restore_fs.c: on their way into an fs of its own; -1: the process's */
};

struct restore_process {
	struct restore_ctx *ctx;
	struct restore_process *parent;	/* NULL: a root */
	/* Whose memory its task began with, unchanged since. NULL: the engine's. */
	struct restore_process *mem_from;
	PstreeEntry *pst;		/* pid, pgid, sid, threads; as the tree sees them */
	pid_t pid;			/* as we see it; 0: not made yet */
	CoreEntry *core;		/* the leader's */
	TaskKobjIdsEntry *ids;
	MmEntry *mm;			/* vmas: without guards */
	VmaEntry **guards;		/* task/guard.c */
	size_t n_guards;
	FsEntry *fs;
	FdinfoEntry **fds;		/* ascending by number */
	size_t n_fds;
	bool shares_fds;		/* CLONE_FILES with the parent */
	struct restore_thread *threads;
	size_t n_threads;
	struct remote *remote;
	struct pages_reader *pages;	/* from mem_restore() until nobody needs them any more */
	size_t n_mem_users;		/* whose mem_from it is, still to be made */
	/* Where mem_restore() put the kernel's vDSO: start of vvar, start and end of the code. */
	uint64_t vvar_at, vdso_at, vdso_end;
	bool alive;			/* not a zombie */
	bool main_ended;		/* its main thread is one, to be: after its late state */
	bool task_made;			/* it exists now */
	bool made_early;		/* before there were mounts: with the engine's memory */
};

/* One struct file to rebuild. */
struct restore_file {
	uint32_t id;
	const FileEntry *fe;
	const struct kind *kind;
	int fd;				/* the engine's descriptor; -EBADF before it is made */
	bool in_progress;		/* being made: a second visit is a cycle */
	struct restore_process *owner;	/* the first task that holds it, NULL if none */
	int t_fd;
};

struct restore_ctx {
	struct arena arena;
	const struct cr_opts *opts;
	struct image_store *store;
	InventoryEntry *inventory;
	struct restore_process *procs;	/* parents before children */
	size_t n_procs;
	struct map procs_by_pid;
	struct lineage lineage;		/* all of procs and helpers; kin->process is a restore_process */
	size_t n_early;			/* steps of the lineage that are done before the mounts are built */
	bool early_done;
	bool outer_given_up;		/* somebody's pid outside of the tree's PID namespace: restore_pids.h */
	struct map files_by_id;		/* struct restore_file * */
	struct restore_file **files;	/* in files.img's order */
	size_t n_files;
	int pidfd_self;			/* the engine, as tasks reach it */
	int pidfd_t_fd;			/* its number in every task, above all of the images' */
	struct mapped_node *mapped_files; /* files_restore.c */
	struct late_fown *late_fowns;	/* idem */
	struct rest_segment *ipc_segments; /* ns/ipc_*_restore.c */
	struct rest_set *ipc_sets;
	struct rest_queue *ipc_queues;
	void *kind_state[32];		/* a kind's own memory, by FdTypes number */
	void *ns_state;			/* ns/ns.h */
	struct cpus *cpus;		/* the engine's processors before it was pinned: task/cpus.c */
	struct task_inherit *inherit;	/* what tasks get from us, read by task/inherit.c */
	uint64_t huge_added[64];	/* huge pages of 2^n bytes that hugepages.c added to the pool */
	SeccompEntry *seccomp;		/* seccomp.img, read by task/seccomp.c when needed */
	void *cgroup_state;		/* ns/cgroup.h */
	struct cr_stats stats;
	struct batch batch;		/* the one being built; there is one engine thread */
	struct vdso_image *own_vdso;	/* the kernel's, as the engine has it */
	uint64_t zone;			/* t_addr of the call zone, the same in every task */
	uint8_t *zone_mirror;
	bool failed;			/* at the end: what outlives the tree and was made for it goes */
};

/*
 * core/files_restore.c. The engine's descriptor of a file, made now if need be by its kind.
 * Borrowed: closed at the end of the restore.
 */
int restore_file_get(struct restore_ctx *ctx, uint32_t id, int *ret_fd) _must_check_;
struct restore_file *restore_file_find(struct restore_ctx *ctx, uint32_t id);
struct restore_process *restore_process_find(struct restore_ctx *ctx, uint32_t pid);
/* What we call a process, a thread or a group of the tree that exists. 0: there is none. */
pid_t restore_pid(struct restore_ctx *ctx, uint32_t pid);
pid_t restore_pgid(struct restore_ctx *ctx, uint32_t pgid);
/* Status flags (O_NONBLOCK, O_APPEND, O_ASYNC ...) and owner, for kinds whose creation cannot give them. */
int restore_flags_fown(int fd, uint32_t flags, const FownEntry *fown) _must_check_;

#endif
