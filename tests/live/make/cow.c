/*
 * Three generations that share pages by copy-on-write: a parent with 2 MiB, a child of it that
 * has 1 MiB more, three workers of the child. Every worker has changed and discarded pages of
 * both. The contents must be right, and shared what was shared.
 */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "maker.h"

#define PAGE		4096u
#define OLD_PAGES	512u
#define NEW_PAGES	256u
#define WORKERS		3
#define MEMBERS		(WORKERS + 2)	/* 0: the parent, 1: its child */
#define FRAME		((1ull << 55) - 1)

struct board {
	volatile int asked, ready;
	volatile int answer[MEMBERS];	/* 1: right; -N: page N - 1 is wrong */
	pid_t pid[MEMBERS];
};

static unsigned char *old_pages, *new_pages;
static struct board *board;

static unsigned char *memory(size_t pages)
{
	unsigned char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MAKER_MUST(p != MAP_FAILED);
	for (size_t i = 0; i < pages * PAGE; i++)
		p[i] = (unsigned char)(i / PAGE * 7 + i % 251 + 1);
	return p;
}

/* Worker who's own: page 10 + who is its, page 20 + who is no more. */
static int wrong_page(const unsigned char *p, size_t pages, int who)
{
	for (size_t i = 0; i < pages * PAGE; i++) {
		size_t page = i / PAGE;
		unsigned char want = (unsigned char)(page * 7 + i % 251 + 1);

		if (who > 1 && page == 10 + (size_t)who)
			want = (unsigned char)who;
		if (who > 1 && page == 20 + (size_t)who)
			want = 0;
		if (p[i] != want)
			return (int)page + 1;
	}
	return 0;
}

static void change(unsigned char *p, int who)
{
	memset(p + (10 + (size_t)who) * PAGE, who, PAGE);
	MAKER_MUST(madvise(p + (20 + (size_t)who) * PAGE, PAGE, MADV_DONTNEED) == 0);
}

static void answer(int who)
{
	int bad = wrong_page(old_pages, OLD_PAGES, who);

	if (!bad && who)
		bad = wrong_page(new_pages, NEW_PAGES, who);
	board->answer[who] = bad ? -bad : 1;
}

__attribute__((noreturn)) static void member(int who)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (who > 1) {
		change(old_pages, who);
		change(new_pages, who);
	}
	__atomic_add_fetch(&board->ready, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		usleep(10000);
		if (board->asked && !board->answer[who])
			answer(who);
	}
}

static pid_t begin(int who)
{
	pid_t pid = fork();

	MAKER_MUST(pid >= 0);
	if (pid)
		return board->pid[who] = pid;
	if (who == 1) {
		new_pages = memory(NEW_PAGES);
		for (int i = 2; i < MEMBERS; i++)
			begin(i);
	}
	member(who);
}

static uint64_t frame(pid_t pid, const unsigned char *p)
{
	char path[64];
	uint64_t v = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY);
	MAKER_MUST(fd >= 0);
	MAKER_MUST(pread(fd, &v, 8, (off_t)((uintptr_t)p / PAGE * 8)) == 8);
	close(fd);
	return v & FRAME;
}

static void check_sharing(void)
{
	for (int who = 1; who < MEMBERS; who++)
		for (size_t i = 0; i < OLD_PAGES; i++) {
			uint64_t ours = frame(getpid(), old_pages + i * PAGE);
			uint64_t theirs = frame(board->pid[who], old_pages + i * PAGE);
			bool own = who > 1 && (i == 10 + (size_t)who || i == 20 + (size_t)who);

			if (ours && (ours == theirs) == own)
				maker_fail("page %zu of member %d: %s", i, who,
					   own ? "shared" : "not shared");
		}
}

int main(int argc, char **argv)
{
	maker_begin(argc, argv);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(board != MAP_FAILED);
	old_pages = memory(OLD_PAGES);
	board->pid[0] = getpid();
	begin(1);
	while (board->ready != MEMBERS - 1)
		usleep(1000);
	maker_ready();
	maker_wait();
	if (!maker_is_plain())
		check_sharing();
	board->asked = 1;
	answer(0);
	for (int who = 0; who < MEMBERS; who++) {
		for (int i = 0; !board->answer[who] && i < 1000; i++)
			usleep(10000);
		if (board->answer[who] != 1)
			maker_fail("member %d: wrong page or no answer (%d)", who,
				   board->answer[who]);
	}
	maker_ok();
}
