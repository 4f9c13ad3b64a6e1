/* POSIX timers: what the kernel tells of them, and what restore makes of images that may be forged. */
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "ns/state.h"
#include "parts_fixture.h"
#include "task/posix_timers.h"
#include "util/timer.h"

#define SECOND	((int64_t)NSEC_PER_SEC)

static const char recorded_timers[] =
	"ID: 7\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n"
	"ID: 2\nsignal: 0/0000000000000000\nnotify: none/pid.2634\nClockID: 1\n"
	"ID: 5\nsignal: 34/0000000000000007\nnotify: signal/tid.2640\nClockID: -21070\n"
	"ID: 6\nsignal: 14/0000000000000007\nnotify: thread/pid.2634\nClockID: 7\n";

TEST("POSIX timers are read and sorted by id")
{
	struct posix_timer_line *l;
	size_t n;

	ASSERT_OK(posix_timers_parse(recorded_timers, &l, &n));
	ASSERT_EQ(n, 4);
	ASSERT_EQ(l[0].id, 2);
	ASSERT_EQ(l[0].notify, SIGEV_NONE);
	ASSERT_EQ(l[1].id, 5);
	ASSERT_EQ(l[1].notify, SIGEV_THREAD_ID);
	ASSERT_EQ(l[1].target, 2640);
	ASSERT_EQ(l[1].clock_id, -21070);
	ASSERT_EQ(l[2].notify, SIGEV_THREAD);
	ASSERT_EQ(l[3].signo, 60);
	ASSERT_EQ(l[3].sival, 0x7fff86e452a8ull);
	free(l);
	ASSERT_OK(posix_timers_parse("", &l, &n));
	ASSERT_EQ(n, 0);
	free(l);
}

TEST("damaged texts of POSIX timers are refused")
{
	static const char *const bad[] = {
		"ID: 7\n",
		"ID: 7",
		"ID: x\nsignal: 60/1\nnotify: signal/pid.1\nClockID: 0\n",
		"ID: 7\nsignal: 60\nnotify: signal/pid.1\nClockID: 0\n",
		"ID: 7\nsignal: 60/\nnotify: signal/pid.1\nClockID: 0\n",
		"ID: 7\nsignal: 60/1\nnotify: signal/xid.1\nClockID: 0\n",
		"ID: 7\nsignal: 60/1\nnotify: signal/pid.\nClockID: 0\n",
		"ID: 7\nsignal: 60/1\nClockID: 0\nnotify: signal/pid.1\n",
		"ID: 7\nsignal: 60/1\nnotify: signal/pid.1\nClockID: 99999999999\n",
		"ID: 7\nsignal: 60/1\nnotify: signal/pid.1\nClockID: 0\n"
		"ID: 7\nsignal: 60/1\nnotify: signal/pid.1\nClockID: 0\n",
		"ID: 7\nsignal: 60/1\nnotify: signal/pid.1\nClockID: 0\nID: 8",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct posix_timer_line *l;
		size_t n;

		ASSERT_EQ(posix_timers_parse(bad[i], &l, &n), -EBADMSG);
	}
}

static PosixTimerEntry timer;
static PosixTimerEntry *list[2] = { &timer };

static void fill_timer(PosixTimerEntry *e, uint32_t id)
{
	posix_timer_entry__init(e);
	e->it_id = id;
	e->it_sigev_notify = SIGEV_NONE;
}

/* One that sends a signal every ten seconds. */
static void periodic(void)
{
	fixture();
	fill_timer(&timer, 0);
	timer.it_sigev_notify = SIGEV_SIGNAL;
	timer.si_signo = SIGUSR1;
	timer.clock_id = CLOCK_MONOTONIC;
	timer.isec = 10;
	timer.vsec = 5;
}

static const struct batch_call *call(size_t n)
{
	return (const struct batch_call *)(f.remote.mirror + ZONE_CALLS_OFF) + n;
}

