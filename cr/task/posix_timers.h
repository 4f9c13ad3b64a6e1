/*
 * POSIX timers, between the files that save and restore them: posix_timers*.c, and sigpending.c with the
 * signals that they have sent.
 */
#ifndef CR_TASK_POSIX_TIMERS_H
#define CR_TASK_POSIX_TIMERS_H

#include "kernel/peek.h"
#include "task/parts.h"

/* A process's; each takes POSIX_TIMER_CALLS of its one batch. */
#define POSIX_TIMERS_DUMP_MAX	1024u
#define POSIX_TIMER_CALLS	3u

struct posix_timer_line {
	uint32_t id;
	int signo, clock_id, notify;	/* notify: SIGEV_* */
	uint64_t sival;
	pid_t target;			/* tid for SIGEV_THREAD_ID, else pid */
	/* posix_timers_peek(): its signal is in the queue, and how many periods since were counted so far. */
	bool pending;
	uint64_t periods;
	bool at_moment;			/* of CLOCK_REALTIME: expires at a moment of it, whoever sets that clock */
};
/* /proc/PID/timers, sorted by id. *ret is heap memory. */
int posix_timers_parse(const char *text, struct posix_timer_line **ret, size_t *ret_n)
	_must_check_;
/* Of a stopped process: pending, periods and at_moment of its n timers. */
int posix_timers_peek(struct peek *pk, pid_t pid, struct posix_timer_line *lines, size_t n)
	_must_check_;
/* Whether a blocked one does nothing but wait in its queue: not so those of job control, and what ptrace(2) uses. */
bool posix_timer_signal_waits(uint32_t signo);

/* by_id: PR_TIMER_CREATE_RESTORE_IDS works; list is ascending. Makes them; nothing runs yet. */
int posix_timers_create(struct batch *b, PosixTimerEntry *const *list, size_t n, bool by_id)
	_must_check_;
/* Lets it run, in b: with the time that it has left, or to the moment when that ran out. */
void posix_timer_arm(struct restore_process *p, struct batch *b, const PosixTimerEntry *e);
/*
 * Lets it run with its overrun count; in the thread that gets its signals. Runs b and begins it anew.
 * 0: that cannot be, or was too late; it is to be armed without.
 */
int posix_timer_arm_overrun(struct restore_process *p, struct batch *b, const PosixTimerEntry *e)
	_must_check_;
/*
 * Lets it run with its signal sent just now. May run b and begin it anew. 0: that cannot be; it runs, and
 * its signal is yet to be queued.
 */
int posix_timer_send(struct restore_process *p, struct batch *b, PosixTimerEntry *e) _must_check_;
/* Whose pending signal that is (a siginfo_t of an image). NULL: of none that posix_timer_send() is for. */
PosixTimerEntry *posix_timer_of(const struct restore_process *p, const void *info);

/* sigpending.c: its signal is in the queue, with its overrun count. *q may be NULL. */
int sigpending_note_timer(struct dump_ctx *ctx, SignalQueueEntry **q, const PosixTimerEntry *e)
	_must_check_;

#endif
