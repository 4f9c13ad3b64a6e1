/* cr/kernel/status: /proc/PID/task/TID/status, recorded and hostile. */
#include <fcntl.h>

#include "kernel/status.h"
#include "unit.h"

/* Linux 6.18, shortened where nothing is read. */
static const char recorded[] =
	"Name:\ta\\nUid:\t1\n"
	"Umask:\t0027\n"
	"State:\tS (sleeping)\n"
	"Tgid:\t2557\n"
	"Ngid:\t0\n"
	"Pid:\t2559\n"
	"PPid:\t1\n"
	"TracerPid:\t712\n"
	"Uid:\t1000\t1001\t1002\t1003\n"
	"Gid:\t4294967294\t5\t6\t7\n"
	"FDSize:\t256\n"
	"Groups:\t4 24 1000 \n"
	"NStgid:\t2557\t1\n"
	"NSpid:\t2559\t3\n"
	"NSpgid:\t2557\t1\n"
	"NSsid:\t712\t0\n"
	"VmPeak:\t    3060 kB\n"
	"VmLck:\t    1024 kB\n"
	"Threads:\t2\n"
	"SigQ:\t0/96365\n"
	"SigPnd:\t0000000000000000\n"
	"ShdPnd:\t0000000000000200\n"
	"SigBlk:\tfffffffe7ffbfeff\n"
	"SigIgn:\t0000000000001010\n"
	"SigCgt:\t00000001800004ec\n"
	"CapInh:\t0000000000000001\n"
	"CapPrm:\t000001fffeffffff\n"
	"CapEff:\t0000000000000400\n"
	"CapBnd:\t000001ffffffffff\n"
	"CapAmb:\t0000000000000001\n"
	"NoNewPrivs:\t1\n"
	"Seccomp:\t2\n"
	"Seccomp_filters:\t22\n"
	"Cpus_allowed_list:\t0-1\n";

TEST("a status text is read field by field")
{
	struct proc_status st;

	ASSERT_OK(proc_status_parse(recorded, &st));
	ASSERT_EQ(st.state, 'S');
	ASSERT(st.has_umask);
	ASSERT_EQ(st.umask, 027);
	ASSERT_EQ(st.tgid, 2557);
	ASSERT_EQ(st.pid, 2559);
	ASSERT_EQ(st.ppid, 1);
	ASSERT_EQ(st.tracer_pid, 712);
	ASSERT_EQ(st.uid[0], 1000);
	ASSERT_EQ(st.uid[3], 1003);
	ASSERT_EQ(st.gid[0], 4294967294u);
	ASSERT_EQ(st.n_groups, 3);
	ASSERT_EQ(st.groups[2], 1000);
	ASSERT_EQ(st.ns_pid.n, 2);
	ASSERT_EQ(st.ns_pid.id[1], 3);
	ASSERT_EQ(st.ns_pgid.id[1], 1);
	ASSERT_EQ(st.ns_sid.n, 2);
	ASSERT_EQ(st.ns_sid.id[1], 0);
	ASSERT_EQ(st.locked_kib, 1024);
	ASSERT_EQ(st.threads, 2);
	ASSERT_EQ(st.shd_pnd, 0x200);
	ASSERT_EQ(st.sig_blk, 0xfffffffe7ffbfeffull);
	ASSERT_EQ(st.sig_ign, 0x1010);
	ASSERT_EQ(st.cap_prm, 0x1fffeffffffull);
	ASSERT_EQ(st.cap_eff, 0x400);
	ASSERT_EQ(st.cap_amb, 1);
	ASSERT_EQ(st.no_new_privs, 1);
	ASSERT_EQ(st.seccomp, 2);
	proc_status_done(&st);
}

