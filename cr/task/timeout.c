/*
 * Calls with a time-out: poll, nanosleep, clock_nanosleep (relative ones), futex.
 *
 *   dump     which call it is and when it ends, from the thread's restart_block (kernel/peek.h): the
 *            number in orig_ax, the end in thread_core_entry
 *   restore  the same call for the rest of the time, made in the task and interrupted at once; the kernel
 *            then has a restart_block again
 *
 * When such a call is interrupted (a stop, a freeze, a tracer), it returns -ERESTART_RESTARTBLOCK; the
 * kernel keeps there how to go on with it, and goes on by restart_syscall(2). The arguments stay in
 * the registers, but from then on the number is that one's: of a second interruption they do not tell which
 * call it was. What is made anew is not the task's business: its registers and memory are as they were.
 *
 * The trap: ends in the restart_block are by the initial time namespace's clock. And a thread may be stopped
 * before it has made its restart_syscall(2): then that is its next instruction.
 */
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>

#include "kernel/peek.h"
#include "ns/ns.h"
#include "task/parts.h"
#include "task/regs.h"
#include "util/timer.h"

#define NSEC_PER_MSEC	1000000ull
#define PAGE_FIRST	4096u	/* nothing is mapped below it */

/* What a restart_block says; checked against the registers. */
struct timeout {
	uint64_t nr;
	bool has_end;
	clockid_t clock;	/* the initial time namespace's */
	uint64_t end_nsec;
};

struct block {
	struct peek *pk;
	uint64_t task;		/* its task_struct's address */
	const struct user_regs_struct *regs;
};

static int block_get(const struct block *b, const char *member, unsigned int bytes, uint64_t *ret)
{
	return peek_member(b->pk, b->task, "task_struct", member, bytes, ret);
}

static int poll_end(const struct block *b, uint64_t *ret_sec, uint64_t *ret_nsec)
{
	int r = block_get(b, "restart_block.poll.tv_sec", 8, ret_sec);

	if (r >= 0)
		return block_get(b, "restart_block.poll.tv_nsec", 8, ret_nsec);
	if (r != -ENODATA)
		return r;
	/* Newer kernels. */
	r = block_get(b, "restart_block.poll.end_time.tv_sec", 8, ret_sec);
	return r < 0 ? r : block_get(b, "restart_block.poll.end_time.tv_nsec", 8, ret_nsec);
}

static int poll_read(const struct block *b, struct timeout *ret)
{
	uint64_t fds, n, sec, nsec, timed = 0;
	int r = block_get(b, "restart_block.poll.ufds", 8, &fds);

	if (r >= 0)
		r = block_get(b, "restart_block.poll.nfds", 4, &n);
	if (r >= 0)
		r = block_get(b, "restart_block.poll.has_timeout", 4, &timed);
	if (r >= 0)
		r = poll_end(b, &sec, &nsec);
	if (r < 0)
		return r;
	if (fds != b->regs->rdi || n != (uint32_t)b->regs->rsi)
		return -ENODATA;
	*ret = (struct timeout){ SYS_poll, timed, CLOCK_MONOTONIC, timer_nsec(sec, nsec) };
	return 0;
}

/* Two calls with one way to go on. The first argument is an address, or the number of a clock. */
static uint64_t which_sleep(const struct user_regs_struct *regs)
{
	if (regs->orig_rax != SYS_restart_syscall)
		return regs->orig_rax;
	return regs->rdi < PAGE_FIRST ? SYS_clock_nanosleep : SYS_nanosleep;
}

static int sleep_read(const struct block *b, struct timeout *ret)
{
	uint64_t nr = which_sleep(b->regs), clock, type, left, end;
	int r = block_get(b, "restart_block.nanosleep.clockid", 4, &clock);

	if (r >= 0)
		r = block_get(b, "restart_block.nanosleep.type", 4, &type);
	if (r >= 0)
		r = block_get(b, "restart_block.nanosleep.rmtp", 8, &left);
	if (r >= 0)
		r = block_get(b, "restart_block.nanosleep.expires", 8, &end);
	if (r < 0)
		return r;
	/* Only if the type is not "none" it is told where what is left shall go. */
	if (type && left != (nr == SYS_nanosleep ? b->regs->rsi : b->regs->r10))
		return -ENODATA;
	*ret = (struct timeout){ nr, clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME, (clockid_t)clock, end };
	return 0;
}

