/* Interrupted calls with a time-out: in registers, and in images that may be forged. */
#include <linux/futex.h>
#include <sys/syscall.h>

#include "remote/orphan.h"
#include "task/regs.h"
#include "unit.h"
#include "util/timer.h"

static CoreEntry core;
static ThreadCoreEntry thread;
static ThreadInfoX86 info;
static UserX86RegsEntry g;
static TimeoutEntry end;

static void fixture(uint64_t nr, uint64_t second_arg)
{
	log_init(LOGLEVEL_NONE, -1);
	core_entry__init(&core);
	thread_core_entry__init(&thread);
	thread_info_x86__init(&info);
	user_x86_regs_entry__init(&g);
	timeout_entry__init(&end);
	core.thread_core = &thread;
	core.thread_info = &info;
	info.gpregs = &g;
	thread.timeout = &end;
	end.clock = CLOCK_MONOTONIC;
	g.ax = g.orig_ax = nr;
	g.si = second_arg;
}

TEST("a time-out in an image belongs to a call that has one, by a clock that goes on")
{
	fixture(SYS_poll, 1);
	ASSERT_OK(timeout_check(&core));
	fixture(SYS_futex, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME);
	ASSERT_OK(timeout_check(&core));
	fixture(SYS_futex, FUTEX_WAKE);
	ASSERT_EQ(timeout_check(&core), -EBADMSG);
	fixture(SYS_execve, 0);
	ASSERT_EQ(timeout_check(&core), -EBADMSG);
	thread.timeout = NULL;
	ASSERT_OK(timeout_check(&core));
	core.thread_core = NULL;
	ASSERT_OK(timeout_check(&core));
	fixture(SYS_nanosleep, 0);
	end.clock = CLOCK_PROCESS_CPUTIME_ID;
	ASSERT_EQ(timeout_check(&core), -EBADMSG);
	end.clock = UINT32_MAX;
	ASSERT_EQ(timeout_check(&core), -EBADMSG);
}

TEST("a sum of a clock and a duration stays within what a clock can show")
{
	ASSERT_EQ(timer_sum(5, 6), 11);
	ASSERT_EQ(timer_sum(-5, 6), 1);
	ASSERT_EQ(timer_sum(-7, 6), 0);
	ASSERT_EQ(timer_sum(1, INT64_MAX), INT64_MAX);
	ASSERT_EQ(timer_sum(-1, UINT64_MAX), INT64_MAX);
}

static struct user_regs_struct sleeping(uint64_t nr)
{
	return (struct user_regs_struct){ .rip = 0x1002, .rax = (uint64_t)-K_ERESTART_RESTARTBLOCK, .orig_rax = nr,
					  .rdi = 0x2000, .rsi = 0x3000 };
}

TEST("a sleep is repeated with what is left, unless its end is told elsewhere")
{
	struct user_regs_struct regs = sleeping(SYS_nanosleep);

	arch_regs_repeat_call(&regs, false);
	ASSERT_EQ(regs.rip, 0x1000);
	ASSERT_EQ(regs.rax, SYS_nanosleep);
	ASSERT_EQ(regs.rdi, 0x3000);
	regs = sleeping(SYS_nanosleep);
	arch_regs_repeat_call(&regs, true);
	ASSERT_EQ(regs.rip, 0x1000);
	ASSERT_EQ(regs.rdi, 0x2000);
}

TEST("a call that nobody knows any more ends with EINTR")
{
	struct user_regs_struct regs = sleeping(SYS_restart_syscall);

	arch_regs_repeat_call(&regs, false);
	ASSERT_EQ(regs.rip, 0x1002);
	ASSERT_EQ((int64_t)regs.rax, -EINTR);
}

TEST("whose engine is killed goes on with its call as the kernel does")
{
	const uint64_t calls[] = { SYS_nanosleep, SYS_restart_syscall };

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct user_regs_struct regs = sleeping(calls[i]);
		struct orphan_save s;

		arch_orphan_save(&s, &regs);
		ASSERT_EQ(s.rip, 0x1000);
		ASSERT_EQ(s.rax, SYS_restart_syscall);
		ASSERT_EQ(s.rdi, 0x2000);
	}
}
