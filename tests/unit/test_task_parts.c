/* cr/task: parsers, and what restore makes of damaged images. No task is needed for either. */
#include <linux/filter.h>
#include <sys/time.h>
#include <time.h>

#include "ns/state.h"
#include "task/parts.h"
#include "unit.h"

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

static const char *stripped(const char *label)
{
	static char buf[128];

	snprintf(buf, sizeof(buf), "%s", label);
	lsm_label_strip(buf);
	return buf;
}

TEST("a security label loses mode and newline, unconfined is none")
{
	ASSERT_STREQ(stripped("unconfined\n"), "");
	ASSERT_STREQ(stripped("/usr/bin/redis-server (enforce)\n"), "/usr/bin/redis-server");
	ASSERT_STREQ(stripped("a (b) c (complain)\n"), "a (b) c");
	ASSERT_STREQ(stripped("system_u:system_r:httpd_t:s0"), "system_u:system_r:httpd_t:s0");
	ASSERT_STREQ(stripped("(enforce)"), "(enforce)");
	ASSERT_STREQ(stripped(""), "");
}

/* A thread that exists in our own memory only: batches are built, never run. */
static struct {
	struct restore_ctx ctx;
	struct restore_process p;
	struct restore_thread th;
	struct remote remote;
	struct batch b;
	struct cr_opts opts;
	CoreEntry core;
	TaskCoreEntry tc;
	ThreadCoreEntry thc;
	PstreeEntry pst;
	uint32_t tid;
} f;

static void fixture(void)
{
	log_init(LOGLEVEL_NONE, -1);
	arena_init(&f.ctx.arena);
	core_entry__init(&f.core);
	task_core_entry__init(&f.tc);
	thread_core_entry__init(&f.thc);
	pstree_entry__init(&f.pst);
	f.remote.mirror = calloc(1, ZONE_BYTES);
	ASSERT(f.remote.mirror);
	f.remote.zone = 0x10000000;
	f.th.task.tid = f.tid = 4711;
	f.th.task.remote = &f.remote;
	f.th.core = &f.core;
	f.core.tc = &f.tc;
	f.core.thread_core = &f.thc;
	f.tc.comm = (char *)"x";
	f.pst.pid = 4711;
	f.pst.threads = &f.tid;
	f.pst.n_threads = 1;
	f.ctx.opts = &f.opts;
	f.p.ctx = &f.ctx;
	f.p.threads = &f.th;
	f.p.n_threads = 1;
	f.p.core = &f.core;
	f.p.pst = &f.pst;
	batch_begin(&f.b, &f.th.task);
}

static int restore(const struct task_part *part)
{
	return part->restore_calls(&f.ctx, &f.p, &f.th, &f.b);
}

TEST("an empty core is restored by every part without a complaint")
{
	fixture();
	for (size_t i = 0; task_parts[i]; i++)
		if (task_parts[i]->restore_calls)
			ASSERT_OK(restore(task_parts[i]));
}

TEST("names that are too long, policies and priorities out of range are refused")
{
	fixture();
	f.tc.comm = (char *)"sixteen-letters!";
	ASSERT_EQ(restore(&part_names), -EBADMSG);
	f.thc.has_sched_policy = true;
	f.thc.sched_policy = 6;
	ASSERT_EQ(restore(&part_sched), -EBADMSG);
	f.thc.sched_policy = 1;
	f.thc.has_sched_prio = true;
	f.thc.sched_prio = 100;
	ASSERT_EQ(restore(&part_sched), -EBADMSG);
	f.thc.sched_policy = 0;
	f.thc.has_sched_nice = true;
	f.thc.sched_nice = -21;
	ASSERT_EQ(restore(&part_sched), -EBADMSG);
	f.thc.sched_nice = -20;
	ASSERT_OK(restore(&part_sched));
}