/* By the time that a processor spends, or a clock that wakes the machine: when it ends is not read. */
static int other_sleep_read(const struct block *b, struct timeout *ret)
{
	(void)b;
	*ret = (struct timeout){ .nr = SYS_clock_nanosleep };
	return 0;
}

static int futex_read(const struct block *b, struct timeout *ret)
{
	const uint64_t op = b->regs->rsi & (uint64_t)FUTEX_CMD_MASK & UINT32_MAX;
	const bool real = b->regs->rsi & FUTEX_CLOCK_REALTIME;
	uint64_t addr, val, end;
	int r = block_get(b, "restart_block.futex.uaddr", 8, &addr);

	if (r >= 0)
		r = block_get(b, "restart_block.futex.val", 4, &val);
	if (r >= 0)
		r = block_get(b, "restart_block.futex.time", 8, &end);
	if (r < 0)
		return r;
	if (addr != b->regs->rdi || val != (uint32_t)b->regs->rdx ||
	    (op != FUTEX_WAIT && op != FUTEX_WAIT_BITSET))
		return -ENODATA;
	*ret = (struct timeout){ SYS_futex, op == FUTEX_WAIT_BITSET || !real,
				 real ? CLOCK_REALTIME : CLOCK_MONOTONIC, end };
	return 0;
}

static const struct {
	const char *fn;
	int (*read)(const struct block *b, struct timeout *ret);
} blocks[] = {
	{ "do_restart_poll",		poll_read },
	{ "hrtimer_nanosleep_restart",	sleep_read },
	{ "posix_cpu_nsleep_restart",	other_sleep_read },
	{ "alarm_timer_nsleep_restart",	other_sleep_read },
	{ "futex_wait_restart",		futex_read },
};

/* -EOPNOTSUPP, -ENODATA: this kernel does not tell, or not in a way that is known here. */
static int block_read(struct dump_ctx *ctx, const struct task *t, struct timeout *ret)
{
	struct block b = { .pk = ctx->peek, .regs = &t->regs };
	char name[32];
	uint64_t fn;
	int r = b.pk ? peek_task(b.pk, t->tid, &b.task) : -EOPNOTSUPP;

	if (r >= 0)
		r = block_get(&b, "restart_block.fn", 8, &fn);
	if (r >= 0)
		r = peek_symbol(b.pk, fn, name, sizeof(name));
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
		if (!strcmp(name, blocks[i].fn))
			return blocks[i].read(&b, ret);
	return -ENODATA;
}

int timeout_put_end(struct dump_ctx *ctx, struct dump_thread *th, clockid_t clock, uint64_t nsec)
{
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	TimeoutEntry *e = tc ? ARENA_MSG(&ctx->arena, TimeoutEntry, timeout_entry) : NULL;
	int r;

	if (!e)
		return -ENOMEM;
	e->clock = (uint32_t)clock;
	r = ns_dump_end(ctx, clock, nsec, &e->end_nsec, &e->left_nsec);
	if (r < 0)
		return r;
	tc->timeout = e;
	return 0;
}

/* On the instruction of its restart_syscall(2): behind it, where it has yet to be decided. */
static int before_restart(struct task *t)
{
	uint8_t insn[2];
	int r;

	if (t->regs.rax != SYS_restart_syscall)
		return 0;
	r = remote_read(t, t->regs.rip, insn, 2);
	if (r < 0 || insn[0] != 0x0f || insn[1] != 0x05)
		return 0;	/* it just has this number there */
	t->regs.rip += 2;
	t->regs.rax = (uint64_t)-K_ERESTART_RESTARTBLOCK;
	t->regs.orig_rax = SYS_restart_syscall;
	return 0;
}

