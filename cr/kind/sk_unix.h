/* Between the unix_*.c files. */
#ifndef CR_KIND_SK_UNIX_H
#define CR_KIND_SK_UNIX_H

#include <linux/sockios.h>
#include <string.h>

#include "kind/kinds.h"
#include "kind/sk_caller.h"
#include "kind/sk_common.h"

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE	(SIOCPROTOPRIVATE + 0)
#endif

enum { UNIX_ESTABLISHED = 1, UNIX_CLOSE = 7, UNIX_LISTEN = 10 };
enum { USK_EXTERN = 1, USK_SERVICE = 2, USK_CALLBACK = 4 };

/* unix_queue.c: what waits to be read, to sk-queues.img, without taking it out. */
int unix_queue_dump(struct dump_ctx *ctx, struct dump_file *f, int fd, const UnixSkEntry *e)
	_must_check_;
/* unix_path.c: name, permissions and directory of a bound socket. */
/* The name as images have it. */
int unix_name_put(struct dump_ctx *ctx, const struct sockdiag *d, UnixSkEntry *e) _must_check_;
int unix_path_dump(struct dump_ctx *ctx, struct dump_file *f, const struct sockdiag *d,
		   UnixSkEntry *e) _must_check_;
/* For messages: a path, "@name", "unnamed". buf: UNIX_NAME_TEXT. */
#define UNIX_NAME_TEXT	160
const char *unix_name_text(const uint8_t *name, size_t len, char *buf);

/* A message of the queue image. */
struct unix_packet {
	struct unix_packet *next;
	const SkPacketEntry *e;
	const void *data;
};

/* What a socket begins as. */
enum usk_how {
	USK_NONE,			/* not the tree's, or handed in */
	USK_SOCKET,			/* socket(2) */
	USK_PAIR,			/* socketpair(2) with its peer */
	USK_HALF,			/* idem, the other end is dropped */
	USK_ACCEPTED,			/* accept(2): has the listener's name */
	USK_CONNECTS,			/* socket(2); the other end of that */
};

/* One socket to be made. */
struct usk {
	struct restore_file *f;
	const UnixSkEntry *e;
	enum usk_how how;
	size_t door;			/* unix_pairs.c */
	struct usk *peer;		/* entry of e->peer, NULL none */
	int fd;				/* made, not yet handed to the core */
	int handed;			/* the core's, once it has it; else -1 */
	int fake;			/* an end to be closed at the end, or -1 */
	bool inherited, bound, queued_made;
	dev_t file_dev;			/* what it is bound to in the file system; file_ino 0: nothing */
	ino_t file_ino;
	struct unix_packet *queue, **queue_end;
	size_t queue_bytes;
};

struct unix_restore {
	struct usk *socks;
	size_t n_socks;
	struct map by_ino, by_file;
	struct image_reader queues;
	bool queues_open, finished;
};

static inline bool usk_same_name(const UnixSkEntry *a, const UnixSkEntry *b)
{
	return a->name.len == b->name.len &&
	       (!a->name.len || !memcmp(a->name.data, b->name.data, a->name.len));
}

/* The name may fill the address, without a NUL. */
struct unix_path {
	char s[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
};

static inline struct unix_path usk_path_of(const struct sockaddr_un *sa)
{
	struct unix_path p = { "" };

	memcpy(p.s, sa->sun_path, sizeof(sa->sun_path));
	return p;
}

static inline bool usk_is_stream(const struct usk *u)
{
	return u->e->type == SOCK_STREAM || u->e->type == SOCK_SEQPACKET;
}

/* Each is the other's peer: socketpair(2), or connect and accept. */
static inline bool usk_is_pair(const struct usk *u)
{
	return u->peer && u->peer != u && u->peer->peer == u &&
	       !(u->peer->e->uflags & USK_EXTERN);
}

static inline int usk_fd(const struct usk *u)
{
	return u->handed >= 0 ? u->handed : u->fd;
}

/* Whom u's kernel names as its other end; without that in the image, the holder of end. */
const SkCredsEntry *usk_creds(struct restore_ctx *ctx, const struct usk *u, const struct usk *end);
/* bind(2) to u's name as the tree sees the file system; connect(2) to another's name. */
int usk_bind(struct restore_ctx *ctx, struct usk *u, int fd) _must_check_;
/* Takes the name away again, after a failure. */
void usk_unbind(struct restore_ctx *ctx, const struct usk *u);
int usk_connect(struct restore_ctx *ctx, const struct usk *u, int fd, const struct usk *to)
	_must_check_;
int usk_sockaddr(const UnixSkEntry *e, struct sockaddr_un *ret, socklen_t *ret_len)
	_must_check_;

/* unix_bind.c: removes a stale socket's file; owner and mode. */
int usk_make_way(const char *path) _must_check_;
int usk_set_perms(struct restore_ctx *ctx, const UnixSkEntry *e, const char *path) _must_check_;
/* unix_apart.c: where the name does not lead to the file (path_now, deleted). Logged. */
int usk_bind_apart(struct restore_ctx *ctx, struct usk *u, int fd, const struct sockaddr_un *sa,
		   socklen_t len) _must_check_;

/* unix_pairs.c: what was accepted, and who connected to it. */
int usk_make_dirs(const char *dir) _must_check_;	/* like mkdir -p */
int usk_connections(struct restore_ctx *ctx, struct unix_restore *s) _must_check_;
/* unix_begin.c: every call of which the kernel notes the caller. */
int unix_begin(struct restore_ctx *ctx) _must_check_;
/* unix_send.c: the queue of u, sent through fd (connected to u). */
int usk_fill_queue(struct restore_ctx *ctx, struct usk *u, int fd) _must_check_;

/* unix_restore.c */
int unix_prepare(struct restore_ctx *ctx) _must_check_;
int unix_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd) _must_check_;
int unix_restore_queued(struct restore_ctx *ctx) _must_check_;
int unix_finish(struct restore_ctx *ctx, struct restore_file *f) _must_check_;
void unix_restore_done(struct restore_ctx *ctx);

#endif