/* What timer_settime(2) is told, the batch's n-th call. */
static const struct itimerspec *spec(size_t n)
{
	ASSERT_EQ(call(n)->nr, SYS_timer_settime);
	return batch_data(&f.b, call(n)->arg[2]);
}

TEST("before Linux 6.15 timer ids are reached by creating and deleting, up to a bound")
{
	PosixTimerEntry other;

	fixture();
	list[1] = &other;
	fill_timer(&timer, 2);
	fill_timer(&other, 5);
	ASSERT_OK(posix_timers_create(&f.b, list, 2, false));
	/* 0, 1, 3, 4 are made and deleted; 2 and 5 made. */
	ASSERT_EQ(f.b.n_calls, 10);
	other.it_id = 2;
	ASSERT_EQ(posix_timers_create(&f.b, list, 2, false), -EBADMSG);
	other.it_id = 1000000;
	ASSERT_EQ(posix_timers_create(&f.b, list, 2, false), -EOPNOTSUPP);
	other.it_id = 0x80000000u;
	ASSERT_EQ(posix_timers_create(&f.b, list, 2, true), -EBADMSG);
	other.it_id = 2;
	ASSERT_EQ(posix_timers_create(&f.b, list, 2, true), -EBADMSG);
}

static int create(void)
{
	batch_begin(&f.b, &f.th.task);
	return posix_timers_create(&f.b, list, 1, true);
}

TEST("timers with impossible signals, times, threads or counts are refused")
{
	periodic();
	ASSERT_OK(create());
	timer.si_signo = 65;
	ASSERT_EQ(create(), -EBADMSG);
	timer.si_signo = 1;
	timer.it_sigev_notify = 3;
	ASSERT_EQ(create(), -EBADMSG);
	timer.it_sigev_notify = SIGEV_THREAD_ID;
	ASSERT_EQ(create(), -EBADMSG);
	timer.it_sigev_notify = SIGEV_SIGNAL;
	timer.vnsec = 1000000000;
	ASSERT_EQ(create(), -EBADMSG);
	timer.vnsec = 0;
	timer.isec = 1ull << 63;
	ASSERT_EQ(create(), -EBADMSG);
	timer.isec = 0;
	timer.overrun = INT32_MAX;
	ASSERT_OK(create());
	timer.overrun++;
	ASSERT_EQ(create(), -EBADMSG);
}

TEST("only a timer that has expired, as often as it can, has a signal that is pending")
{
	periodic();
	timer.has_expired = true;
	ASSERT_EQ(create(), -EBADMSG);
	timer.expired = UINT64_MAX;
	ASSERT_OK(create());
	timer.it_sigev_notify = SIGEV_NONE;
	ASSERT_EQ(create(), -EBADMSG);
	timer.it_sigev_notify = SIGEV_SIGNAL;
	timer.si_signo = SIGKILL;
	ASSERT_EQ(create(), -EBADMSG);
	timer.si_signo = SIGCONT;
	ASSERT_EQ(create(), -EBADMSG);
	timer.si_signo = SIGALRM;
	timer.isec = 0;
	ASSERT_EQ(create(), -EBADMSG);
	timer.expired = 1;
	ASSERT_EQ(create(), -EBADMSG);
	timer.vsec = 0;
	ASSERT_OK(create());
}

/* The batch's n-th call sets the timer to what was, a minute ago at most, so many seconds ahead of its clock. */
static void set_to_moment(size_t n, clockid_t clock, time_t ahead)
{
	struct timespec now;
	time_t is;

	clock_gettime(clock, &now);
	is = spec(n)->it_value.tv_sec - now.tv_sec;
	ASSERT_EQ(call(n)->arg[1], TIMER_ABSTIME);
	ASSERT(is <= ahead && is >= ahead - 60);
}

