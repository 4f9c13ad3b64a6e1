/*
 * timerfd(2): a timer read through a descriptor.
 *
 *   dump     fdinfo "clockid:", "ticks:", "settime flags:" (octal), "it_value:" (what is left),
 *            "it_interval:"
 *   restore  timerfd_create(); in finish() timerfd_settime() and TFD_IOC_SET_TICKS
 *
 * A periodic timer stops when it has run out and is started again by the next read: fdinfo then
 * shows nothing left and one tick. timerfd_gettime() brings both up to date without changing
 * what a reader sees.
 *
 * The trap: nothing left and no tick is a timer that is off, or one whose time is up this very moment. Taken for
 * the former it would never expire; the kernel's structure tells (kernel/peek.h). Without it, it is off.
 *
 * The tree's clocks are read at the end of a dump: when a timer's fdinfo was is noted beside it.
 *
 * Absolute timers are stored as what is left, too. They are armed against the engine's own
 * clock: the kernel converts with the caller's time namespace.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "kernel/peek.h"
#include "kind/kinds.h"
#include "ns/ns.h"
#include "util/timer.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
/* A busy machine may let its next period pass before we look. */
#define CATCH_UP_TRIES 10

static bool timerfd_match(const struct dump_file *f)
{
	return link_is_anon(f->link, "timerfd");
}

static int pair_parse(const char *fdinfo, const char *key, uint64_t *sec, uint64_t *nsec)
{
	const char *line = strstr(fdinfo, key);
	unsigned long long s, n;

	if (!line || (line != fdinfo && line[-1] != '\n') ||
	    sscanf(line + strlen(key), ": (%llu, %llu)", &s, &n) != 2 || n >= NSEC_PER_SEC)
		return -EBADMSG;
	*sec = s;
	*nsec = n;
	return 0;
}

int timerfd_info_parse(const char *fdinfo, struct timerfd_info *ret)
{
	uint64_t clockid, flags;
	int r;

	*ret = (struct timerfd_info){ 0 };
	if (fdinfo_u64(fdinfo, "clockid", 10, &clockid) < 0 || clockid > INT32_MAX ||
	    fdinfo_u64(fdinfo, "ticks", 10, &ret->ticks) < 0 ||
	    fdinfo_u64(fdinfo, "settime flags", 8, &flags) < 0 || flags > UINT32_MAX)
		return -EBADMSG;
	ret->clockid = (uint32_t)clockid;
	ret->settime_flags = (uint32_t)flags;
	r = pair_parse(fdinfo, "it_value", &ret->value_sec, &ret->value_nsec);
	if (r < 0)
		return r;
	return pair_parse(fdinfo, "it_interval", &ret->interval_sec, &ret->interval_nsec);
}

/* fdinfo once more, of our duplicate: it is the same struct file. */
static int timerfd_look(struct dump_file *f, struct timerfd_info *ti)
{
	_cleanup_free_ char *text = NULL;
	char path[48];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", f->fd);
	r = read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL);
	f->read_nsec = clock_nsec(CLOCK_MONOTONIC);
	if (r < 0)
		return log_err(r, "cannot read %s", path);
	r = timerfd_info_parse(text, ti);
	return r < 0 ? log_err(r, "timerfd: fdinfo cannot be understood") : 0;
}

static bool has_nothing_left(const struct timerfd_info *ti)
{
	return !ti->value_sec && !ti->value_nsec;
}

static bool is_stopped(const struct timerfd_info *ti)
{
	return has_nothing_left(ti) && ti->ticks && (ti->interval_sec || ti->interval_nsec);
}

static bool is_queued(struct dump_ctx *ctx, const struct dump_file *f, const struct timerfd_info *ti)
{
	const bool alarm = ti->clockid == CLOCK_REALTIME_ALARM || ti->clockid == CLOCK_BOOTTIME_ALARM;
	uint64_t timer, queued = 0;
	struct peek *pk;
	int r = dump_peek_private(ctx, f->fd, &pk, &timer);

	if (r >= 0 && alarm)
		r = peek_member(pk, timer, "timerfd_ctx", "t.alarm.state", 4, &queued);
	else if (r >= 0)
		r = peek_member(pk, timer, "timerfd_ctx", "t.tmr.state", 1, &queued);
	return r >= 0 && queued;
}

static int timerfd_settle(struct dump_ctx *ctx, struct dump_file *f, struct timerfd_info *ti)
{
	struct itimerspec its;
	int r = 0;

	if (has_nothing_left(ti) && !ti->ticks) {
		const bool due = is_queued(ctx, f, ti);

		/* It may have expired just now. */
		r = timerfd_look(f, ti);
		if (due && has_nothing_left(ti) && !ti->ticks)
			ti->value_nsec = 1;
	}
	for (unsigned int try = 0; r >= 0 && is_stopped(ti) && try < CATCH_UP_TRIES; try++)
		r = timerfd_gettime(f->fd, &its) < 0 ? log_err(neg_errno(), "timerfd_gettime") : timerfd_look(f, ti);
	/* To CRIU it would be off. */
	if (r >= 0 && is_stopped(ti)) {
		ti->value_sec = ti->interval_sec;
		ti->value_nsec = ti->interval_nsec;
	}
	return r;
}