TEST("what a thread cannot have set for itself is refused")
{
	ThreadTraitsEntry e = THREAD_TRAITS_ENTRY__INIT;

	fixture();
	f.thc.traits = &e;
	ASSERT_OK(restore(&part_thread_traits));
	e.has_io_priority = true;
	e.io_priority = 1 << 16;
	ASSERT_EQ(restore(&part_thread_traits), -EBADMSG);
	e.has_io_priority = false;
	e.io_priority = 0;
	/* That may be anything. */
	e.timer_slack_nsec = UINT64_MAX;
	ASSERT_OK(restore(&part_thread_traits));
	e.has_tsc = true;
	ASSERT_EQ(restore(&part_thread_traits), -EBADMSG);
	e.has_tsc = false;
	e.has_mce_kill = true;
	e.mce_kill = 3;
	ASSERT_EQ(restore(&part_thread_traits), -EBADMSG);
	e.has_mce_kill = false;
	e.spec_store_bypass = 3;
	ASSERT_EQ(restore(&part_thread_traits), -EBADMSG);
	e.spec_store_bypass = 0;
	e.has_personality = true;
	e.personality = UINT32_MAX;
	ASSERT_EQ(restore(&part_thread_traits), -EBADMSG);
	e.personality = 0x0400000;
	ASSERT_OK(restore(&part_thread_traits));
}

TEST("signal actions are 62 or none")
{
	SaEntry sa = SA_ENTRY__INIT, *list[64];

	fixture();
	for (int i = 0; i < 64; i++)
		list[i] = &sa;
	f.tc.sigactions = list;
	f.tc.n_sigactions = 61;
	ASSERT_EQ(restore(&part_sigactions), -EBADMSG);
	f.tc.n_sigactions = 64;
	ASSERT_EQ(restore(&part_sigactions), -EBADMSG);
	f.tc.n_sigactions = 62;
	ASSERT_OK(restore(&part_sigactions));
	sa.has_compat_sigaction = sa.compat_sigaction = true;
	ASSERT_EQ(restore(&part_sigactions), -EOPNOTSUPP);
}

TEST("a pending signal that is none, deadly or cut short is refused")
{
	SiginfoEntry e = SIGINFO_ENTRY__INIT, *list = &e;
	SignalQueueEntry q = SIGNAL_QUEUE_ENTRY__INIT;
	int32_t info[32] = { SIGTERM };

	fixture();
	e.siginfo.data = (uint8_t *)info;
	e.siginfo.len = sizeof(info);
	q.signals = &list;
	q.n_signals = 1;
	f.thc.signals_p = &q;
	ASSERT_OK(restore(&part_sigpending));
	ASSERT_EQ(f.b.n_calls, 1);
	info[0] = SIGKILL;
	ASSERT_EQ(restore(&part_sigpending), -EBADMSG);
	info[0] = 65;
	ASSERT_EQ(restore(&part_sigpending), -EBADMSG);
	info[0] = 0;
	ASSERT_EQ(restore(&part_sigpending), -EBADMSG);
	info[0] = SIGTERM;
	e.siginfo.len = 127;
	ASSERT_EQ(restore(&part_sigpending), -EBADMSG);
}

TEST("limits: more than sixteen, or soft above hard, are refused")
{
	RlimitEntry one = RLIMIT_ENTRY__INIT, *list[17];
	TaskRlimitsEntry e = TASK_RLIMITS_ENTRY__INIT;

	fixture();
	for (int i = 0; i < 17; i++)
		list[i] = &one;
	e.rlimits = list;
	e.n_rlimits = 17;
	f.tc.rlimits = &e;
	ASSERT_EQ(restore(&part_rlimits), -EBADMSG);
	e.n_rlimits = 16;
	ASSERT_OK(restore(&part_rlimits));
	one.cur = 1;
	ASSERT_EQ(restore(&part_rlimits), -EBADMSG);
}

static void fill_timer(PosixTimerEntry *e, uint32_t id)
{
	posix_timer_entry__init(e);
	e->it_id = id;
	e->it_sigev_notify = SIGEV_NONE;
}

