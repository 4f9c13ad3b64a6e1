/*
 * What an area of memory can be beside its contents: guard pages, sealed, locked, locked on fault,
 * with a protection key, a NUMA policy, a name, advice; growing stacks; and what the process
 * as a whole has set: mlockall(), merging, memory-deny-write-execute, its own NUMA policy. A child
 * differs in all of it. What the kernel does not have is left out, and said.
 *
 * processor: max
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <linux/mempolicy.h>

#include "maker.h"

#define PAGES		64
#define BYTES		(PAGES * 4096ul)
#define GUARD_INSTALL	102
#define GUARD_REMOVE	103
#define NR_MSEAL	462

enum { PLAIN, GUARDED, SEALED, LOCKED, ON_FAULT, KEYED, POLICY, NAMED, HUGE, NO_HUGE, WIPE, NO_DUMP,
       NO_FORK, MERGE, RANDOM, STACK, SHARED_GUARD, AREAS };
static char *area[AREAS];
static char before[AREAS][512], after[AREAS][512];
static int pkey = -1, policy_mode, mdwe;
static unsigned long policy_nodes;

static void leave_out(const char *what)
{
	printf("not here: %s: %s\n", what, strerror(errno));
	fflush(stdout);
}

/* Name, protection key and VmFlags of the area at addr, as smaps has them. */
static void describe(const char *addr, char *ret)
{
	char line[1024];
	bool here = false;
	FILE *f = fopen("/proc/self/smaps", "r");

	MAKER_MUST(f);
	*ret = '\0';
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx %*4s %*x", &start, &end) == 2) {
			here = start <= (unsigned long)addr && (unsigned long)addr < end;
			if (here)
				strcat(ret, strchr(line, '[') ? strchr(line, '[') : "\n");
		} else if (here && (!strncmp(line, "VmFlags", 7) || !strncmp(line, "Protection", 10))) {
			strcat(ret, line);
		}
	}
	fclose(f);
}

static bool faults(const char *p)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		_exit(*(volatile const char *)p);
	}
	MAKER_MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void make_areas(void)
{
	for (int i = 0; i < AREAS; i++) {
		int flags = MAP_ANONYMOUS | (i == SHARED_GUARD ? MAP_SHARED : MAP_PRIVATE);

		/* With room between, or the kernel merges those that are alike. */
		char *room = mmap(NULL, BYTES * 3, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (i == STACK)
			flags |= MAP_GROWSDOWN;
		area[i] = mmap(room + BYTES, BYTES, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0);
		MAKER_MUST(area[i] != MAP_FAILED);
		if (i != ON_FAULT)
			memset(area[i], i + 1, BYTES);
	}
}

static void set_areas(void)
{
	if (madvise(area[GUARDED] + 4096, 8192, GUARD_INSTALL) ||
	    madvise(area[GUARDED] + 10 * 4096, 4096, GUARD_INSTALL))
		leave_out("guard pages");
	if (madvise(area[SHARED_GUARD] + 3 * 4096, 4096, GUARD_INSTALL))
		leave_out("guard pages in shared memory");
	MAKER_MUST(!mlock(area[LOCKED], BYTES));
	MAKER_MUST(!syscall(SYS_mlock2, area[ON_FAULT], BYTES, 1));
	area[ON_FAULT][0] = 1;
	pkey = (int)syscall(SYS_pkey_alloc, 0, 0);
	if (pkey < 0) {
		leave_out("protection keys");
	} else {
		/* The lower one is given back: what is restored is not simply the first. */
		int higher = (int)syscall(SYS_pkey_alloc, 0, 0);

		MAKER_MUST(higher > 0 && !syscall(SYS_pkey_free, pkey));
		pkey = higher;
		MAKER_MUST(!syscall(SYS_pkey_mprotect, area[KEYED], BYTES, PROT_READ | PROT_WRITE, pkey));
	}
	if (syscall(SYS_mbind, area[POLICY], BYTES, MPOL_BIND | MPOL_F_STATIC_NODES,
		    &(unsigned long){ 1 }, 64, 0))
		leave_out("NUMA policies");
	if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, area[NAMED], BYTES, "a name: this"))
		leave_out("names of memory");
	MAKER_MUST(!madvise(area[HUGE], BYTES, MADV_HUGEPAGE));
	MAKER_MUST(!madvise(area[NO_HUGE], BYTES, MADV_NOHUGEPAGE));
	MAKER_MUST(!madvise(area[WIPE], BYTES, MADV_WIPEONFORK));
	MAKER_MUST(!madvise(area[NO_DUMP], BYTES, MADV_DONTDUMP));
	MAKER_MUST(!madvise(area[NO_FORK], BYTES, MADV_DONTFORK));
	if (madvise(area[MERGE], BYTES, MADV_MERGEABLE))
		leave_out("merging of pages");
	MAKER_MUST(!madvise(area[RANDOM], BYTES, MADV_RANDOM));
	if (syscall(NR_MSEAL, area[SEALED], BYTES, 0))
		leave_out("mseal");
}

static int check_areas(int except)
{
	for (int i = 0; i < AREAS; i++) {
		if (1 << i & except)
			continue;
		describe(area[i], after[i]);
		if (strcmp(before[i], after[i]))
			maker_fail("area %d was\n%s and is\n%s", i, before[i], after[i]);
		for (size_t k = 0; k < BYTES; k += 4096)
			if (i != GUARDED && i != SHARED_GUARD && i != ON_FAULT && area[i][k] != i + 1)
				return 100 + i;
	}
	return 0;
}

