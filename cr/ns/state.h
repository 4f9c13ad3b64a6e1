/* What the files of this directory share: the state behind ctx->ns_state, helper processes. */
#ifndef CR_NS_STATE_H
#define CR_NS_STATE_H

#include "kernel/mountinfo.h"
#include "ns/ns.h"

/* In the order of the dumper's own ids. */
enum ns_type {
	NS_PID, NS_NET, NS_IPC, NS_UTS, NS_TIME, NS_MNT, NS_USER, NS_CGROUP, NS_TYPES
};

/* One namespace seen during a dump; in dump_ctx.ns_by_key. */
struct ns_seen {
	enum ns_type type;
	uint32_t id;
	uint64_t inode;
	struct dump_process *p;		/* a member; NULL: the dumper's own */
};

/* Where a mount of the tree comes from. */
enum mount_origin {
	ORIGIN_HOST,			/* bound from a mount of the host */
	ORIGIN_OWN,			/* a filesystem of its own */
	ORIGIN_KEY,			/* --external mnt[MOUNTPOINT]:KEY */
};

struct dump_mount {
	const struct mount *m;
	enum mount_origin origin;
	const char *root;		/* of m, or as the tree's cgroup namespace has it */
	const struct mount *host;	/* ORIGIN_HOST: the host's mount, */
	const char *host_path;		/* and the path there */
	const char *key;
	uint32_t pid_ns;		/* a proc: the PID namespace it shows, if that is not the root's */
};

struct dump_mntns {
	uint32_t id;
	struct dump_process *p;
	struct mount_table table;
	struct dump_mount *mounts;	/* as in table */
	const char *cgroup_root;	/* what its cgroup namespace shows as /; NULL: not looked up */
};

static inline uint64_t ns_key(enum ns_type type, uint64_t inode)
{
	return (uint64_t)type << 56 ^ inode;
}

struct clocks {
	int64_t monotonic_nsec, boottime_nsec;
};

struct ns_dump {
	struct mount_table host;
	bool *host_visible;		/* not covered by another mount */
	struct dump_mntns *mntns;
	size_t n_mntns;
	UsernsEntry *userns;		/* NULL: no user namespace of its own */
	bool clocks_read;
	struct clocks tree_ahead, own_ahead;	/* of the initial time namespace's */
	struct map copies;		/* fd + 1 of detached copies, by mount id */
	char *filter_rules;		/* netns_filter.c; NULL: there are none */
};

/* A mount of the images. */
struct rest_mount {
	const MntEntry *e;
	struct rest_mount *parent;	/* NULL: the root */
	enum mount_origin origin;
	const char *fstype;
	const char *host_path;		/* ORIGIN_HOST */
	int fd;				/* O_PATH of its root: the builder's, later ours */
	bool skipped;			/* not there on this host, and the host's business */
	bool late;			/* shows a terminal: after these */
	size_t hidden;			/* on this host, in its table's place - 1: taken last; 0: not */
};

struct rest_mntns {
	uint32_t id;
	const struct restore_process *p;	/* the first that is in it */
	struct rest_mount *mounts;	/* parents first; of siblings the longer paths first */
	size_t n;
	bool has_late;			/* what is shared becomes so with them */
	int fd;				/* of the new namespace */
};

struct ns_restore {
	struct rest_mntns *mntns;
	size_t n_mntns;
	struct map mount_by_id;		/* struct rest_mount * by image mnt_id */
	UsernsEntry *userns;
	struct map made;			/* fd + 1 of uts, ipc, net and cgroup namespaces, by ns_key() of image ids */
	int user_fd;			/* -EBADF: none of its own */
	int pid_fd;			/* idem, or its first process is not there yet */
	struct map nested_pids;		/* fd + 1 of PID namespaces below the root's, by image id, when they are there */
	struct ns_visit ipc_visit, net_visit;
	int time_fd;			/* -EBADF: the clocks are those of all */
	bool has_clocks;		/* a time namespace was made: */
	struct clocks ahead;		/* of our clocks: the tree's */
	struct clocks own;		/* of the initial time namespace's: ours */
	int64_t monotonic_at_dump_nsec;
	int host_mnt_fd, host_root_fd, host_cwd_fd;	/* while in the tree's */
};

/* ids.c */
extern const char *const ns_names[NS_TYPES];
uint32_t *ns_id_field(TaskKobjIdsEntry *ids, enum ns_type type, protobuf_c_boolean **ret_has);
/* Image-side id of a namespace; 0 when the task has none of its own. */
uint32_t ns_own_id(const InventoryEntry *inv, const TaskKobjIdsEntry *ids, enum ns_type type);

