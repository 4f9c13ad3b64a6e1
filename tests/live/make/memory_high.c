/*
 * Memory above 47 bits, which a program must ask for by address: private, shared, read-only, of a file,
 * of huge pages, a System V segment, an area across the border and the last page of all; guard
 * pages; a child that has changed some; a thread whose stack and thread-local memory are there, and one
 * that runs code there.
 *
 * huge-pages: 2
 * processor: max
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>

#include "sysv_common.h"

#define BORDER		(1ul << 47)
#define TOP		((1ul << 56) - 4096)
#define PAGE		4096ul
#define HUGE		(2ul << 20)
#define MADV_GUARD	102

static char *priv, *shared, *ro, *file, *across, *last, *segment, *huge;
static __thread long own = 5;
static bool thread_is_there;
static long rounds, stop;
static int looked;

static char *map(unsigned long at, size_t bytes, int prot, int flags, int fd)
{
	char *p = mmap((void *)at, bytes, prot, flags, fd, 0);

	MAKER_MUST(p == (char *)at);
	return p;
}

static void make_areas(int id)
{
	const int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
	int fd = memfd_create("high", MFD_CLOEXEC);

	MAKER_MUST(fd >= 0 && !ftruncate(fd, 4 * PAGE));
	priv = map(1ul << 48, 64 * PAGE, rw, anon, -1);
	shared = map(1ul << 49, 8 * PAGE, rw, MAP_SHARED | MAP_ANONYMOUS, -1);
	ro = map(1ul << 50, 8 * PAGE, rw, anon, -1);
	file = map(1ul << 51, 4 * PAGE, rw, MAP_SHARED, fd);
	huge = map(1ul << 52, HUGE, rw, anon | MAP_HUGETLB | MAP_NORESERVE, -1);
	across = map(BORDER - 4 * PAGE, 8 * PAGE, rw, anon | MAP_FIXED, -1);
	last = map(TOP - PAGE, PAGE, rw, anon | MAP_FIXED, -1);
	segment = shmat(id, (void *)(3ul << 53), 0);
	MAKER_MUST(segment == (char *)(3ul << 53) && !shmctl(id, IPC_RMID, NULL));
	close(fd);
	for (unsigned int i = 0; i < 64; i += 2)
		priv[i * PAGE] = (char)(i + 1);
	strcpy(shared + 5 * PAGE, "shared");
	strcpy(ro + PAGE, "read only");
	MAKER_MUST(!mprotect(ro, 8 * PAGE, PROT_READ));
	strcpy(file, "of a file");
	strcpy(huge + HUGE / 2, "huge");
	memset(across, 'x', 8 * PAGE);
	strcpy(last, "the last");
	strcpy(segment, "System V");
	if (madvise(priv + 3 * PAGE, PAGE, MADV_GUARD))
		printf("not here: guard pages: %s\n", strerror(errno));
	fflush(stdout);
}

static int look(bool in_child)
{
	for (unsigned int i = 0; i < 64; i++)
		if (i != 3 && priv[i * PAGE] != (in_child && i == 8 ? 'c' : i % 2 ? 0 : (char)(i + 1)))
			return 1;
	if (strcmp(shared + 5 * PAGE, in_child ? "shared" : "changed by the child") ||
	    strcmp(ro + PAGE, "read only") || strcmp(file, "of a file") || strcmp(segment, "System V"))
		return 2;
	if (strcmp(huge + HUGE / 2, in_child ? "the child's" : "huge") || strcmp(last, "the last"))
		return 3;
	for (unsigned int i = 0; i < 8; i++)
		if (across[i * PAGE] != 'x')
			return 4;
	return 0;
}

static void child_main(void)
{
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	priv[8 * PAGE] = 'c';
	strcpy(huge + HUGE / 2, "the child's");
	shared[0] = 1;
	maker_wait();
	r = look(true);
	strcpy(shared + 5 * PAGE, "changed by the child");
	_exit(r);
}

static void *wait_there(void *arg)
{
	long local = 7;

	(void)arg;
	own += local;
	thread_is_there = (unsigned long)&local > BORDER && (unsigned long)&own > BORDER;
	__atomic_store_n(&looked, 1, __ATOMIC_RELEASE);
	maker_await(&looked, 2);
	return (void *)(own + local);
}

static void *run_there(void *code)
{
	((void (*)(long *, const long *))code)(&rounds, &stop);
	return NULL;
}

static void *make_code(void)
{
	/* incq (%rdi); pause; cmpq $0, (%rsi); je to the beginning; ret */
	static const char code[] = "\x48\xff\x07\xf3\x90\x48\x83\x3e\x00\x74\xf5\xc3";
	char *p = map(1ul << 54, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	memcpy(p, code, sizeof(code));
	MAKER_MUST(!mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	return p;
}

static pthread_t start(void *(*fn)(void *), void *arg, unsigned long stack_at)
{
	const size_t bytes = 256 << 10;
	pthread_attr_t attr;
	pthread_t t;
	char *stack = map(stack_at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	MAKER_MUST(!pthread_attr_init(&attr) && !pthread_attr_setstack(&attr, stack, bytes));
	MAKER_MUST(!pthread_create(&t, &attr, fn, arg));
	pthread_attr_destroy(&attr);
	return t;
}

int main(int argc, char **argv)
{
	pthread_t waits, runs;
	long before;
	void *result;
	pid_t child;
	char *probe;
	int id;

	maker_begin(argc, argv);
	probe = mmap((void *)BORDER, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (probe != (char *)BORDER)
		maker_skip("the processor or the kernel has no addresses above 47 bits (la57)");
	munmap(probe, PAGE);
	id = sysv_made("shm", shmget(IPC_PRIVATE, PAGE, 0600));
	make_areas(id);
	child = fork();
	if (!child)
		child_main();
	while (!((volatile char *)shared)[0])
		usleep(1000);
	waits = start(wait_there, NULL, 5ul << 52);
	runs = start(run_there, make_code(), 7ul << 52);
	maker_await(&looked, 1);
	MAKER_MUST(thread_is_there);
	while (!__atomic_load_n(&rounds, __ATOMIC_RELAXED))
		usleep(1000);

	maker_ready();
	maker_wait();

	before = __atomic_load_n(&rounds, __ATOMIC_RELAXED);
	while (__atomic_load_n(&rounds, __ATOMIC_RELAXED) == before)
		usleep(1000);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&looked, 2, __ATOMIC_RELEASE);
	MAKER_MUST(!pthread_join(runs, NULL) && !pthread_join(waits, &result));
	MAKER_SAME("what the thread has", (long)result, 19);
	kill(child, SIGUSR1);
	maker_ends_with(child, 0);
	MAKER_SAME("what we have", look(false), 0);
	maker_ok();
}
