/*
 * Namespaces of a tree: found, saved, rebuilt, entered.
 *
 * Saved: user (child of the initial one), uts, ipc, net, pid, cgroup and mount namespaces owned by the
 * initial user namespace, as systemd makes them for a sandboxed unit; the clocks. Mount, pid, uts and cgroup namespaces
 * may differ from process to process, the others are the root's. Anything else is an obstacle.
 */
#ifndef CR_NS_NS_H
#define CR_NS_NS_H

#include "core/dump.h"
#include "core/restore.h"

struct mount_table;

/* The engine in another namespace, until ns_visit_end(): the calling thread, and its children. */
struct ns_visit {
	int home_fd, type;		/* CLONE_NEW*; home_fd -EBADF: at home */
};
#define NS_VISIT_INIT { .home_fd = -EBADF }
int ns_visit_end(struct ns_visit *v);

/* Dump. Called in this order; all of them log. */

/*
 * Fills the namespace ids in p->ids (made if NULL) and, the first time, ctx->root_ids; sets
 * ctx->mntns_dumped; of a zombie there is its PID namespace only. For every process, in tree order.
 * Obstacles: -EOPNOTSUPP.
 */
int ns_dump_ids(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/*
 * Reads maps and mount tables and judges them; writes nothing: what `cr check` needs. Before
 * anything calls dump_uid().
 */
int ns_dump_collect(struct dump_ctx *ctx) _must_check_;
/* IPC and network namespaces of its own that others have, too, are obstacles. */
int ns_dump_check_shared(struct dump_ctx *ctx) _must_check_;
/* When all ids are known: who makes children in another PID namespace than its own. */
int ns_dump_check_pidns(struct dump_ctx *ctx) _must_check_;
/* Interfaces, filters and the like that cannot be saved are obstacles. */
int netns_check(struct dump_ctx *ctx) _must_check_;
/*
 * The engine in the network namespace of a socket of the tree, and its id in the images. Obstacle:
 * a third namespace.
 */
int ns_dump_visit_socket(struct dump_ctx *ctx, int fd, struct ns_visit *v, uint32_t *ret_id)
	_must_check_;
/*
 * ipc_find_semaphores(), ipc_check() and ipc_dump() of ns/ipc.h, and the limits, in the namespace that
 * the tree is in.
 */
int ns_dump_find_semaphores(struct dump_ctx *ctx) _must_check_;
int ns_dump_check_ipc(struct dump_ctx *ctx) _must_check_;
int ns_dump_ipc(struct dump_ctx *ctx) _must_check_;
/* Is the IPC namespace the tree's own, with all that is in it? */
bool ns_dump_has_ipcns(struct dump_ctx *ctx);
/*
 * The POSIX message queues of the namespace that the tree is in, as a directory (the caller's). Its st_dev
 * is that of all their files. -ENOENT: this kernel has none. Silent.
 */
int ns_dump_open_mqueues(struct dump_ctx *ctx, int *ret_fd) _must_check_;
/*
 * A moment of the kernel's own clock (MONOTONIC, BOOTTIME; REALTIME), as the tree sees it, and what is left
 * until then. After ns_dump_collect().
 */
int ns_dump_end(struct dump_ctx *ctx, clockid_t clock, uint64_t nsec, uint64_t *ret_nsec,
		uint64_t *ret_left_nsec) _must_check_;
/* What the tree's CLOCK_MONOTONIC showed when ours did, for ns_restore_elapsed_since(). After ns_dump_collect(). */
int ns_dump_moment(struct dump_ctx *ctx, int64_t own_nsec, uint64_t *ret_nsec) _must_check_;
/* Writes userns, utsns, timens, mountpoints, tmpfs-dev images. */
int ns_dump_all(struct dump_ctx *ctx) _must_check_;
void ns_dump_done(struct dump_ctx *ctx);

/* True when mnt_id is a mount in one of the tree's own mount namespaces. */
bool ns_dump_mount_is_known(struct dump_ctx *ctx, int mnt_id);
/*
 * All mounts of p's namespace, also those a chroot hides from it; NULL when it is the host's and
 * nobody has needed them yet.
 */
const struct mount_table *ns_dump_mounts(struct dump_ctx *ctx, const struct dump_process *p);

/*
 * Where to look a path up so that it is found on that very mount, even if another one covers it:
 * a directory (the caller's) and the path from there ("" for the directory, or the file that is
 * mounted, itself). -ENOENT: the path is not on a mount known here; look as always.
 */
int ns_dump_path_base(struct dump_ctx *ctx, const char *path, int mnt_id, int *ret_fd,
		      const char **ret_rest) _must_check_;

/*
 * Every mount of the tree's that shows one terminal of a devpts of its own: st_dev of that, and the
 * terminal's number. All are told; the last error.
 */
typedef int (*ns_terminal_fn)(void *arg, const char *mountpoint, dev_t devpts, uint32_t index);
int ns_list_terminals(struct dump_ctx *ctx, ns_terminal_fn fn, void *arg) _must_check_;
/* mnt_id shows a devpts of the tree's own, or a terminal of it. */
bool ns_dump_is_own_devpts(struct dump_ctx *ctx, int mnt_id);

/* What a tree's mounts are bound from on the host. */
struct ns_host_source {
	const char *host_path;		/* directory, file or mount point on the host */
	const char *mountpoint;		/* where the tree sees it */
	const char *host_mountpoint;	/* the host's mount it is on, */
	const char *fstype, *source, *options;	/* and that mount's own properties */
	uint32_t flags, sb_flags;	/* MS_* of the host's mount */
	bool whole_mount;		/* host_path is host_mountpoint: /run, credentials */
	bool volatile_fs;		/* tmpfs and the like: gone after a kexec */
};
typedef int (*ns_host_source_fn)(void *arg, const struct ns_host_source *src);
/*
 * Every source, in the order of the tree's mounts; after ns_dump_collect(). What a restore on a
 * fresh kernel needs: host_mountpoint mounted, with volatile_fs and not whole_mount host_path with
 * its contents, and propagation as it was (systemd makes / shared only later than an early restore:
 * mount --make-rshared / before it, or the tree never sees what the host mounts).
 */
int ns_list_host_sources(struct dump_ctx *ctx, ns_host_source_fn fn, void *arg) _must_check_;
/* The same without a dump, for a process that runs. */
int ns_list_host_sources_of(pid_t pid, ns_host_source_fn fn, void *arg) _must_check_;

/* Restore. */

/*
 * Builds the ipc, net, cgroup and time namespaces and keeps descriptors of them. procs and inventory
 * are read already; no task exists; the caller is single-threaded.
 */
int ns_restore_prepare(struct restore_ctx *ctx) _must_check_;
void ns_restore_done(struct restore_ctx *ctx);

/*
 * The engine itself in the tree's own ipc and net namespaces and back: objects are made in there,
 * and tasks cloned meanwhile are born into them. Nothing happens where they are the host's.
 */
int ns_restore_enter(struct restore_ctx *ctx) _must_check_;
int ns_restore_leave(struct restore_ctx *ctx) _must_check_;
/*
 * From inside: the engine in the host's network namespace when the socket of this entry was there
 * (handed in by systemd, say), else nothing.
 */
int ns_restore_visit_socket(struct restore_ctx *ctx, const FileEntry *fe, struct ns_visit *v)
	_must_check_;
/* A seed, which still has the engine's descriptors, into the tree's time namespace, if there is one. */
void ns_restore_enter_time_call(struct restore_ctx *ctx, struct batch *b);
/*
 * A namespace by its CLONE_NEW* and its id in the images, opened; silent. Tasks enter most of theirs only when all
 * their files are made. -ENOENT: one that they are born into, or that nobody is in.
 */
int ns_restore_open(struct restore_ctx *ctx, uint32_t cflag, uint32_t id, int flags, int *ret_fd) _must_check_;
/* Its objects go with it. */
bool ns_restore_has_ipcns(struct restore_ctx *ctx);

/*
 * A PID namespace of the tree's own: the images' pids are those inside, the root is its first process
 * and makes it by being born (CLONE_NEWPID). Once that is told, visits make the engine's children be
 * born there; without one of its own they do nothing.
 */
bool ns_restore_has_pidns(struct restore_ctx *ctx);
/* From the images alone: all processes are in it, or in ones that they say to be nested in it. */
int ns_restore_check_pidns(struct restore_ctx *ctx) _must_check_;
int ns_restore_pidns_made(struct restore_ctx *ctx, pid_t first, uint32_t id) _must_check_;
/* id 0: the root's; others are nested in it, and the images' id. -EBADMSG: it is not there. */
int ns_restore_visit_pids(struct restore_ctx *ctx, uint32_t id, struct ns_visit *v) _must_check_;
/* Borrowed. */
int ns_restore_pidns(struct restore_ctx *ctx, uint32_t id) _must_check_;
/* In a child born there, which shares our memory and descriptors; here if there is none of its own. */
int ns_restore_call_inside(struct restore_ctx *ctx, int (*fn)(void *arg), void *arg) _must_check_;
/* The pid after this one comes next, where the tree is. */
int ns_restore_set_last_pid(struct restore_ctx *ctx, uint32_t last) _must_check_;
/* Where we are. */
int ns_last_pid_write(uint32_t last) _must_check_;
/* The mount, uts and user namespaces, from inside of the others. */
int ns_restore_mounts(struct restore_ctx *ctx) _must_check_;

/*
 * Makes p's leader (alone in its process, with all capabilities) enter its namespaces, user
 * last. b is begun on it and has been run and begun anew afterwards. Afterwards cwd and root
 * are the mount namespace's root; inside a user namespace setgroups(2), clone3(set_tid) and
 * raising hard limits fail, so the supplementary groups are set on the way.
 */
int ns_restore_enter_calls(struct restore_ctx *ctx, struct restore_process *p,
			   struct batch *b) _must_check_;
/*
 * What the clock of this id shows in the tree just now, in nanoseconds. -EINVAL: no such clock, or
 * one that does not go on by itself (CPU time).
 */
int ns_restore_clock(struct restore_ctx *ctx, clockid_t clock, int64_t *ret_nsec) _must_check_;
/*
 * How long ago that clock began, for the tree and for the kernel: no timer can be set to a moment before. Of
 * CLOCK_MONOTONIC this is the boot, however far the tree's has come.
 */
int ns_restore_clock_age(struct restore_ctx *ctx, clockid_t clock, int64_t *ret_nsec) _must_check_;
/*
 * How much time has passed for the tree since its dump, nanoseconds: cr_opts.clock_advance_nsec, and
 * what the restore has taken so far.
 */
uint64_t ns_restore_elapsed(struct restore_ctx *ctx);
/* The same since the tree's CLOCK_MONOTONIC showed that; since the dump, where the clock does not go on. */
uint64_t ns_restore_elapsed_since(struct restore_ctx *ctx, uint64_t monotonic_nsec);
/*
 * Until that moment of the tree's clock; where the clock does not go on from the images' reading, what
 * was left at the dump without the time that has passed.
 */
uint64_t ns_restore_left(struct restore_ctx *ctx, clockid_t clock, uint64_t end_nsec, uint64_t left_nsec);
/* The tree has a user namespace of its own. */
bool ns_restore_has_userns(struct restore_ctx *ctx);
/* The root task gets a namespace of its own, as it had. */
bool ns_restore_any(const struct restore_ctx *ctx);
/* Ids in images are the user namespace's; what they are outside. */
uint32_t ns_restore_uid(struct restore_ctx *ctx, uint32_t inside);
uint32_t ns_restore_gid(struct restore_ctx *ctx, uint32_t inside);

/* Mounts that show terminals, when there are terminals. */
int ns_restore_terminals(struct restore_ctx *ctx) _must_check_;
/* The devpts of the tree's own that mount mnt_id of the images shows some of; NULL: there is none. */
const MntEntry *ns_restore_own_devpts(struct restore_ctx *ctx, int mnt_id);

/*
 * Opens a path of the images: on the saved mount mnt_id when that belongs to the tree, even if
 * it is overmounted; in the host's namespace when mnt_id names another mount; by the root
 * task's namespace when mnt_id is 0 or less. No symbolic link is followed. Returns the
 * descriptor. core/open.c calls it; silent.
 */
int ns_open_path(struct restore_ctx *ctx, const char *path, int mnt_id, int flags) _must_check_;

/*
 * The engine itself in the tree's mount namespace, for what needs a path as the tree sees it
 * (bind(2) of unix sockets). ns_id: mnt_ns_id of ids-N; 0: the root task's. Nothing happens
 * when that namespace is the host's. Not while other threads share our cwd.
 */
int ns_enter_mnt(struct restore_ctx *ctx, uint32_t ns_id) _must_check_;
int ns_leave_mnt(struct restore_ctx *ctx) _must_check_;

#endif
