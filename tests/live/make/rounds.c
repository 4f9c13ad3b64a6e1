/*
 * Memory that changes between the rounds of a chain of dumps. At each SIGUSR2 a generation: pages
 * are written, discarded, unmapped, mapped anew at the same place and moved; the break grows; a
 * child is forked. At the end every page must have what its last generation put there.
 */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "maker.h"

#define PAGE		4096u
#define PAGES		1024u
#define GENERATIONS_MAX	8

struct child {
	volatile int asked, answer;	/* 1: right; -N: page N - 1 is wrong */
};

static unsigned char *area, *file_area, *moved;
static unsigned char model[PAGES];		/* what each page of the area is filled with */
static unsigned char file_model[16];
static unsigned char *heap[GENERATIONS_MAX];
static struct child *children;
static int generation;

static void fill(unsigned char *p, unsigned char *m, size_t page, unsigned char value)
{
	memset(p + page * PAGE, value, PAGE);
	m[page] = value;
}

static int wrong(const unsigned char *p, const unsigned char *m, size_t n)
{
	for (size_t i = 0; i < n * PAGE; i++)
		if (p[i] != m[i / PAGE])
			return (int)(i / PAGE) + 1;
	return 0;
}

static void map_at(unsigned char *p, size_t pages)
{
	MAKER_MUST(mmap(p, pages * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
}

__attribute__((noreturn)) static void child_main(struct child *c)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	MAKER_MUST(mprotect(area + 700 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE) == 0);
	fill(area, model, 500, 0xcc);
	for (;;) {
		usleep(5000);
		if (c->asked && !c->answer) {
			int bad = wrong(area, model, PAGES);

			c->answer = bad ? -bad : 1;
		}
	}
}

static void next_generation(void)
{
	unsigned char g = (unsigned char)++generation;

	MAKER_MUST(generation < GENERATIONS_MAX);
	/* A few pages here and there. */
	for (size_t i = g; i < 300; i += 31)
		fill(area, model, i, (unsigned char)(g * 16 + i % 16));
	/* Gone, and gone but written again. */
	MAKER_MUST(madvise(area + (300 + g) * PAGE, 2 * PAGE, MADV_DONTNEED) == 0);
	memset(model + 300 + g, 0, 2);
	fill(area, model, 301u + g, (unsigned char)(0x40 + g));
	/* Another mapping in the same place: empty, then a page of it. */
	map_at(area + (400 + 4u * g) * PAGE, 4);
	memset(model + 400 + 4 * g, 0, 4);
	fill(area, model, 401u + 4u * g, (unsigned char)(0x50 + g));
	/* Written by the kernel. */
	{
		int fd = open("/dev/urandom", O_RDONLY);

		MAKER_MUST(fd >= 0 && read(fd, area + 600 * PAGE, PAGE) == PAGE);
		close(fd);
		fill(area, model, 600, area[600 * PAGE]);
	}
	/* Read-only since, and back. */
	MAKER_MUST(mprotect(area + 700 * PAGE, 8 * PAGE, g % 2 ? PROT_NONE : PROT_READ | PROT_WRITE) == 0);
	/* Moved onto what was there before. */
	if (g == 1) {
		MAKER_MUST(mremap(moved, 16 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				  area + 800 * PAGE) == area + 800 * PAGE);
		memset(model + 800, 0x77, 16);
	}
	/* A private file's page: from the file before. */
	fill(file_area, file_model, g, (unsigned char)(0x60 + g));
	if (g > 1) {	/* and the file's again */
		MAKER_MUST(madvise(file_area + (g - 1) * PAGE, PAGE, MADV_DONTNEED) == 0);
		file_model[g - 1] = 0;
	}
	heap[g] = sbrk(2 * PAGE);
	memset(heap[g], g, 2 * PAGE);
	if (g == 1 && !fork())
		child_main(&children[0]);
}

static void check(void)
{
	int bad;

	MAKER_MUST(mprotect(area + 700 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE) == 0);
	bad = wrong(area, model, PAGES);
	if (bad)
		maker_fail("page %d is not as generation %d left it", bad - 1, generation);
	bad = wrong(file_area, file_model, 16);
	if (bad)
		maker_fail("page %d of the private file is not as generation %d left it", bad - 1,
			   generation);
	for (int g = 1; g <= generation; g++)
		for (size_t i = 0; i < 2 * PAGE; i++)
			if (heap[g][i] != g)
				maker_fail("the heap of generation %d", g);
	children[0].asked = generation > 0;
	for (int i = 0; generation && !children[0].answer && i < 2000; i++)
		usleep(5000);
	if (generation && children[0].answer != 1)
		maker_fail("the child: wrong page or no answer (%d)", children[0].answer);
}

static unsigned char *memory(size_t pages, int flags, int fd)
{
	void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	MAKER_MUST(p != MAP_FAILED);
	return p;
}

int main(int argc, char **argv)
{
	int fd = open("rounds.dat", O_RDWR | O_CREAT, 0600), signo;
	sigset_t set;

	maker_begin(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	area = memory(PAGES, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	moved = memory(16, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	children = (struct child *)memory(1, MAP_SHARED | MAP_ANONYMOUS, -1);
	MAKER_MUST(fd >= 0 && ftruncate(fd, 16 * PAGE) == 0);
	file_area = memory(16, MAP_PRIVATE, fd);
	for (size_t i = 0; i < PAGES; i++)
		fill(area, model, i, (unsigned char)(i % 13 + 1));
	memset(moved, 0x77, 16 * PAGE);
	maker_ready();
	for (;;) {
		signo = sigwaitinfo(&set, NULL);
		if (signo == SIGUSR1)
			break;
		if (signo != SIGUSR2)
			continue;
		next_generation();
		maker_log("generation %d", generation);
	}
	check();
	maker_ok();
}