TEST("a timer is set to the moment when it expires, also if that is over, CPU time stands still")
{
	fixture();
	fill_timer(&timer, 0);
	timer.clock_id = CLOCK_MONOTONIC;
	timer.vsec = 1000;
	f.opts.clock_advance_nsec = 400 * SECOND;
	posix_timer_arm(&f.p, &f.b, &timer);
	set_to_moment(0, CLOCK_MONOTONIC, 600 + 1);
	timer.clock_id = CLOCK_BOOTTIME;
	posix_timer_arm(&f.p, &f.b, &timer);
	set_to_moment(1, CLOCK_BOOTTIME, 600 + 1);
	f.opts.clock_advance_nsec = 1003 * SECOND;
	posix_timer_arm(&f.p, &f.b, &timer);
	set_to_moment(2, CLOCK_BOOTTIME, -3 + 1);
	timer.clock_id = CLOCK_PROCESS_CPUTIME_ID;
	posix_timer_arm(&f.p, &f.b, &timer);
	ASSERT_EQ(call(3)->arg[1], 0);
	ASSERT_EQ(spec(3)->it_value.tv_sec, 1000);
}

TEST("a timer that never expires is set to no moment, which a time namespace's offset would wrap")
{
	static const struct {
		uint64_t sec;
		uint64_t flags;
	} cases[] = {
		{ 190ull * 365 * 86400 - 400, TIMER_ABSTIME }, { 193ull * 365 * 86400, 0 },
		{ 9223372036, 0 }, { INT64_MAX, 0 },
	};

	fixture();
	fill_timer(&timer, 0);
	timer.clock_id = CLOCK_BOOTTIME;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		timer.vsec = cases[i].sec;
		posix_timer_arm(&f.p, &f.b, &timer);
		ASSERT_EQ(call(i)->arg[1], cases[i].flags);
		ASSERT(spec(i)->it_value.tv_sec >= (time_t)MIN(cases[i].sec, 9223372036ull) - 60);
	}
}

TEST("a timer has since gone on from when it was read, not from when others were")
{
	struct ns_restore ns = { .has_clocks = true };
	TaskTimersEntry timers = TASK_TIMERS_ENTRY__INIT;

	fixture();
	f.ctx.ns_state = &ns;
	f.tc.timers = &timers;
	timers.has_read_nsec = true;
	timers.read_nsec = (uint64_t)(clock_nsec(CLOCK_MONOTONIC) - 100 * SECOND);
	fill_timer(&timer, 0);
	timer.clock_id = CLOCK_MONOTONIC;
	timer.vsec = 1000;
	posix_timer_arm(&f.p, &f.b, &timer);
	set_to_moment(0, CLOCK_MONOTONIC, 900 + 1);
	timer.has_read_nsec = true;
	timer.read_nsec = timers.read_nsec - 400 * SECOND;
	posix_timer_arm(&f.p, &f.b, &timer);
	set_to_moment(1, CLOCK_MONOTONIC, 500 + 1);
}

TEST("clocks are read again after an interruption, some times")
{
	const int64_t now = clock_nsec(CLOCK_MONOTONIC);
	unsigned int tries = 0, n = 0;

	ASSERT(!clock_held_up(now + SECOND, &tries));
	while (clock_held_up(now - SECOND, &tries) && n < 1000)
		n++;
	ASSERT(n > 1 && n < 100);
}

TEST("a timer of a clock that may be set is set to the time that it has left")
{
	fixture();
	fill_timer(&timer, 0);
	timer.clock_id = CLOCK_REALTIME;
	timer.vsec = 10;
	f.opts.clock_advance_nsec = 4 * SECOND;
	posix_timer_arm(&f.p, &f.b, &timer);
	ASSERT_EQ(call(0)->arg[1], 0);
	ASSERT_EQ(spec(0)->it_value.tv_sec, 6);
	/* It was set to a moment of that clock. */
	timer.has_at_moment = timer.at_moment = true;
	posix_timer_arm(&f.p, &f.b, &timer);
	set_to_moment(1, CLOCK_REALTIME, 6 + 1);
}

