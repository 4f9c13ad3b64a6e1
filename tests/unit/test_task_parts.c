/* cr/task: parsers, and what restore makes of damaged images. No task is needed for either. */
#include <linux/filter.h>
#include <sys/time.h>
#include <time.h>

#include "ns/state.h"
#include "parts_fixture.h"

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

TEST("syscall user dispatch of another mode, without a selector, or with a range that is none is refused")
{
	static const struct {
		uint32_t mode;
		uint64_t selector, offset, len;
		int result;
	} cases[] = {
		{ 1, 0x1000, 0, 0, 0 }, { 1, 0x1000, 0x2000, 5, 0 }, { 2, 0x1000, 0x2000, 5, 0 },
		{ 1, 0x1000, 0, UINT64_MAX, 0 }, { 2, 0x1000, 0, 5, 0 },
		{ 0, 0x1000, 0, 0, -EBADMSG }, { 3, 0x1000, 0x2000, 5, -EBADMSG },
		{ UINT32_MAX, 0x1000, 0x2000, 5, -EBADMSG },
		{ 1, 0, 0, 0, -EBADMSG }, { 1, 0x7ffffffff000, 0, 0, -EBADMSG }, { 1, UINT64_MAX, 0, 0, -EBADMSG },
		{ 1, 0x1000, 0x2000, 0, -EBADMSG }, { 2, 0x1000, 0, 0, -EBADMSG },
		{ 1, 0x1000, UINT64_MAX, 1, -EBADMSG }, { 1, 0x1000, 1, UINT64_MAX, -EBADMSG },
		{ 2, 0x1000, 0x2000, UINT64_MAX - 0x1000, -EBADMSG },
	};
	ThreadTraitsEntry traits = THREAD_TRAITS_ENTRY__INIT;
	SyscallDispatchEntry e = SYSCALL_DISPATCH_ENTRY__INIT;

	fixture();
	f.thc.traits = &traits;
	ASSERT_OK(restore(&part_dispatch));
	traits.dispatch = &e;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		e.mode = cases[i].mode;
		e.selector = cases[i].selector;
		e.offset = cases[i].offset;
		e.len = cases[i].len;
		ASSERT_EQ(restore(&part_dispatch), cases[i].result);
	}
	/* A check, no more. */
	ASSERT_EQ(f.b.n_calls, 0);
}

TEST("a kernel without core dumps takes no filter for them, and the process without it")
{
	MmEntry mm = MM_ENTRY__INIT;

	fixture();
	/* Nobody's, so that the file is not there. */
	f.th.task.tid = INT32_MAX;
	f.p.mm = &mm;
	mm.has_coredump_filter = true;
	mm.coredump_filter = 0x1ff;
	ASSERT_OK(restore(&part_proc_scores));
	f.p.mm = NULL;
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