/* own.c: may a process be in another one of this type than the tree's root? */
bool ns_may_differ(enum ns_type type);
/* They are in no others; nothing is made yet. -EOPNOTSUPP, logged. */
int ns_restore_check_ids(struct restore_ctx *ctx) _must_check_;
/* Makes namespace id of the images, which p is in; logs. The descriptor is the caller's. */
typedef int (*ns_make_fn)(struct restore_ctx *ctx, const struct restore_process *p, uint32_t id, int *ret_fd);
/* All of one type that processes are in, each once. */
int ns_restore_make_all(struct restore_ctx *ctx, enum ns_type type, ns_make_fn make) _must_check_;
/* One that was made; borrowed. -EBADF: there is none; ns may be NULL, and id 0, the host's. */
int ns_restore_fd(const struct ns_restore *ns, enum ns_type type, uint32_t id);
void ns_restore_made_done(struct ns_restore *ns);

/* The inode number of /proc/PID/ns/NAME, and of what an ioctl of nsfs gives for it: owner or parent. */
int ns_inode(int proc_fd, const char *name, uint64_t *ret) _must_check_;
int ns_related(int proc_fd, const char *name, unsigned long request, uint64_t *ret) _must_check_;
/* Found, or numbered: then p is a member. */
int ns_lookup(struct dump_ctx *ctx, enum ns_type type, uint64_t inode, struct dump_process *p,
	      struct ns_seen **ret, bool *ret_new) _must_check_;

/* pidns_dump.c: p's PID namespace, for zombies, too. */
int pidns_dump_process(struct dump_ctx *ctx, struct dump_process *p) _must_check_;

/* pidns.c: ns_restore_call_inside() for a PID namespace nested in the root's; id 0: the root's. */
int pidns_call_inside(struct restore_ctx *ctx, uint32_t id, int (*fn)(void *arg), void *arg) _must_check_;
void pidns_restore_done(struct ns_restore *ns);

/* The id of the namespace that p is in; 0 when it is the dumper's. Of the root: ns_dump_own_id(). */
uint32_t ns_dump_id(const struct dump_ctx *ctx, const struct dump_process *p, enum ns_type type);
uint32_t ns_dump_own_id(const struct dump_ctx *ctx, enum ns_type type);

/* visit.c. ns_fd < 0: nothing happens. The type is NS_IPC, NS_NET or NS_PID. */
int ns_visit_begin(struct ns_visit *v, int ns_fd, enum ns_type type) _must_check_;
/* The host's network namespace, while the engine is in the tree's. */
int ns_restore_home_net(struct restore_ctx *ctx);

/* helper.c: a short-lived child that enters or makes namespaces and hands descriptors back. */
struct ns_helper {
	pid_t pid;
	int pidfd, out_fd, release_fd;
};
struct ns_reply {
	const void *data;
	size_t bytes;
};
/* Runs in the child; what it replies and its descriptors stay until ns_helper_end(). */
typedef int (*ns_helper_fn)(void *arg, struct ns_reply *reply);
/*
 * Forks, waits until fn is done and returns its result; the reply is read by
 * ns_helper_read(). After an error nothing is left of the child.
 */
int ns_helper_start(struct ns_helper *h, ns_helper_fn fn, void *arg) _must_check_;
int ns_helper_read(struct ns_helper *h, void *buf, size_t bytes) _must_check_;
int ns_helper_take_fd(struct ns_helper *h, int helper_fd, int *ret_fd) _must_check_;
int ns_helper_open(struct ns_helper *h, const char *proc_name, int *ret_fd) _must_check_;
void ns_helper_end(struct ns_helper *h);
#define _cleanup_helper_ _cleanup_(ns_helper_end)
#define NS_HELPER_INIT { .pid = -1, .pidfd = -EBADF, .out_fd = -EBADF, .release_fd = -EBADF }

/* userns.c */
int userns_collect(struct dump_ctx *ctx) _must_check_;
int userns_read_image(struct restore_ctx *ctx, uint32_t id) _must_check_;
int userns_build(struct ns_restore *ns) _must_check_;
/* Text for /proc/PID/uid_map; NULL: out of memory. Heap. */
char *userns_map_text(UidGidExtent *const *map, size_t n);
int userns_map_parse(struct arena *a, const char *text, UidGidExtent ***ret, size_t *ret_n)
	_must_check_;