TEST("our own status agrees with the system calls")
{
	struct proc_status st;
	int fd = open("/proc/self", O_PATH | O_DIRECTORY);

	ASSERT_OK(fd);
	ASSERT_OK(proc_status_read(fd, getpid(), &st));
	ASSERT_EQ(st.pid, getpid());
	ASSERT_EQ(st.ppid, getppid());
	ASSERT_EQ(st.uid[1], geteuid());
	ASSERT_EQ(st.n_groups, getgroups(0, NULL));
	proc_status_done(&st);
	ASSERT_EQ(proc_status_read(fd, 1 << 30, &st), -ENOENT);
	close(fd);
}

/* The recorded text with one piece of it replaced. */
static int parse_changed(const char *from, const char *to)
{
	char *text = malloc(sizeof(recorded) + strlen(to) + 1);
	const char *at = strstr(recorded, from);
	struct proc_status st;
	int r;

	ASSERT(text && at);
	sprintf(text, "%.*s%s%s", (int)(at - recorded), recorded, to, at + strlen(from));
	r = proc_status_parse(text, &st);
	if (r >= 0)
		proc_status_done(&st);
	free(text);
	return r;
}

TEST("numbers that are none or too large are refused")
{
	ASSERT_EQ(parse_changed("\t1000\t", "\t-1\t"), -EBADMSG);
	ASSERT_EQ(parse_changed("\t1000\t", "\t4294967296\t"), -EBADMSG);
	ASSERT_EQ(parse_changed("1000\t1001\t1002\t1003", "1000\t1001\t1002"), -EBADMSG);
	ASSERT_EQ(parse_changed("4 24 1000 ", "4 x 1000 "), -EBADMSG);
	ASSERT_EQ(parse_changed("4 24 1000 ", "4 99999999999999999999999999999999999 1"), -EBADMSG);
	ASSERT_EQ(parse_changed("Tgid:\t2557", "Tgid:\t2147483648"), -EBADMSG);
	ASSERT_EQ(parse_changed("Tgid:\t2557", "Tgid:\t"), -EBADMSG);
	ASSERT_EQ(parse_changed("0000000000000400", "1000000000000000400"), -EBADMSG);
	ASSERT_EQ(parse_changed("VmLck:\t    1024 kB", "VmLck:\t"), -EBADMSG);
	ASSERT_EQ(parse_changed("VmLck:\t    1024", "VmLck:\t18446744073709551616"), -EBADMSG);
	ASSERT_EQ(parse_changed("Umask:\t0027", "Umask:\t0028"), -EBADMSG);
	ASSERT_EQ(parse_changed("Umask:\t0027", "Umask:\t10000"), -EBADMSG);
	ASSERT_EQ(parse_changed("S (sleeping)", "Sleeping"), -EBADMSG);
	ASSERT_EQ(parse_changed("Groups:\t4 24 1000 \n", "Groups:\t4\nGroups:\t5\n"), -EBADMSG);
}

TEST("more pid namespaces than the kernel nests are refused")
{
	char many[512] = "NSpid:\t";

	for (int i = 0; i < STATUS_NS_MAX + 1; i++)
		strcat(many, "1\t");
	ASSERT_EQ(parse_changed("NSpid:\t2559\t3", many), -EBADMSG);
	memcpy(many, "NSsid", 5);
	ASSERT_EQ(parse_changed("NSsid:\t712\t0", many), -EBADMSG);
	ASSERT_EQ(parse_changed("NSpgid:\t2557\t1", "NSpgid:\t2557\tx"), -EBADMSG);
}

TEST("what an older kernel does not print may be missing, ids may not")
{
	ASSERT_OK(parse_changed("Seccomp:\t2\n", ""));
	ASSERT_OK(parse_changed("Umask:\t0027\n", ""));
	ASSERT_OK(parse_changed("4 24 1000 ", ""));
	ASSERT_EQ(parse_changed("Uid:\t1000\t1001\t1002\t1003\n", ""), -ENODATA);
	ASSERT_EQ(parse_changed("CapEff:\t0000000000000400\n", ""), -ENODATA);
	ASSERT_EQ(proc_status_parse("", &(struct proc_status){ 0 }), -ENODATA);
}
