/*
 * Memory of a parent and two forked children: private pages written before and after the fork,
 * shared anonymous memory, private and shared file mappings, read-only and PROT_NONE areas,
 * a deleted mapped file, brk, locked pages, advice. A thread in each process sleeps.
 *
 * cr-options: --ghost-limit 4M
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "maker.h"

#define N		(64 * 4096)
#define CHILDREN	2

static unsigned char *priv, *shared, *file_priv, *file_shared, *ro, *none, *deleted, *brk_area;
static void *break_at;
static pid_t child[CHILDREN];
static volatile int *answers;	/* shared: what the children found, and who changed it */

static unsigned char pattern(size_t i, int who)
{
	return (unsigned char)(i * 31 + i / 4096 * 7 + (size_t)who * 101 + 3);
}

static void *sleeper(void *arg)
{
	for (;;)
		sleep(1000);
	return arg;
}

static unsigned char *map_file(const char *name, int flags, int unlink_it)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	unsigned char *p;

	if (fd < 0 || ftruncate(fd, N))
		maker_fail("%s: %m", name);
	p = mmap(NULL, N, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (p == MAP_FAILED)
		maker_fail("mmap %s: %m", name);
	close(fd);
	if (unlink_it)
		unlink(name);
	return p;
}

/* who: 0 parent, 1.. children. Even pages are everyone's from before the fork. */
static void write_own(int who)
{
	for (size_t i = 0; i < N; i++)
		if ((i / 4096) % (CHILDREN + 2) == (size_t)who + 1)
			priv[i] = pattern(i, who + 1);
	file_priv[who] = (unsigned char)(200 + who);
}

static int check_own(int who)
{
	for (size_t i = 0; i < N; i++) {
		size_t owner = (i / 4096) % (CHILDREN + 2);

		/* The last page: see child_main(). */
		if (i < N - 4096 && priv[i] != pattern(i, owner == (size_t)who + 1 ? who + 1 : 0))
			return 1;
		if (ro[i] != pattern(i, 9))
			return 2;
		if (deleted[i] != pattern(i, 5))
			return 3;
	}
	if (file_priv[who] != 200 + who || file_priv[4096] != 77)
		return 4;
	if (shared[who] != 100 + who || file_shared[100 + who] != 50 + who)
		return 5;
	if (memcmp(brk_area, "on the heap", 12))
		return 6;
	return 0;
}

static void child_main(int who)
{
	pthread_t t;

	pthread_create(&t, NULL, sleeper, NULL);
	write_own(who);
	shared[who] = (unsigned char)(100 + who);
	file_shared[100 + who] = (unsigned char)(50 + who);
	/* Discarded after the fork: must not come back from the parent. */
	madvise(priv + N - 4096, 4096, MADV_DONTNEED);
	answers[who] = -1;
	maker_wait();
	answers[who] = check_own(who) + (priv[N - 1] ? 100 : 0) + 1000;
	_exit(0);
}

int main(int argc, char **argv)
{
	pthread_t t;

	maker_begin(argc, argv);
	priv = mmap(NULL, N + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	priv += 4096;
	for (size_t i = 0; i < N; i++)
		priv[i] = pattern(i, 0);
	shared = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	answers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	file_shared = map_file("shared.dat", MAP_SHARED, 0);
	file_priv = map_file("private.dat", MAP_PRIVATE, 0);
	deleted = map_file("deleted.dat", MAP_SHARED, 1);
	ro = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	none = mmap(NULL, N, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	brk_area = sbrk(8192);
	memcpy(brk_area, "on the heap", 12);
	for (size_t i = 0; i < N; i++) {
		ro[i] = pattern(i, 9);
		none[i] = pattern(i, 8);
		deleted[i] = pattern(i, 5);
	}
	file_priv[4096] = 77;
	mprotect(ro, N, PROT_READ);
	mprotect(none, N, PROT_NONE);
	madvise(ro, N, MADV_DONTDUMP);
	shared[0] = 100;
	file_shared[100] = 50;
	for (int i = 0; i < CHILDREN; i++) {
		child[i] = fork();
		if (!child[i])
			child_main(i + 1);
	}
	write_own(0);
	pthread_create(&t, NULL, sleeper, NULL);
	for (int i = 1; i <= CHILDREN; i++)
		while (answers[i] != -1)
			usleep(1000);

	break_at = sbrk(0);
	maker_ready();
	maker_wait();

	if (check_own(0))
		maker_fail("the parent's memory differs: %d", check_own(0));
	if (priv[N - 1] != pattern(N - 1, 0))
		maker_fail("the parent lost a page");
	mprotect(none, N, PROT_READ);
	for (size_t i = 0; i < N; i++)
		if (none[i] != pattern(i, 8))
			maker_fail("PROT_NONE memory differs at %zu", i);
	if (sbrk(0) != break_at)
		maker_fail("the break moved");
	for (int i = 0; i < CHILDREN; i++) {
		int status;

		kill(child[i], SIGUSR1);
		if (waitpid(child[i], &status, 0) != child[i] || status)
			maker_fail("child %d: status 0x%x", i, status);
		if (answers[i + 1] != 1000)
			maker_fail("child %d found %d", i, answers[i + 1]);
	}
	maker_ok();
}
