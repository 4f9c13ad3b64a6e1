/*
 * What the socket kinds share. All of them work on a duplicate of the descriptor; sock_diag is
 * asked only for what getsockopt(2) does not tell.
 */
#ifndef CR_KIND_SK_COMMON_H
#define CR_KIND_SK_COMMON_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "kernel/sockdiag.h"
#include "kind/kind.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK	72
#endif

struct sk_sort {
	int family, type, proto;
};
int sk_sort_of(int fd, struct sk_sort *ret) _must_check_;
/* AF_* of the socket behind f, -1 if it is none or not known. */
int sk_family(const struct dump_file *f);

int sk_get_int(int fd, int level, int name, int *ret) _must_check_;
int sk_set_int(int fd, int level, int name, int v) _must_check_;
/* Logs with the option's name. */
int sk_set_int_log(int fd, int level, int name, int v, const char *what) _must_check_;
#define SK_SET(fd, level, name, v)	sk_set_int_log(fd, level, name, v, #name)

/*
 * sock_diag's view of f's socket; sweeps its network namespace at the first question. Gives
 * NULL when the kernel does not list it (never bound, closed). A missing diag module is
 * logged and returned, unless ret is NULL-able knowledge for the caller (optional).
 */
int sk_diag(struct dump_ctx *ctx, const struct dump_file *f, enum sockdiag_sort sort,
	    bool optional, const struct sockdiag **ret) _must_check_;
/* Another socket of that sort by inode, after sk_diag() has swept. */
const struct sockdiag *sk_diag_by_ino(struct dump_ctx *ctx, uint32_t ino);
/* 1: a descriptor of the tree refers to this socket, or sk_in_tree_add() said so; else 0. */
int sk_in_tree(struct dump_ctx *ctx, uint32_t ino) _must_check_;
int sk_in_tree_add(struct dump_ctx *ctx, uint32_t ino) _must_check_;
/* Inodes of the engine's own sockets, as keys. */
int sk_list_own(struct map *ret) _must_check_;
/* The network namespace's id for the image; 0 when not known. */
uint32_t sk_ns_id(const struct dump_file *f);

/* sk_reuseport.c. Warns, for a socket with SO_REUSEPORT; looks once. */
struct sk_reuseport {
	bool looked;
	uint32_t program;
};
void sk_reuseport_check(struct sk_reuseport *known);

/* Where a dump keeps the defaults and the groups of all sockets; NULL without memory. */
struct sk_defaults **sk_defaults_slot(struct dump_ctx *ctx);
struct mcast_groups **sk_groups_slot(struct dump_ctx *ctx);
struct sk_reuseport *sk_reuseport_slot(struct dump_ctx *ctx);

/* Options. Before the kind's own changes to the socket (TCP repair changes SO_REUSEADDR). */
int sk_opts_dump(struct dump_ctx *ctx, struct dump_file *f, SkOptsEntry **ret) _must_check_;
/* What a hostile or damaged entry could do harm with, before any of those below; logged. */
int sk_opts_check(const SkOptsEntry *o) _must_check_;
/* Those bind(2) and connect(2) depend on; SO_REUSEADDR is set until sk_opts_restore_late(). */
int sk_opts_restore_early(int fd, const SkOptsEntry *o) _must_check_;
/* All others but the buffers, SO_REUSEADDR and filters. */
int sk_opts_restore(int fd, const SkOptsEntry *o) _must_check_;
/* When queues are filled and all sockets are bound: buffers, SO_REUSEADDR, filters. */
int sk_opts_restore_late(int fd, const SkOptsEntry *o) _must_check_;
/* Room for queues of that many bytes, until sk_opts_restore_late(). */
int sk_buffers_for(int fd, size_t rcv_bytes, size_t snd_bytes) _must_check_;

/*
 * sk_extra.c: options CRIU's format has no field for. known: what fresh sockets have, NULL at
 * first, in the arena. late: those that sk_opts_restore_late() is for.
 */
struct sk_defaults;
int sk_extra_dump(struct dump_ctx *ctx, struct dump_file *f, struct sk_defaults **known,
		  SkOptsEntry *o) _must_check_;
int sk_extra_restore(int fd, const SkOptsEntry *o, bool late) _must_check_;

/* An external by its key, e.g. sort "unix": "unix[12]"; NULL if not named. */
const struct cr_external *sk_external(const struct cr_opts *opts, const char *sort,
				      uint32_t ino);
/*
 * --inherit-fd "socket:[INO]": another open file in this socket's place. 1 and *ret_fd (a
 * duplicate), 0 when none was handed in.
 */
int sk_inherit(struct restore_ctx *ctx, uint32_t ino, int *ret_fd) _must_check_;

/*
 * sk_make.c. In kind->begin: the sockets of this type, each made in its control group. sort says
 * how: 1, 0 for none, or -errno (logged); *ret_cgroup (NULL before) if the group is not that of
 * the process that holds it. sk_take() gives one, owned like the original; logged.
 */
typedef int sk_sort_fn(struct restore_ctx *ctx, const struct restore_file *f, struct sk_sort *ret,
		       const char **ret_cgroup);
int sk_make(struct restore_ctx *ctx, FdTypes type, sk_sort_fn *sort) _must_check_;
int sk_take(struct restore_ctx *ctx, const struct restore_file *f, int *ret_fd) _must_check_;
void sk_make_done(struct restore_ctx *ctx);

/* sk_uid: who the kernel takes for the socket's owner (SO_REUSEPORT, nft skuid, netstat). */
int sk_restore_owner(struct restore_ctx *ctx, const struct restore_file *f, int fd) _must_check_;

/*
 * For core, before a dumped tree is killed: every connected TCP socket goes into repair mode,
 * so that no FIN or RST tells its peer. On failure none is in it. Before dump_files_done().
 */
int sk_dump_silence(struct dump_ctx *ctx) _must_check_;
/* Frees what the sockets' dump remembers. */
void sk_dump_done(struct dump_ctx *ctx);

#endif
