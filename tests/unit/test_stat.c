/* cr/kernel/stat: /proc/PID/stat, recorded and hostile. */
#include <sys/sysmacros.h>

#include "kernel/stat.h"
#include "unit.h"

/* Linux 6.18: a zombie that ended with status 5; on /dev/pts/300. */
#define RECORDED " Z 9020 9019 9018 1083436 9017 4228428 24 0 0 0 0 0 0 0 20 0 3 0 2855532 0 0 " \
	"18446744073709551615 0 0 0 0 0 0 0 4096 1088 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 1280\n"

TEST("a stat line is read field by field, behind any name")
{
	struct proc_stat st;

	ASSERT_OK(proc_stat_parse("9032 (main) R 1 (t)h" ")" RECORDED, &st));
	ASSERT_STREQ(st.comm, "main) R 1 (t)h");
	ASSERT_EQ(st.state, 'Z');
	ASSERT_EQ(st.ppid, 9020);
	ASSERT_EQ(st.pgrp, 9019);
	ASSERT_EQ(st.session, 9018);
	ASSERT_EQ(st.tty, makedev(136, 300));
	ASSERT_EQ(st.tty_pgrp, 9017);
	ASSERT_EQ(st.flags, 4228428u);
	ASSERT_EQ(st.n_threads, 3u);
	ASSERT_EQ(st.exit_signal, 17);
	ASSERT_EQ(st.exit_code, 1280u);
	ASSERT_OK(proc_stat_parse("1 (a name that is far too long)" RECORDED, &st));
	ASSERT_STREQ(st.comm, "a name that is ");
}

TEST("our own stat line is understood")
{
	struct proc_stat st;

	ASSERT_OK(proc_stat_of(getpid(), &st));
	ASSERT_EQ(st.ppid, getppid());
	ASSERT_EQ(st.pgrp, getpgrp());
	ASSERT_EQ(st.session, getsid(0));
	ASSERT_EQ(st.n_threads, 1u);
	ASSERT_EQ(proc_stat_of(INT32_MAX, &st), -ENOENT);
}

TEST("what is no stat line is refused")
{
	static const char *const bad[] = { "", "1", "1 (a", "1 a)", ")(", "1 (a)", "1 (a) ", "1 (a) S",
					   "1 (a) S 2 3 4\n", "1 (a) S\n2 3", "1 (a)  S 2" };
	struct proc_stat st;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ASSERT_EQ(proc_stat_parse(bad[i], &st), -EBADMSG);
}
