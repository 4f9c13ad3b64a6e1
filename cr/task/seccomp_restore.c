/*
 * seccomp on restore: filters are installed oldest first by seccomp(2).
 *
 * Installing takes CAP_SYS_ADMIN or no_new_privs. A thread that has neither at the end (a
 * manager installed the filters, then gave up its privileges) gets them before its credentials,
 * all others last of all. They do not act on our batches: ptrace suspends them
 * (PTRACE_O_SUSPEND_SECCOMP).
 */
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "task/parts.h"

#define FLAGS_KNOWN (SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG |	\
		     SECCOMP_FILTER_FLAG_SPEC_ALLOW)

struct kernel_fprog {
	uint16_t len;
	uint16_t pad[3];
	uint64_t insns;
};

static int seccomp_table(struct restore_ctx *ctx, const SeccompEntry **ret)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	int r;

	if (!ctx->seccomp) {
		SeccompEntry *e = NULL;

		r = image_open_optional(ctx->store, &image_seccomp, &rd);
		if (r < 0)
			return r;
		r = image_get(&rd, &ctx->arena, seccomp_entry, &e);
		if (r < 0)
			return r;
		if (r == 0)
			e = ARENA_MSG(&ctx->arena, SeccompEntry, seccomp_entry);
		if (!e)
			return -ENOMEM;
		ctx->seccomp = e;
	}
	*ret = ctx->seccomp;
	return 0;
}

static int filter_call(struct batch *b, const SeccompFilter *f, uint32_t index)
{
	uint32_t flags = f->has_flags ? f->flags : 0;
	struct kernel_fprog prog = { 0 };
	int r;

	if (!f->filter.len || f->filter.len % sizeof(struct sock_filter) ||
	    f->filter.len / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return part_bad("seccomp image: filter %u of %zu bytes", index, f->filter.len);
	if (flags & ~(uint32_t)FLAGS_KNOWN)
		return part_bad("seccomp image: filter %u has flags 0x%x", index, flags);
	/* Otherwise a thread that cannot follow is a positive result, which looks like success. */
	if (flags & SECCOMP_FILTER_FLAG_TSYNC)
		flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
	r = batch_make_room(b, 1, f->filter.len + 64);
	if (r < 0)
		return r;
	prog.len = (uint16_t)(f->filter.len / sizeof(struct sock_filter));
	prog.insns = batch_put(b, f->filter.data, f->filter.len);
	batch_call(b, SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags,
		   batch_put(b, &prog, sizeof(prog)));
	return 0;
}

static int chain_calls(struct restore_ctx *ctx, const ThreadCoreEntry *tc, struct batch *b)
{
	const SeccompEntry *table = NULL;
	uint32_t i = tc->seccomp_filter;
	int r;

	r = seccomp_table(ctx, &table);
	if (r < 0)
		return r;
	if (!tc->has_seccomp_filter)
		return part_bad("core image: seccomp mode without a filter");
	for (size_t steps = 0; steps <= table->n_seccomp_filters; steps++) {
		const SeccompFilter *f;

		if (i >= table->n_seccomp_filters)
			return part_bad("seccomp image: no filter %u among %zu", i,
					table->n_seccomp_filters);
		f = table->seccomp_filters[i];
		r = filter_call(b, f, i);
		if (r < 0 || !f->has_prev)
			return r;
		i = f->prev;
	}
	return part_bad("seccomp image: the chain that begins with filter %u never ends",
			tc->seccomp_filter);
}

/* Can the thread install filters when it has its own credentials? */
static bool can_install_last(const ThreadCoreEntry *tc)
{
	const CredsEntry *e = tc->creds;

	if (!e || (e->has_no_new_privs && e->no_new_privs))
		return true;
	return e->n_cap_eff > 0 && e->cap_eff[0] & 1u << CAP_SYS_ADMIN;
}

static int seccomp_calls(struct restore_ctx *ctx, struct restore_thread *th, struct batch *b,
			 bool last)
{
	const ThreadCoreEntry *tc = th->core->thread_core;

	if (!tc || !tc->has_seccomp_mode || tc->seccomp_mode == SECCOMP_MODE__disabled)
		return 0;
	if (tc->seccomp_mode == SECCOMP_MODE__strict) {
		if (last)
			batch_call(b, SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		return 0;
	}
	if (tc->seccomp_mode != SECCOMP_MODE__filter)
		return part_bad("core image: seccomp mode %d", (int)tc->seccomp_mode);
	return can_install_last(tc) == last ? chain_calls(ctx, tc, b) : 0;
}

static int seccomp_early_calls(struct restore_ctx *ctx, struct restore_process *p,
			       struct restore_thread *th, struct batch *b)
{
	(void)p;
	return seccomp_calls(ctx, th, b, false);
}

static int seccomp_last_calls(struct restore_ctx *ctx, struct restore_process *p,
			      struct restore_thread *th, struct batch *b)
{
	(void)p;
	return seccomp_calls(ctx, th, b, true);
}

const struct task_part part_seccomp_early = {
	.name		= "seccomp, with privileges",
	.stage		= STAGE_LATE,
	.restore_calls	= seccomp_early_calls,
};

const struct task_part part_seccomp_last = {
	.name		= "seccomp",
	.stage		= STAGE_LATE,
	.restore_calls	= seccomp_last_calls,
};