static bool is_sealed(const char *p)
{
	return mprotect((void *)p, 4096, PROT_READ) && errno == EPERM;
}

static bool sealed, guarded, shared_guarded;

/* Everything set anew or taken away, and looked at when it is told to. */
static void child_main(void)
{
	int mode = -1;
	unsigned long nodes = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (guarded)
		MAKER_MUST(!madvise(area[GUARDED] + 4096, 4096, GUARD_REMOVE) &&
			   !madvise(area[PLAIN] + 5 * 4096, 4096, GUARD_INSTALL));
	MAKER_MUST(!munlock(area[LOCKED], BYTES) && !madvise(area[WIPE], BYTES, MADV_KEEPONFORK));
	if (pkey > 0)
		MAKER_MUST(!syscall(SYS_pkey_mprotect, area[KEYED], BYTES, PROT_READ | PROT_WRITE, 0) &&
			   !syscall(SYS_pkey_free, pkey));
	syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0);
	for (int i = 0; i < AREAS; i++)
		describe(area[i], before[i]);
	area[SHARED_GUARD][0] = 99;
	maker_wait();
	for (int i = 0; i < AREAS; i++) {
		describe(area[i], after[i]);
		if (strcmp(before[i], after[i]))
			maker_fail("the child's area %d was\n%s and is\n%s", i, before[i], after[i]);
	}
	if (guarded && (faults(area[GUARDED] + 4096) || !faults(area[GUARDED] + 2 * 4096) ||
			!faults(area[PLAIN] + 5 * 4096)))
		maker_fail("the child's guard pages are others");
	if (pkey > 0)
		MAKER_MUST(syscall(SYS_pkey_mprotect, area[KEYED], BYTES, PROT_READ, pkey) < 0);
	if (!syscall(SYS_get_mempolicy, &mode, &nodes, 64ul, NULL, 0))
		MAKER_SAME("the child's memory policy", mode, MPOL_DEFAULT);
	if (sealed && !is_sealed(area[SEALED]))
		maker_fail("the child's memory is not sealed");
	_exit(0);
}

int main(int argc, char **argv)
{
	int status, mode;
	unsigned long nodes = 0;
	pid_t child;
	char *later;

	maker_begin(argc, argv);
	make_areas();
	set_areas();
	sealed = is_sealed(area[SEALED]);
	guarded = faults(area[GUARDED] + 4096);
	shared_guarded = faults(area[SHARED_GUARD] + 3 * 4096);
	if (syscall(SYS_set_mempolicy, MPOL_PREFERRED, &(unsigned long){ 1 }, 64))
		leave_out("NUMA policies");
	child = fork();
	if (!child)
		child_main();
	while (((volatile char *)area[SHARED_GUARD])[0] != 99)
		usleep(1000);
	area[SHARED_GUARD][0] = SHARED_GUARD + 1;
	if (syscall(SYS_mlockall, MCL_FUTURE | 4 /* MCL_ONFAULT */))
		leave_out("mlockall");
	if (prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0))
		leave_out("memory-deny-write-execute");
	mdwe = prctl(66, 0, 0, 0, 0);
	syscall(SYS_get_mempolicy, &policy_mode, &policy_nodes, 64ul, NULL, 0);
	for (int i = 0; i < AREAS; i++)
		describe(area[i], before[i]);

	maker_ready();
	maker_wait();

	status = check_areas(0);
	if (status)
		maker_fail("contents of area %d", status - 100);
	if (guarded && (!faults(area[GUARDED] + 4096) || !faults(area[GUARDED] + 2 * 4096) ||
			!faults(area[GUARDED] + 10 * 4096) || faults(area[GUARDED] + 3 * 4096)))
		maker_fail("other guard pages");
	if (shared_guarded && (!faults(area[SHARED_GUARD] + 3 * 4096) ||
			       faults(area[SHARED_GUARD] + 4 * 4096)))
		maker_fail("other guard pages in shared memory");
	if (sealed && !is_sealed(area[SEALED]))
		maker_fail("not sealed");
	if (pkey > 0) {
		MAKER_SAME("the free key", syscall(SYS_pkey_alloc, 0, 0), pkey - 1);
		MAKER_SAME("the next", syscall(SYS_pkey_alloc, 0, 0), pkey + 1);
	}
	MAKER_SAME("memory-deny-write-execute", prctl(66, 0, 0, 0, 0), mdwe);
	if (!syscall(SYS_get_mempolicy, &mode, &nodes, 64ul, NULL, 0)) {
		MAKER_SAME("memory policy", mode, policy_mode);
		MAKER_SAME("its nodes", nodes, policy_nodes);
		MAKER_MUST(!syscall(SYS_get_mempolicy, &mode, &nodes, 64ul, area[POLICY], MPOL_F_ADDR));
		MAKER_SAME("an area's policy", mode, MPOL_BIND | MPOL_F_STATIC_NODES);
	}
	later = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	describe(later, after[0]);
	if (!strstr(after[0], " lo lf"))
		maker_fail("new memory is not locked on fault: %s", after[0]);
	MAKER_MUST(!syscall(SYS_munlockall));
	kill(child, SIGUSR1);
	MAKER_MUST(waitpid(child, &status, 0) == child);
	MAKER_SAME("the child's status", status, 0);
	maker_ok();
}
