/*
 * Landlock domains (landlock(7)): what a thread has forbidden itself and all that it makes. Nothing brings
 * one back, so who is in one is refused by name.
 *
 *   dump     the domain in the thread's credentials, which only the kernel's own structure shows (kernel/peek.h)
 *
 * No type tells where in the security modules' part of the credentials Landlock's is. So a thread of ours enters a
 * domain: the first word by which its part differs from ours is that. Where the kernel cannot be looked
 * into, domains are not seen (README, Limits).
 */
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>

#include "kernel/peek.h"
#include "task/parts.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset	444
#define SYS_landlock_restrict_self	446
#endif
/* More than all modules together have. */
#define BLOB_WORDS	64u
#define NOWHERE		UINT64_MAX	/* there are no domains, or no way to see them */

struct look {
	struct peek *pk;
	uint64_t ours;		/* address of our own part */
	uint64_t offset;
};

static int cred_of(struct peek *pk, pid_t tid, uint64_t *ret)
{
	uint64_t task;
	int r = peek_task(pk, tid, &task);

	return r < 0 ? r : peek_member(pk, task, "task_struct", "cred", 8, ret);
}

/* Of us. */
static int own_blob(struct peek *pk, uint64_t *ret)
{
	uint64_t cred;
	int r = cred_of(pk, (pid_t)syscall(SYS_gettid), &cred);

	return r < 0 ? r : peek_member(pk, cred, "cred", "security", 8, ret);
}

static bool enter_domain(void)
{
	const uint64_t handled_access_fs = 1;	/* LANDLOCK_ACCESS_FS_EXECUTE */
	int fd = (int)syscall(SYS_landlock_create_ruleset, &handled_access_fs, sizeof(handled_access_fs), 0);
	bool entered = fd >= 0 && syscall(SYS_landlock_restrict_self, fd, 0) == 0;

	close_fdp(&fd);
	return entered;
}

/* In a thread of its own, which ends with its domain. */
static void *find(void *arg)
{
	struct look *l = arg;
	uint64_t theirs, a, b;

	if (!enter_domain() || own_blob(l->pk, &theirs) < 0)
		return NULL;
	for (uint64_t off = 0; off < BLOB_WORDS * 8; off += 8) {
		if (peek_word(l->pk, l->ours + off, &a) < 0 || peek_word(l->pk, theirs + off, &b) < 0)
			return NULL;
		if (a != b) {
			l->offset = off;
			return NULL;
		}
	}
	return NULL;
}

static uint64_t find_offset(struct peek *pk)
{
	struct look l = { .pk = pk, .offset = NOWHERE };
	pthread_t thread;

	if (own_blob(pk, &l.ours) < 0 || !l.ours || pthread_create(&thread, NULL, find, &l))
		return NOWHERE;
	pthread_join(thread, NULL);
	return l.offset;
}

void landlock_look(struct dump_ctx *ctx)
{
	if (ctx->landlock.looked)
		return;
	ctx->landlock.offset = find_offset(ctx->peek);
	ctx->landlock.looked = true;
}

static int landlock_dump(struct dump_ctx *ctx, struct dump_process *p _unused_, struct dump_thread *th)
{
	struct landlock_seen *seen = &ctx->landlock;
	uint64_t cred, blob, domain;

	if (!ctx->peek)
		return 0;
	landlock_look(ctx);
	if (seen->offset == NOWHERE || cred_of(ctx->peek, th->task.tid, &cred) < 0 || cred == seen->free)
		return 0;
	if (peek_member(ctx->peek, cred, "cred", "security", 8, &blob) < 0 ||
	    peek_word(ctx->peek, blob + seen->offset, &domain) < 0)
		return log_fail(-EIO, "cannot read the credentials of thread %d", th->task.tid);
	if (!domain) {
		/* Threads, and many processes, have the same ones. */
		seen->free = cred;
		return 0;
	}
	return log_obstacle("let it run without, or leave it out",
			    "thread %d is in a Landlock domain, which nothing could bring back", th->task.tid);
}

const struct task_part part_landlock = {
	.name		= "Landlock domains",
	.stage		= STAGE_STATE,
	.dump		= landlock_dump,
};
