/* Ids, groups, five capability sets, securebits, no_new_privs; a second thread with others. */
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

#include "second_common.h"

#ifndef CREDS_MAKER_NNP
#define CREDS_MAKER_NNP false
#endif

#define N_GROUPS 5
static const gid_t groups[N_GROUPS] = { 7, 1000, 1001, 65533, 4000000000u };
static const bool no_new_privs = CREDS_MAKER_NNP;

#define CAP(c) (1ull << (c))
static const uint64_t prm = CAP(CAP_CHOWN) | CAP(CAP_NET_BIND_SERVICE) | CAP(CAP_SETPCAP);
static const uint64_t eff = CAP(CAP_NET_BIND_SERVICE);
static const uint64_t inh = CAP(CAP_CHOWN) | CAP(CAP_NET_RAW);
static const uint64_t amb = CAP(CAP_CHOWN);

static unsigned int secbits(void)
{
	return SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
	       (maker_is_plain() ? 0 : SECBIT_NO_CAP_AMBIENT_RAISE);
}

static void capset_raw(uint64_t e, uint64_t p, uint64_t i)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)e, (uint32_t)p, (uint32_t)i },
		{ (uint32_t)(e >> 32), (uint32_t)(p >> 32), (uint32_t)(i >> 32) },
	};

	MAKER_MUST(!syscall(SYS_capset, &h, d));
}

static uint64_t cap_now(const char *set)
{
	return (uint64_t)maker_status(maker_tid(), set, 16);
}

static void leader_set_up(void)
{
	uint64_t all = cap_now("CapPrm");

	MAKER_MUST(!syscall(SYS_setgroups, N_GROUPS, groups));
	MAKER_MUST(!prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0));
	MAKER_MUST(!syscall(SYS_setresgid, 11, 12, 13));
	MAKER_MUST(!syscall(SYS_setresuid, 21, 22, 23));
	setfsgid(14);
	setfsuid(24);
	capset_raw(all, all, inh);
	MAKER_MUST(!prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
	MAKER_MUST(!prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE, 0, 0, 0));
	MAKER_MUST(!prctl(PR_CAPBSET_DROP, CAP_CHECKPOINT_RESTORE, 0, 0, 0));
	MAKER_MUST(!prctl(PR_SET_SECUREBITS, secbits(), 0, 0, 0));
	capset_raw(eff, prm, inh);
	if (no_new_privs)
		MAKER_MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MAKER_MUST(!prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static void leader_verify(void)
{
	gid_t have[64];
	uid_t r, e, s;

	MAKER_SAME("number of groups", syscall(SYS_getgroups, 64, have), N_GROUPS);
	for (int i = 0; i < N_GROUPS; i++)
		MAKER_SAME("group", have[i], groups[i]);
	syscall(SYS_getresuid, &r, &e, &s);
	MAKER_SAME("uid", r * 10000 + e * 100 + s, 212223);
	syscall(SYS_getresgid, &r, &e, &s);
	MAKER_SAME("gid", r * 10000 + e * 100 + s, 111213);
	MAKER_SAME("fsuid", setfsuid((uid_t)-1), 24);
	MAKER_SAME("fsgid", setfsgid((gid_t)-1), 14);
	MAKER_SAME("permitted", cap_now("CapPrm"), prm);
	MAKER_SAME("effective", cap_now("CapEff"), eff);
	MAKER_SAME("inheritable", cap_now("CapInh"), inh);
	MAKER_SAME("ambient", cap_now("CapAmb"), amb);
	MAKER_SAME("dropped from bounding",
		   cap_now("CapBnd") & (CAP(CAP_SYS_MODULE) | CAP(CAP_CHECKPOINT_RESTORE)), 0);
	MAKER_SAME("kept in bounding", cap_now("CapBnd") & CAP(CAP_NET_ADMIN), CAP(CAP_NET_ADMIN));
	MAKER_SAME("securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0), secbits());
	MAKER_SAME("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), no_new_privs);
	MAKER_SAME("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 1);
}

static void *second(void *arg)
{
	uid_t r, e, s;

	(void)arg;
	if (maker_sets_up())
		MAKER_MUST(!syscall(SYS_setresuid, 0, 31, 0));
	second_wait();
	syscall(SYS_getresuid, &r, &e, &s);
	MAKER_SAME("uid of the thread", r * 10000 + e * 100 + s, 3100);
	MAKER_SAME("effective set of the thread", cap_now("CapEff"), 0);
	MAKER_SAME("no_new_privs of the thread", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
	if (!cap_now("CapPrm"))
		maker_fail("the thread lost its permitted capabilities");
	return NULL;
}

int main(int argc, char **argv)
{

	maker_begin(argc, argv);
	second_begin(second);
	if (maker_sets_up())
		leader_set_up();
	maker_ready();
	maker_wait();
	second_end();
	leader_verify();
	maker_ok();
}