/* The n-th timer's timer_settime(2). */
static const struct batch_call *settime(size_t n)
{
	const struct batch_call *c = (const void *)(f.remote.mirror + ZONE_CALLS_OFF);

	return &c[2 * n + 1];
}

TEST("before Linux 6.15 timer ids are reached by creating and deleting, up to a bound")
{
	PosixTimerEntry t[2], *list[2] = { &t[0], &t[1] };

	fixture();
	fill_timer(&t[0], 2);
	fill_timer(&t[1], 5);
	ASSERT_OK(posix_timers_restore(&f.ctx, &f.b, list, 2, false));
	/* 0, 1, 3, 4 are made and deleted; 2 and 5 made and set. */
	ASSERT_EQ(f.b.n_calls, 12);
	t[1].it_id = 2;
	ASSERT_EQ(posix_timers_restore(&f.ctx, &f.b, list, 2, false), -EBADMSG);
	t[1].it_id = 1000000;
	ASSERT_EQ(posix_timers_restore(&f.ctx, &f.b, list, 2, false), -EOPNOTSUPP);
	t[1].it_id = 0x80000000u;
	ASSERT_EQ(posix_timers_restore(&f.ctx, &f.b, list, 2, true), -EBADMSG);
}

TEST("timers with impossible signals, times or threads are refused")
{
	PosixTimerEntry t, *list = &t;

	fixture();
	fill_timer(&t, 0);
	t.it_sigev_notify = SIGEV_SIGNAL;
	t.si_signo = 65;
	ASSERT_EQ(posix_timers_restore(&f.ctx, &f.b, &list, 1, true), -EBADMSG);
	t.si_signo = 1;
	t.it_sigev_notify = 3;
	ASSERT_EQ(posix_timers_restore(&f.ctx, &f.b, &list, 1, true), -EBADMSG);
	t.it_sigev_notify = SIGEV_THREAD_ID;
	ASSERT_EQ(posix_timers_restore(&f.ctx, &f.b, &list, 1, true), -EBADMSG);
	t.it_sigev_notify = SIGEV_SIGNAL;
	t.vnsec = 1000000000;
	ASSERT_EQ(posix_timers_restore(&f.ctx, &f.b, &list, 1, true), -EBADMSG);
	t.vnsec = 0;
	t.isec = 1ull << 63;
	ASSERT_EQ(posix_timers_restore(&f.ctx, &f.b, &list, 1, true), -EBADMSG);
}

TEST("a timer that ran out while the tree was away is set to that moment, CPU time stands still")
{
	PosixTimerEntry t, *list = &t;
	const struct itimerspec *its;
	struct timespec now;

	fixture();
	fill_timer(&t, 0);
	t.clock_id = CLOCK_MONOTONIC;
	t.vsec = 10;
	f.opts.clock_advance_nsec = 4000000000;
	ASSERT_OK(posix_timers_restore(&f.ctx, &f.b, &list, 1, false));
	its = (const void *)(f.remote.mirror + (settime(0)->arg[2] - f.remote.zone));
	ASSERT_EQ(settime(0)->arg[1], 0);
	ASSERT_EQ(its->it_value.tv_sec, 6);
	f.opts.clock_advance_nsec = 13000000000;
	ASSERT_OK(posix_timers_restore(&f.ctx, &f.b, &list, 1, false));
	its = (const void *)(f.remote.mirror + (settime(1)->arg[2] - f.remote.zone));
	ASSERT_EQ(settime(1)->arg[1], TIMER_ABSTIME);
	clock_gettime(CLOCK_MONOTONIC, &now);
	ASSERT(its->it_value.tv_sec >= now.tv_sec - 60 && its->it_value.tv_sec <= now.tv_sec - 3);
	t.clock_id = CLOCK_PROCESS_CPUTIME_ID;
	ASSERT_OK(posix_timers_restore(&f.ctx, &f.b, &list, 1, false));
	its = (const void *)(f.remote.mirror + (settime(2)->arg[2] - f.remote.zone));
	ASSERT_EQ(settime(2)->arg[1], 0);
	ASSERT_EQ(its->it_value.tv_sec, 10);
}

