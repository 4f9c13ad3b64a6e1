/*
 * Two thousand processes: workers, and workers of workers, all asleep on one futex. Each has its
 * parent and its number in private memory again, and all wake up.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "maker.h"

#define WORKERS	40
#define EACH	49		/* children of a worker */

static struct {
	uint32_t phase;		/* the futex */
	uint32_t there, well, ill;
} *sh;

static int number;

static void sleep_until(uint32_t phase)
{
	uint32_t is;

	while ((is = __atomic_load_n(&sh->phase, __ATOMIC_ACQUIRE)) < phase)
		syscall(SYS_futex, &sh->phase, FUTEX_WAIT, is, NULL, NULL, 0);
}

static void worker(int n)
{
	pid_t parent, own, children[EACH];
	int n_children = 0;

	while (n < WORKERS && n_children < EACH) {
		children[n_children] = fork();
		MAKER_MUST(children[n_children] >= 0);
		if (!children[n_children]) {
			n = WORKERS + n * EACH + n_children;
			n_children = 0;
		} else {
			n_children++;
		}
	}
	number = n;
	parent = getppid();
	own = getpid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	__atomic_add_fetch(&sh->there, 1, __ATOMIC_RELEASE);
	sleep_until(1);
	for (int i = 0; i < n_children; i++)
		if (waitpid(children[i], NULL, 0) != children[i])
			number = -1;
	__atomic_add_fetch(getppid() == parent && getpid() == own && number == n ? &sh->well : &sh->ill, 1,
			   __ATOMIC_RELEASE);
	_exit(0);
}

int main(int argc, char **argv)
{
	maker_begin(argc, argv);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(sh != MAP_FAILED);
	for (int i = 0; i < WORKERS; i++) {
		pid_t pid = fork();

		MAKER_MUST(pid >= 0);
		if (!pid)
			worker(i);
	}
	for (int i = 0; i < 10000 && sh->there < WORKERS * (EACH + 1); i++)
		usleep(1000);
	MAKER_SAME("processes", sh->there, WORKERS * (EACH + 1));
	maker_ready();
	maker_wait();

	MAKER_SAME("processes that ran too early", sh->well + sh->ill, 0);
	__atomic_store_n(&sh->phase, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &sh->phase, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	while (wait(NULL) > 0)
		;
	MAKER_SAME("processes that are ill", sh->ill, 0);
	MAKER_SAME("processes that are well", sh->well, WORKERS * (EACH + 1));
	maker_ok();
}