int timeout_dump(struct dump_ctx *ctx, struct dump_thread *th)
{
	struct user_regs_struct *regs = &th->task.regs;
	struct timeout to;
	int r = before_restart(&th->task);

	if (r < 0 || (int64_t)regs->orig_rax < 0 || (int64_t)regs->rax != -K_ERESTART_RESTARTBLOCK ||
	    ctx->opts->log_obstacles_only || ctx->pre_dump)
		return r;
	r = block_read(ctx, &th->task, &to);
	if (r >= 0) {
		/* If it goes on after all, the kernel looks at the result only. */
		regs->orig_rax = to.nr;
		return to.has_end ? timeout_put_end(ctx, th, to.clock, to.end_nsec) : 0;
	}
	log_debug("thread %d: what it waits for cannot be read: %s", th->task.tid, strerror(-r));
	if (regs->orig_rax == SYS_restart_syscall && !ctx->timeouts_lost) {
		ctx->timeouts_lost = true;
		log_warn("calls with a time-out that were interrupted before (by a pre-dump, a tracer, a stop) end "
			 "with EINTR: which they were this kernel tells only by BPF (Linux >= 6.1, BTF)");
	}
	return 0;
}

int timeout_check(const CoreEntry *core)
{
	const TimeoutEntry *e = core->thread_core ? core->thread_core->timeout : NULL;
	const UserX86RegsEntry *g = core->thread_info->gpregs;
	const uint64_t op = g->si & (uint64_t)FUTEX_CMD_MASK & UINT32_MAX;

	if (!e)
		return 0;
	if (e->clock != CLOCK_MONOTONIC && e->clock != CLOCK_BOOTTIME && e->clock != CLOCK_REALTIME)
		return part_bad("core image: a time-out by clock %u", e->clock);
	switch (g->orig_ax) {
	case SYS_poll:
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		return 0;
	case SYS_futex:
		if (op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET)
			return 0;
	}
	return part_bad("core image: a time-out of system call %lu", g->orig_ax);
}

/* A time for the task, in the zone. */
static uint64_t put_time(const struct remote *remote, uint64_t nsec)
{
	struct timespec ts = timer_timespec(nsec);

	memcpy(remote->mirror + ZONE_DATA_OFF, &ts, sizeof(ts));
	return remote->zone + ZONE_DATA_OFF;
}

/* The call again, but for as long as is left of it. */
static int rest_of_call(struct restore_ctx *ctx, struct restore_thread *th, const TimeoutEntry *e, uint64_t arg[6])
{
	uint64_t left = ns_restore_left(ctx, (clockid_t)e->clock, e->end_nsec, e->left_nsec);
	int64_t now;
	int r;

	switch (th->core->thread_info->gpregs->orig_ax) {
	case SYS_poll:
		arg[2] = MIN((left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, (uint64_t)INT32_MAX);
		return 0;
	case SYS_nanosleep:
		arg[0] = put_time(th->task.remote, left);
		return 0;
	case SYS_clock_nanosleep:
		arg[2] = put_time(th->task.remote, left);
		return 0;
	}
	/* FUTEX_WAIT_BITSET takes an end instead of a duration; with all bits it is FUTEX_WAIT. */
	r = ns_restore_clock(ctx, (clockid_t)e->clock, &now);
	if (r < 0)
		return r;
	if ((arg[1] & (uint64_t)FUTEX_CMD_MASK & UINT32_MAX) == FUTEX_WAIT)
		arg[5] = FUTEX_BITSET_MATCH_ANY;
	arg[1] = FUTEX_WAIT_BITSET | (arg[1] & FUTEX_PRIVATE_FLAG) |
		 (e->clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
	arg[3] = put_time(th->task.remote, timer_sum(now, left));
	return 0;
}

int timeout_restore(struct restore_ctx *ctx, struct restore_thread *th)
{
	const TimeoutEntry *e = th->core->thread_core->timeout;
	UserX86RegsEntry *g = th->core->thread_info->gpregs;
	uint64_t arg[6] = { g->di, g->si, g->dx, g->r10, g->r8, g->r9 };
	int r;

	/* One that does not stand on its instruction does not wait. */
	if (!e || g->ax != g->orig_ax)
		return 0;
	if (epoll_has_end(g->orig_ax)) {
		g->r10 = epoll_rest_msec(ns_restore_left(ctx, (clockid_t)e->clock, e->end_nsec, e->left_nsec));
		return 0;
	}
	r = rest_of_call(ctx, th, e, arg);
	if (r >= 0)
		r = task_syscall(&th->task, &th->result, g->orig_ax, arg);
	if (r < 0)
		return log_err(r, "thread %d: cannot go on with its system call %lu", th->task.tid, g->orig_ax);
	th->has_result = true;
	return 0;
}