static int timerfd_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	TimerfdEntry *e = ARENA_MSG(&ctx->arena, TimerfdEntry, timerfd_entry);
	struct timerfd_info ti;
	int r;

	if (!e)
		return log_err(-ENOMEM, "timerfd");
	r = timerfd_info_parse(f->fdinfo, &ti);
	if (r < 0)
		return log_err(r, "timerfd: fdinfo cannot be understood");
	r = timerfd_settle(ctx, f, &ti);
	if (r >= 0)
		r = ns_dump_moment(ctx, f->read_nsec, &e->read_nsec);
	if (r < 0)
		return r;
	e->has_read_nsec = true;
	e->id = f->id;
	e->flags = f->flags;
	e->clockid = ti.clockid;
	e->ticks = ti.ticks;
	e->settime_flags = ti.settime_flags;
	e->vsec = ti.value_sec;
	e->vnsec = ti.value_nsec;
	e->isec = ti.interval_sec;
	e->insec = ti.interval_nsec;
	f->fe->tfd = e;
	return dump_fown(ctx, f, &e->fown);
}

static int timerfd_restore(struct restore_ctx *ctx _unused_, struct restore_file *f, int *ret_fd)
{
	const TimerfdEntry *e = f->fe->tfd;
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (e->vnsec >= NSEC_PER_SEC || e->insec >= NSEC_PER_SEC ||
	    e->settime_flags & ~(uint32_t)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET))
		return log_fail(-EBADMSG, "times or flags are out of range");
	fd = timerfd_create((int)e->clockid, TFD_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot create a timerfd on clock %u", e->clockid);
	r = restore_flags_fown(fd, e->flags, e->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Without a real-time clock the alarm clocks cannot be read, but timers on them run (until a suspend). */
static clockid_t clock_readable(uint32_t clock)
{
	switch (clock) {
	case CLOCK_REALTIME_ALARM:
		return CLOCK_REALTIME;
	case CLOCK_BOOTTIME_ALARM:
		return CLOCK_BOOTTIME;
	default:
		return (clockid_t)clock;
	}
}

/* now: of its clock, if it was set to a moment of that. */
static int timerfd_arm(int fd, const TimerfdEntry *e, int64_t now, uint64_t left, uint64_t interval)
{
	const uint64_t last = e->settime_flags & TFD_TIMER_ABSTIME ? TIMER_MOMENT_LAST : INT64_MAX;
	const struct itimerspec its = {
		.it_interval = timer_timespec(interval),
		.it_value = timer_timespec(MIN(timer_sum(now, left), last)),
	};

	return timerfd_settime(fd, (int)e->settime_flags, &its, NULL) < 0 ? neg_errno() : 0;
}

/* *ret_left 0: it is off. */
static void left_now(struct restore_ctx *ctx, const TimerfdEntry *e, uint64_t interval, uint64_t *ret_left,
		     uint64_t *ret_ticks)
{
	uint64_t elapsed = e->has_read_nsec ? ns_restore_elapsed_since(ctx, e->read_nsec) : ns_restore_elapsed(ctx);

	*ret_left = timer_nsec(e->vsec, e->vnsec);
	*ret_ticks = e->ticks;
	/* Stopped until the next read, as an image may show a periodic timer that has run out. */
	if (!*ret_left && interval && e->ticks)
		*ret_left = interval;
	timer_advance(ret_left, interval, ret_ticks, elapsed);
}

static int timerfd_finish(struct restore_ctx *ctx, struct restore_file *f)
{
	const TimerfdEntry *e = f->fe->tfd;
	uint64_t left, ticks, interval = timer_nsec(e->isec, e->insec);
	int64_t begin, now = 0;
	unsigned int tries = 0;
	int r;

	do {
		begin = clock_nsec(CLOCK_MONOTONIC);
		left_now(ctx, e, interval, &left, &ticks);
		if (e->settime_flags & TFD_TIMER_ABSTIME)
			now = clock_nsec(clock_readable(e->clockid));
	} while (clock_held_up(begin, &tries));
	if (left) {
		r = timerfd_arm(f->fd, e, now, left, interval);
		if (r < 0)
			return log_err(r, "cannot arm it");
	}
	if (!ticks || !ioctl(f->fd, TFD_IOC_SET_TICKS, &ticks))
		return 0;
	/* A kernel without CONFIG_CHECKPOINT_RESTORE: what has run out may run out again. */
	r = neg_errno();
	if (r == -ENOTTY && !left)
		r = timerfd_arm(f->fd, e, now, 1, interval);
	if (r < 0)
		return log_err(r, "cannot set %llu unread expirations", (unsigned long long)ticks);
	return 0;
}

const struct kind kind_timerfd = {
	.name = "timerfd",
	.type = FD_TYPES__TIMERFD,
	.match = timerfd_match,
	.dump = timerfd_dump,
	.restore = timerfd_restore,
	.finish = timerfd_finish,
};
