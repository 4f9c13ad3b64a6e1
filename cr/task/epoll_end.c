/*
 * epoll_wait(2), epoll_pwait(2) with a time-out: when an interrupted one would have ended.
 *
 *   before   the end, from the sleeping thread's kernel stack (core/early.c): once interrupted the call is over for the
 *            kernel, which keeps nothing
 *   dump     is it still that call? then the end goes to thread_core_entry, as those of timeout.c do
 *   restore  the call is repeated for the rest of the time; so it is by a tree that goes on after a dump
 *
 * The trap: the time-out is in a register. System calls leave it as it is, and compilers go by that: a loop with the call
 * in line would wait shorter ever after. But no function does (r10 is the caller's to save, x86-64 psABI 3.2.3): in the C
 * library, where nearly all such calls are made, it may be another one.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/early.h"
#include "task/regs.h"
#include "util/timer.h"

#define NSEC_PER_MSEC	1000000ull

/* A thread sleeps in such a call, which the C library has made. */
struct wait_seen {
	uint64_t nr, arg[6], ip;
	uint64_t switches;	/* how often it has slept till then, this time included */
	uint64_t end_nsec;	/* CLOCK_MONOTONIC of the initial time namespace */
};

bool epoll_has_end(uint64_t nr)
{
	return nr == SYS_epoll_wait || nr == SYS_epoll_pwait;
}

uint64_t epoll_rest_msec(uint64_t nsec)
{
	return MIN((nsec + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, (uint64_t)INT32_MAX);
}

/* "7f0c1a2b3000-7f0c1a409000 r-xp 00028000 fe:01 1311 /usr/lib/x86_64-linux-gnu/libc.so.6" */
static bool is_libc(const char *line)
{
	static const char *const names[] = { "libc.so.6", "libc-2.", "libc.musl-", "ld-musl-" };
	const char *name = strrchr(line, '/');

	for (size_t i = 0; name && i < ARRAY_SIZE(names); i++)
		if (str_starts(name + 1, names[i]))
			return true;
	return false;
}

static bool is_in_libc(struct cr_ahead *ahead, int proc_fd, pid_t pid, uint64_t ip)
{
	_cleanup_free_ char *text = NULL;
	uint64_t start, end;
	char *save = NULL;

	if (ahead->libc.pid == pid && ip >= ahead->libc.start && ip < ahead->libc.end)
		return true;
	if (read_file_at(proc_fd, "maps", READ_FILE_MAX, &text, NULL) < 0)
		return false;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "%lx-%lx", &start, &end) != 2 || ip < start || ip >= end)
			continue;
		if (is_libc(line))
			ahead->libc = (typeof(ahead->libc)){ pid, start, end };
		return is_libc(line);
	}
	return false;
}

/* How often a thread has slept. 0: it has ended. */
static uint64_t switches_of(pid_t tid)
{
	static const char key[] = "\nvoluntary_ctxt_switches:";
	_cleanup_free_ char *text = NULL;
	const char *at;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	if (read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL) < 0)
		return 0;
	at = strstr(text, key);
	return at ? strtoull(at + sizeof(key) - 1, NULL, 10) : 0;
}

/* "232 0x4 0x55d0 0x400 0x3e8 0x0 0x0 0x7ffd 0x7f5f"; of one that runs, no numbers. */
static bool call_of(pid_t tid, struct wait_seen *ret)
{
	_cleanup_free_ char *text = NULL;
	uint64_t *a = ret->arg;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	return read_file_at(AT_FDCWD, path, 4096, &text, NULL) >= 0 &&
	       sscanf(text, "%lu %lx %lx %lx %lx %lx %lx %*x %lx", &ret->nr, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5],
		      &ret->ip) == 8;
}

void epoll_end_look(struct cr_ahead *ahead, struct peek *pk, int proc_fd, pid_t pid, pid_t tid)
{
	struct wait_seen seen, *w;
	uint64_t now, most;

	if (!call_of(tid, &seen) || !epoll_has_end(seen.nr) || (int32_t)seen.arg[3] <= 0)
		return;
	seen.switches = switches_of(tid);
	now = (uint64_t)clock_nsec(CLOCK_MONOTONIC);
	most = now + (uint64_t)(uint32_t)seen.arg[3] * NSEC_PER_MSEC;
	if (peek_sleep_end(pk, tid, now, most, &ahead->hint, &seen.end_nsec) < 0 || switches_of(tid) != seen.switches ||
	    !is_in_libc(ahead, proc_fd, pid, seen.ip))
		return;
	w = arena_memdup(&ahead->arena, &seen, sizeof(seen));
	if (w && map_put(&ahead->waits, (uint64_t)tid, w) < 0)
		log_debug("no memory for what thread %d waits for", tid);
}

/* Neither has it returned meanwhile, nor slept again. */
static bool is_that_call(const struct task *t, const struct wait_seen *w, unsigned int stops)
{
	const struct user_regs_struct *g = &t->regs;
	const uint64_t arg[] = { g->rdi, g->rsi, g->rdx, g->r10, g->r8, g->r9 };
	uint64_t switches;

	if (g->orig_rax != w->nr || g->rip != w->ip || memcmp(arg, w->arg, sizeof(arg)))
		return false;
	switches = switches_of(t->tid);
	return switches > w->switches && switches - w->switches <= stops;
}

uint64_t epoll_end_of(const struct cr_ahead *ahead, const struct task *t, unsigned int stops)
{
	const struct wait_seen *w = ahead ? map_get(&ahead->waits, (uint64_t)t->tid) : NULL;

	if (!w || (int64_t)t->regs.rax != -K_ERESTARTNOHAND || !is_that_call(t, w, stops))
		return 0;
	return w->end_nsec;
}

int epoll_end_dump(struct dump_ctx *ctx, struct dump_thread *th)
{
	th->sleep_end_nsec = epoll_end_of(ctx->ahead, &th->task, ctx->opts->freeze_cgroup ? 2 : 1);
	if (!th->sleep_end_nsec || ctx->opts->log_obstacles_only || ctx->pre_dump)
		return 0;
	return timeout_put_end(ctx, th, CLOCK_MONOTONIC, th->sleep_end_nsec);
}

void epoll_end_go_on(struct task *t, uint64_t end_nsec)
{
	const uint64_t now = (uint64_t)clock_nsec(CLOCK_MONOTONIC);

	if (end_nsec)
		t->regs.r10 = epoll_rest_msec(end_nsec > now ? end_nsec - now : 0);
}
