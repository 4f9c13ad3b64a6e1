/*
 * Socket calls in another's name. The kernel notes who calls socketpair(2), listen(2) and
 * connect(2) on a unix socket and tells the other end (SO_PEERCRED, SO_PEERGROUPS,
 * SO_PEERPIDFD); nothing can change that afterwards.
 */
#ifndef CR_KIND_SK_CALLER_H
#define CR_KIND_SK_CALLER_H

#include <sys/un.h>

#include "kind/kind.h"

enum sk_call_sort { SK_PAIR, SK_LISTEN, SK_CONNECT };

struct sk_call {
	const SkCredsEntry *who;
	bool quiet;			/* nobody minds which pid it is */
	enum sk_call_sort sort;
	void *of;			/* the user's */
	int fd;				/* the engine's: what listens, what connects */
	int type;			/* SK_PAIR: as socketpair(2) takes it */
	int backlog;			/* SK_LISTEN */
	const struct sockaddr_un *to;	/* SK_CONNECT to an abstract name... */
	socklen_t to_len;
	int to_file;			/* ... or to a socket's file (O_PATH); to is NULL then */
	/* Results. */
	pid_t by;			/* whom the kernel has noted */
	int made[2];			/* SK_PAIR: the engine's */
};

#define SK_CALLS_MAX	32u	/* made at once; what connects must find room in a backlog */

/*
 * Makes the calls, each as if its who had made it: by the task of that pid while nothing is in
 * it yet (kind->begin), else by a process made for it, with its pid if that is free. Sorts them
 * by who. Logged. After a failure made[] of all are -1 and nothing is left behind.
 */
int sk_call_as(struct restore_ctx *ctx, struct sk_call *calls, size_t n) _must_check_;

/* An order of callers; 0: the same. */
int sk_creds_cmp(const SkCredsEntry *a, const SkCredsEntry *b);

/*
 * A process that the tree sees under this pid, until sk_release_pid(): a message can be sent in the name
 * of a pid that is there only. -EEXIST when it is. *ret: as we see it.
 */
int sk_hold_pid(struct restore_ctx *ctx, uint32_t pid, pid_t *ret) _must_check_;
void sk_release_pid(pid_t pid);	/* none: 0 or less */

/* sk_creds.c. Whose call it was if the image does not say: f's first holder's. NULL: no memory. */
const SkCredsEntry *sk_creds_of(struct restore_ctx *ctx, const struct restore_file *f);

/* The other end's credentials as the kernel tells them; *ret NULL when it knows none. */
int sk_creds_dump(struct dump_ctx *ctx, int fd, SkCredsEntry **ret) _must_check_;

#endif
