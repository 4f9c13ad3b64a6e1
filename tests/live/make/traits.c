/*
 * What each thread has for itself: I/O priority, timer slack, personality, rdtsc forbidden, treatment of memory
 * errors, I/O flusher, speculation; of the process: what is in a core dump, its session's nice value.
 */
#include <asm/prctl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>

#include "maker.h"

#define IDLE		(3 << 13)
#define BEST_EFFORT(n)	(2 << 13 | (n))
#define N_SPEC		3		/* PR_SPEC_STORE_BYPASS, INDIRECT_BRANCH, L1D_FLUSH */

static pthread_barrier_t before, after;

struct traits {
	long io_priority, timer_slack, personality, tsc, mce, flusher, cpuid, spec[N_SPEC];
};

static void get(struct traits *t)
{
	int tsc = 0;

	MAKER_MUST(!prctl(PR_GET_TSC, &tsc));
	*t = (struct traits){
		.io_priority = syscall(SYS_ioprio_get, 1, 0),
		.timer_slack = syscall(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0),
		.personality = personality(0xffffffff),
		.tsc = tsc,
		.mce = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0),
		.flusher = prctl(58 /* PR_GET_IO_FLUSHER */, 0, 0, 0, 0),
		.cpuid = syscall(SYS_arch_prctl, 0x1011 /* ARCH_GET_CPUID */, 0),
	};
	for (unsigned long i = 0; i < N_SPEC; i++)
		t->spec[i] = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
}

static void check(const char *whose, const struct traits *should)
{
	struct traits t;

	get(&t);
	for (size_t i = 0; i < sizeof(t) / sizeof(long); i++)
		if (((long *)&t)[i] != ((const long *)should)[i])
			maker_fail("%s: value %zu is %ld (0x%lx), not %ld (0x%lx)", whose, i, ((long *)&t)[i],
				   ((long *)&t)[i], ((const long *)should)[i], ((const long *)should)[i]);
}

static void set_second(void)
{
	MAKER_MUST(!syscall(SYS_ioprio_set, 1, 0, IDLE));
	/* Which the call that tells it gives as if it were EPERM. */
	MAKER_MUST(!prctl(PR_SET_TIMERSLACK, -1ul));
	MAKER_MUST(personality(READ_IMPLIES_EXEC | UNAME26) >= 0);
	MAKER_MUST(!prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
	MAKER_MUST(!prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0));
	/* Not on every machine: none is a state, too. */
	prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_FORCE_DISABLE, 0, 0);
	prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_DISABLE, 0, 0);
	prctl(PR_SET_SPECULATION_CTRL, 2 /* PR_SPEC_L1D_FLUSH */, PR_SPEC_ENABLE, 0, 0);
	syscall(SYS_arch_prctl, 0x1012 /* ARCH_SET_CPUID */, 0);
}

static void *second(void *arg)
{
	struct traits t;

	if (maker_sets_up())
		set_second();
	get(&t);
	if (maker_sets_up()) {
		MAKER_SAME("I/O priority as set", t.io_priority, IDLE);
		MAKER_SAME("timer slack as set", t.timer_slack, -1);
	}
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	check("the second thread", &t);
	return arg;
}

/* As every new thread, of a process that has changed. */
static void *third(void *arg)
{
	struct traits t;

	get(&t);
	pthread_barrier_wait(&before);
	pthread_barrier_wait(&after);
	check("the third thread", &t);
	return arg;
}

static void set_first(void)
{
	MAKER_MUST(!syscall(SYS_ioprio_set, 1, 0, BEST_EFFORT(3)));
	MAKER_MUST(!prctl(PR_SET_TIMERSLACK, 1));
	MAKER_MUST(personality(ADDR_NO_RANDOMIZE) >= 0);
	MAKER_MUST(!prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
	prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0);
	prctl(57 /* PR_SET_IO_FLUSHER */, 1, 0, 0, 0);
}

static void write_proc(const char *name, const char *text)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	fd = open(path, O_WRONLY);
	if (fd < 0 && errno == ENOENT)
		return;
	MAKER_MUST(fd >= 0 && write(fd, text, strlen(text)) > 0);
	close(fd);
}

static int session_nice(void)
{
	const char *nice;
	char text[128];

	maker_read_proc(getpid(), "autogroup", text, sizeof(text));
	nice = strstr(text, " nice ");
	return nice ? atoi(nice + 6) : 0;
}

static bool is_executable(const void *addr)
{
	unsigned long start, end;
	char line[1024], x = 0;
	bool is = false;
	FILE *f = fopen("/proc/self/maps", "r");

	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %*c%*c%c", &start, &end, &x) == 3 && start <= (unsigned long)addr &&
		    (unsigned long)addr < end)
			is = x == 'x';
	fclose(f);
	return is;
}

int main(int argc, char **argv)
{
	void *readable = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char filter[64], is[64];
	struct traits t;
	pthread_t th[2];
	int nice;

	maker_begin(argc, argv);
	pthread_barrier_init(&before, NULL, 3);
	pthread_barrier_init(&after, NULL, 3);
	if (maker_sets_up()) {
		write_proc("coredump_filter", "0x7f");
		write_proc("autogroup", "7");
	}
	MAKER_MUST(!pthread_create(&th[0], NULL, second, NULL));
	if (maker_sets_up())
		set_first();
	MAKER_MUST(!pthread_create(&th[1], NULL, third, NULL));
	pthread_barrier_wait(&before);
	maker_read_proc(getpid(), "coredump_filter", filter, sizeof(filter));
	nice = session_nice();
	get(&t);
	maker_ready();
	maker_wait();
	check("the first thread", &t);
	maker_read_proc(getpid(), "coredump_filter", is, sizeof(is));
	if (strcmp(is, filter))
		maker_fail("coredump_filter is %s, not %s", is, filter);
	MAKER_SAME("nice value of the session", session_nice(), nice);
	MAKER_SAME("a readable page is executable", is_executable(readable), false);
	pthread_barrier_wait(&after);
	for (int i = 0; i < 2; i++)
		pthread_join(th[i], NULL);
	maker_ok();
}