/* utsns.c, ipcns.c, netns.c, cgroupns.c, timens.c */
int utsns_dump(struct dump_ctx *ctx, struct dump_process *p, uint32_t id) _must_check_;
int utsns_make(struct restore_ctx *ctx, const struct restore_process *p, uint32_t id, int *ret_fd) _must_check_;
int ipcns_make(struct restore_ctx *ctx, const struct restore_process *p, uint32_t id, int *ret_fd) _must_check_;
/* From inside. */
int ipcns_restore(struct restore_ctx *ctx, uint32_t id) _must_check_;
int netns_dump(struct dump_ctx *ctx, uint32_t id) _must_check_;
const char *netns_label(const struct dump_ctx *ctx);
int netns_make(struct restore_ctx *ctx, const struct restore_process *p, uint32_t id, int *ret_fd) _must_check_;
int cgroupns_make(struct restore_ctx *ctx, const struct restore_process *p, uint32_t id, int *ret_fd) _must_check_;
/* From inside. */
int netns_restore(struct restore_ctx *ctx, uint32_t id) _must_check_;
int timens_dump(struct dump_ctx *ctx, struct dump_process *root, uint32_t id) _must_check_;
int timens_build(struct restore_ctx *ctx, uint32_t id) _must_check_;

/* mnt_dump.c, mnt_origin.c, mnt_reach.c, mnt_write.c, fs.c */
int mntns_collect(struct dump_ctx *ctx) _must_check_;
int mntns_find_origins(struct dump_ctx *ctx, struct ns_dump *ns, struct dump_mntns *mnt)
	_must_check_;
int mntns_write(struct dump_ctx *ctx, struct dump_mntns *mnt) _must_check_;
/* A detached copy of one mount, with nothing mounted on it. The caller's. */
int mount_copy(const struct dump_mntns *mnt, const struct mount *m, int *ret_fd) _must_check_;
/* mnt_terminal.c: of a devpts, one of its terminals only. */
bool mount_shows_terminal(const char *fstype, const char *root, uint32_t *ret_index);
/* The origins are known. Obstacles. */
int mounts_check_terminals(const struct dump_mntns *mnt) _must_check_;
/* After they are sorted. */
int mounts_find_late(struct rest_mntns *mnt) _must_check_;
/* Which of the mounts can be reached by their mountpoint, in the namespace we are in. */
int mounts_visible(struct arena *a, const struct mount_table *t, bool **ret) _must_check_;
/* A filesystem of one's own that can be made anew, and whether its contents are saved. */
bool fs_is_rebuildable(const char *fstype);
bool fs_has_contents(const char *fstype);
/* Gone with the old kernel: contents must be carried. */
bool fs_is_volatile(const char *fstype);
/* Of a kind that the host mounts for itself, sooner or later, and no data lives on. */
bool fs_is_hosts_own(const char *fstype);
uint32_t fs_to_code(const char *fstype);
/* NULL: no such type. CRIU has a code for all of a disk's: where they come from is said otherwise. */
#define FS_OF_DISK "disk"
const char *fs_from_entry(const MntEntry *e);

#define EXT_KEY_AUTO "CRIU:AUTOGENERATED"

/* mnt_image.c, mnt_build.c, mnt_source.c, mnt_own.c, mnt_restore.c */
int mntns_read_image(struct restore_ctx *ctx, struct rest_mntns *mnt) _must_check_;
int mntns_build(struct restore_ctx *ctx, struct rest_mntns *mnt) _must_check_;

/* In the builder process only. */
struct builder {
	struct restore_ctx *ctx;
	struct rest_mntns *mnt;
	struct arena *a;
	struct mount_table host;	/* our copy of the host's mounts */
	bool *host_visible;
	int proc_self;			/* /proc/self, before anything covers /proc */
	int scratch;			/* a directory to hang helper mounts on */
	int own_ns;			/* the new namespace itself */
	bool chrooted;			/* the restorer's root is not the top of its namespace */
	struct map own_by_dev;		/* root fd + 1 of superblocks made, by image device */
};
int source_open_host(struct builder *b, struct rest_mount *m, bool hidden_too, int *ret_fd)
	_must_check_;
int source_open_own(struct builder *b, const struct rest_mount *m, int *ret_fd) _must_check_;
/* openat2 below a mount's root, on that mount only; "" is the root itself. */
int open_on_mount(int mount_fd, const char *rel, int flags) _must_check_;
int hang_on_scratch(struct builder *b, int mount_fd) _must_check_;

/* mnt_attach.c: m->fd is a detached clone. In the new namespace; they log. */
bool mount_is_slave(const MntEntry *e);
int mount_dress(const struct rest_mount *m) _must_check_;
int mount_attach(const struct rest_mount *m) _must_check_;
/* When all are attached. */
int mounts_share(const struct rest_mntns *mnt) _must_check_;

#endif