static CredsEntry creds;
static uint32_t words[3];

static int restore_creds(void)
{
	f.thc.creds = &creds;
	return restore(&part_creds);
}

TEST("credentials: capability sets that contradict each other or are too long are refused")
{
	fixture();
	creds_entry__init(&creds);
	ASSERT_OK(restore_creds());
	creds.cap_eff = words;
	creds.n_cap_eff = 3;
	ASSERT_EQ(restore_creds(), -EBADMSG);
	creds.n_cap_eff = 2;
	words[0] = 1;	/* effective, not permitted */
	ASSERT_EQ(restore_creds(), -EBADMSG);
	creds.n_cap_eff = 0;
	creds.cap_amb = words;
	creds.n_cap_amb = 2;
	ASSERT_EQ(restore_creds(), -EBADMSG);
	creds.n_cap_amb = 0;
	creds.secbits = 0x100;
	ASSERT_EQ(restore_creds(), -EBADMSG);
	creds.secbits = 0;
	creds.suid = UINT32_MAX;	/* setresuid() would take it for "keep" */
	ASSERT_EQ(restore_creds(), -EBADMSG);
	creds.suid = 0;
	creds.n_groups = 65537;
	ASSERT_EQ(restore_creds(), -EBADMSG);
}

static SeccompFilter filters[3], *filter_list[3] = { &filters[0], &filters[1], &filters[2] };
static SeccompEntry seccomp;
static uint8_t code[8 * (BPF_MAXINSNS + 1)];

static void seccomp_fixture(void)
{
	fixture();
	seccomp_entry__init(&seccomp);
	seccomp.seccomp_filters = filter_list;
	seccomp.n_seccomp_filters = 3;
	for (int i = 0; i < 3; i++) {
		seccomp_filter__init(&filters[i]);
		filters[i].filter.data = code;
		filters[i].filter.len = 16;
	}
	f.ctx.seccomp = &seccomp;
	f.thc.has_seccomp_mode = true;
	f.thc.seccomp_mode = SECCOMP_MODE__filter;
	f.thc.has_seccomp_filter = true;
}

TEST("a chain of seccomp filters is followed to its newest")
{
	seccomp_fixture();
	f.thc.seccomp_filter = 2;
	filters[2].has_prev = true;
	filters[2].prev = 0;
	ASSERT_OK(restore(&part_seccomp_last));
	ASSERT_EQ(f.b.n_calls, 2);
	ASSERT_OK(restore(&part_seccomp_early));
	ASSERT_EQ(f.b.n_calls, 2);
}

TEST("seccomp chains without end or with a missing filter are refused")
{
	seccomp_fixture();
	filters[0].has_prev = filters[1].has_prev = true;
	filters[0].prev = 1;
	filters[1].prev = 0;
	ASSERT_EQ(restore(&part_seccomp_last), -EBADMSG);
	filters[1].prev = 3;
	ASSERT_EQ(restore(&part_seccomp_last), -EBADMSG);
	f.thc.seccomp_filter = UINT32_MAX;
	ASSERT_EQ(restore(&part_seccomp_last), -EBADMSG);
	f.thc.has_seccomp_filter = false;
	ASSERT_EQ(restore(&part_seccomp_last), -EBADMSG);
}

TEST("seccomp filters of odd length, too long or with unknown flags are refused")
{
	seccomp_fixture();
	filters[0].filter.len = 15;
	ASSERT_EQ(restore(&part_seccomp_last), -EBADMSG);
	filters[0].filter.len = 0;
	ASSERT_EQ(restore(&part_seccomp_last), -EBADMSG);
	filters[0].filter.len = sizeof(code);
	ASSERT_EQ(restore(&part_seccomp_last), -EBADMSG);
	filters[0].filter.len = 16;
	filters[0].has_flags = true;
	filters[0].flags = 8;	/* NEW_LISTENER: would leave a descriptor in the task */
	ASSERT_EQ(restore(&part_seccomp_last), -EBADMSG);
}

