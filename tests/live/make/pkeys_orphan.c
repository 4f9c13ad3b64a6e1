/*
 * Protection keys of an orphan: it has its parent's, but was born by the leader of its session, which
 * has none.
 *
 * processor: max
 */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "maker.h"

static struct {
	pid_t orphan;
	int key, looked, free;
} *sh;

static void orphan(char *page)
{
	sh->key = (int)syscall(SYS_pkey_alloc, 0, 0);
	if (sh->key < 0)
		sh->key = -errno;
	if (sh->key > 0 && syscall(SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_WRITE, sh->key))
		_exit(1);
	sh->orphan = getpid();
	while (!__atomic_load_n(&sh->looked, __ATOMIC_ACQUIRE))
		usleep(1000);
	/* The first that is free. */
	sh->free = (int)syscall(SYS_pkey_alloc, 0, 0);
	*page = 1;
	_exit(0);
}

/* Never returns. */
static void leader(char *page)
{
	setsid();
	if (!fork()) {
		if (!fork())
			orphan(page);
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	char *page;
	pid_t lead;
	int status;

	maker_begin(argc, argv);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(sh != MAP_FAILED && page != MAP_FAILED);
	MAKER_MUST(!prctl(PR_SET_CHILD_SUBREAPER, 1));
	lead = fork();
	if (!lead)
		leader(page);
	while (!__atomic_load_n(&sh->orphan, __ATOMIC_ACQUIRE))
		usleep(1000);
	if (sh->key < 0)
		maker_skip("the processor or the kernel has no protection keys: %s", strerror(-sh->key));
	MAKER_SAME("our key", syscall(SYS_pkey_alloc, 0, 0), sh->key);
	maker_ready();
	maker_wait();

	__atomic_store_n(&sh->looked, 1, __ATOMIC_RELEASE);
	MAKER_MUST(waitpid(sh->orphan, &status, 0) == sh->orphan);
	MAKER_SAME("the orphan's end", status, 0);
	MAKER_SAME("its next key", sh->free, sh->key + 1);
	MAKER_SAME("ours", syscall(SYS_pkey_alloc, 0, 0), sh->key + 1);
	kill(lead, SIGKILL);
	waitpid(lead, NULL, 0);
	maker_ok();
}