TEST("a timer expired first so many periods ago, by whole ones, but not before its clock began")
{
	ASSERT_EQ(timer_first(3, 10, 0, 100), 3);
	ASSERT_EQ(timer_first(3, 10, 2, 100), -17);
	ASSERT_EQ(timer_first(3, 10, 10, 100), -97);
	ASSERT_EQ(timer_first(3, 10, 11, 100), -97);
	ASSERT_EQ(timer_first(3, 10, UINT64_MAX, 100), -97);
	ASSERT_EQ(timer_first(3, 10, 1, 5), 3);
	ASSERT_EQ(timer_first(-95, 10, 0, 100), -95);
	ASSERT_EQ(timer_first(-95, 10, 3, 100), -95);
	/* It did so before the clock began. */
	ASSERT_EQ(timer_first(-105, 10, 0, 100), -95);
	ASSERT_EQ(timer_first(-110, 10, 3, 100), -100);
	ASSERT_EQ(timer_first(-105, 0, 0, 100), -100);
	ASSERT_EQ(timer_first(-105, 0, 7, 200), -105);
	/* And next before it began and after now. */
	ASSERT_EQ(timer_first(-20, 30, 0, 5), -5);
	ASSERT_EQ(timer_first(INT64_MAX, INT64_MAX, UINT64_MAX, INT64_MAX), -INT64_MAX + INT64_MAX);
	ASSERT_EQ(timer_first(-INT64_MAX, 1, 1, 1), -1);
	ASSERT_EQ(timer_first(-INT64_MAX, INT64_MAX, 1, 0), 0);
}

static SiginfoEntry pending = SIGINFO_ENTRY__INIT;
static siginfo_t info;

/* The timer's signal in the process's queue. */
static void queued(void)
{
	static TaskTimersEntry timers = TASK_TIMERS_ENTRY__INIT;
	static SignalQueueEntry q = SIGNAL_QUEUE_ENTRY__INIT;
	static SiginfoEntry *entries = &pending;

	periodic();
	timer.has_expired = true;
	timer.expired = 4;
	timers.posix = list;
	timers.n_posix = 1;
	f.tc.timers = &timers;
	info = (siginfo_t){ .si_signo = SIGUSR1, .si_code = SI_TIMER };
	pending.siginfo.data = (uint8_t *)&info;
	pending.siginfo.len = sizeof(info);
	q.signals = &entries;
	q.n_signals = 1;
	f.tc.signals_s = &q;
}

TEST("a pending signal is a timer's by its code, the timer's id and its number")
{
	queued();
	ASSERT(posix_timer_of(&f.p, &info) == &timer);
	info.si_timerid = -1;
	ASSERT(!posix_timer_of(&f.p, &info));
	info.si_timerid = 0;
	info.si_code = SI_QUEUE;
	ASSERT(!posix_timer_of(&f.p, &info));
	info.si_code = SI_TIMER;
	info.si_signo = SIGUSR2;
	ASSERT(!posix_timer_of(&f.p, &info));
	info.si_signo = SIGUSR1;
	timer.has_expired = false;
	ASSERT(!posix_timer_of(&f.p, &info));
}

TEST("a pending signal that the timer cannot send is queued, once, and the timer runs")
{
	queued();
	timer.clock_id = CLOCK_PROCESS_CPUTIME_ID;
	ASSERT_OK(restore(&part_posix_timers_run));
	ASSERT_EQ(f.b.n_calls, 0);
	ASSERT_OK(restore(&part_sigpending));
	ASSERT_EQ(f.b.n_calls, 2);
	ASSERT_EQ(spec(0)->it_value.tv_sec, 5);
	ASSERT_EQ(call(1)->nr, SYS_rt_sigqueueinfo);
	ASSERT_OK(restore(&part_sigpending));
	ASSERT_EQ(f.b.n_calls, 3);
	ASSERT_OK(part_posix_timers_run.finish(&f.ctx, &f.p, &f.th));
}