TEST("an ignored SIGTRAP is reported for the core to set")
{
	SaEntry dfl = SA_ENTRY__INIT, ign = SA_ENTRY__INIT, *list[62];
	struct kernel_sigaction ks;

	fixture();
	ign.sigaction = 1;
	for (int i = 0; i < 62; i++)
		list[i] = &dfl;
	f.tc.sigactions = list;
	f.tc.n_sigactions = 62;
	ASSERT(!sigactions_trap_ignored(&f.core, &ks));
	list[SIGTRAP - 1] = &ign;
	ASSERT(sigactions_trap_ignored(&f.core, &ks));
	ASSERT_EQ(ks.handler, 1);
}

TEST("the real interval timer has run since it was read, by the tree's clock")
{
	TaskTimersEntry timers = TASK_TIMERS_ENTRY__INIT;
	ItimerEntry it = ITIMER_ENTRY__INIT;
	struct ns_restore ns = { .has_clocks = true };
	const struct itimerval *v;
	struct timespec now;

	fixture();
	clock_gettime(CLOCK_MONOTONIC, &now);
	/* The tree's is ahead of ours, and showed less at the dump. */
	ns.ahead.monotonic_nsec = 1000000000000;
	ns.monotonic_at_dump_nsec = (now.tv_sec + 1000 - 3) * 1000000000;
	timers.has_read_nsec = true;
	timers.read_nsec = (uint64_t)(now.tv_sec + 1000 - 50) * 1000000000;
	it.vsec = 1000;
	timers.real = &it;
	f.tc.timers = &timers;
	f.ctx.ns_state = &ns;
	ASSERT_OK(restore(&part_itimers));
	v = batch_data(&f.b, ((const struct batch_call *)(f.remote.mirror + ZONE_CALLS_OFF))->arg[1]);
	ASSERT(v->it_value.tv_sec <= 950 && v->it_value.tv_sec > 900);
}

TEST("other parts refuse what no kernel writes")
{
	ThreadSasEntry sas = THREAD_SAS_ENTRY__INIT;
	TaskTimersEntry timers = TASK_TIMERS_ENTRY__INIT;
	ItimerEntry it = ITIMER_ENTRY__INIT;

	fixture();
	sas.ss_flags = 4;
	f.thc.sas = &sas;
	ASSERT_EQ(restore(&part_altstack), -EBADMSG);
	f.thc.futex_rla_len = 23;
	ASSERT_EQ(restore(&part_robust_list), -EBADMSG);
	it.vusec = 1000000;
	timers.virt = &it;
	f.tc.timers = &timers;
	ASSERT_EQ(restore(&part_itimers), -EBADMSG);
	f.thc.has_pdeath_sig = true;
	f.thc.pdeath_sig = 65;
	ASSERT_EQ(restore(&part_pdeath_dumpable), -EBADMSG);
	f.tc.has_membarrier_registration_mask = true;
	f.tc.membarrier_registration_mask = 1u << 31;
	ASSERT_EQ(restore(&part_membarrier), -EBADMSG);
	f.tc.has_oom_score_adj = true;
	f.tc.oom_score_adj = -1001;
	ASSERT_EQ(restore(&part_proc_scores), -EBADMSG);
}

TEST("a list of processors is counted")
{
	ASSERT_EQ(cpu_list_count("0-3,8\n"), 5u);
	ASSERT_EQ(cpu_list_count("7"), 1u);
	ASSERT_EQ(cpu_list_count("0-1,3-4,6\n"), 5u);
	ASSERT_EQ(cpu_list_count(""), 0u);
	ASSERT_EQ(cpu_list_count("\n"), 0u);
	ASSERT_EQ(cpu_list_count("x"), 0u);
	ASSERT_EQ(cpu_list_count("3-1"), 0u);
	ASSERT_EQ(cpu_list_count("0-4294967295"), 0u);
}