TEST("a timer whose pending signal is in no queue is refused")
{
	queued();
	info.si_timerid = 1;
	ASSERT_OK(restore(&part_posix_timers_run));
	ASSERT_OK(restore(&part_sigpending));
	ASSERT_EQ(part_posix_timers_run.finish(&f.ctx, &f.p, &f.th), -EBADMSG);
}

TEST("what a thread is signalled by is set by that thread, all else by the leader")
{
	struct restore_thread threads[2];
	uint32_t tids[2] = { 4711, 4712 };

	queued();
	timer.has_expired = false;
	threads[0] = threads[1] = f.th;
	f.p.threads = threads;
	f.p.n_threads = f.pst.n_threads = 2;
	f.pst.threads = tids;
	for (int i = 0; i < 2; i++)
		ASSERT_OK(part_posix_timers_run.restore_calls(&f.ctx, &f.p, &threads[i], &f.b));
	ASSERT_EQ(f.b.n_calls, 1);
	timer.it_sigev_notify = SIGEV_THREAD_ID;
	timer.has_notify_thread_id = true;
	timer.notify_thread_id = 4712;
	ASSERT_OK(part_posix_timers_run.restore_calls(&f.ctx, &f.p, &threads[0], &f.b));
	ASSERT_EQ(f.b.n_calls, 1);
	ASSERT_OK(part_posix_timers_run.restore_calls(&f.ctx, &f.p, &threads[1], &f.b));
	ASSERT_EQ(f.b.n_calls, 2);
	f.pst.n_threads = 1;
	ASSERT_EQ(part_posix_timers_run.restore_calls(&f.ctx, &f.p, &threads[1], &f.b), -EBADMSG);
}

static uint32_t make_timer(int signo, int64_t ago, int64_t interval)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = signo };
	struct itimerspec its = { .it_interval = timer_timespec((uint64_t)interval) };
	struct timespec now;
	int id;

	ASSERT_OK(clock_gettime(CLOCK_REALTIME, &now));
	ASSERT_OK(syscall(SYS_timer_create, CLOCK_REALTIME, &ev, &id));
	its.it_value = timer_timespec((uint64_t)(now.tv_sec * SECOND + now.tv_nsec - ago));
	ASSERT_OK(syscall(SYS_timer_settime, id, TIMER_ABSTIME, &its, NULL));
	return (uint32_t)id;
}

TEST("the running kernel's timers: whose signal is pending, and the periods since")
{
	_cleanup_peek_ struct peek *pk = NULL;
	struct posix_timer_line l[6] = { 0 };
	struct timespec none = { 0 };
	struct itimerspec its;
	sigset_t all, set;

	if (peek_open(&pk) < 0)
		unit_skip("this kernel's structures cannot be read");
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	l[0].id = make_timer(SIGRTMIN, 65 * SECOND, 10 * SECOND);	/* pending */
	l[1].id = make_timer(SIGRTMIN, -1000 * SECOND, 10 * SECOND);	/* runs */
	l[2].id = make_timer(SIGRTMIN, 1, 0);				/* pending, once */
	l[3].id = make_timer(SIGRTMIN + 1, 1, 10 * SECOND);		/* delivered */
	l[4].id = make_timer(SIGRTMIN, 1, 10 * SECOND);			/* set anew */
	l[5].id = l[4].id + 1;						/* gone */
	usleep(20000);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	ASSERT_EQ(sigtimedwait(&set, NULL, &none), SIGRTMIN + 1);
	its = (struct itimerspec){ .it_value = { 1000, 0 } };
	ASSERT_OK(syscall(SYS_timer_settime, l[4].id, 0, &its, NULL));
	/* This counts. */
	ASSERT_OK(syscall(SYS_timer_gettime, l[0].id, &its));
	ASSERT_OK(posix_timers_peek(pk, getpid(), l, ARRAY_SIZE(l)));
	ASSERT(l[0].pending && l[2].pending);
	ASSERT(!l[1].pending && !l[3].pending && !l[4].pending && !l[5].pending);
	ASSERT_EQ(l[0].periods, 7);
	ASSERT_EQ(l[2].periods, 0);
}
