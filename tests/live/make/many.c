/*
 * Two thousand processes, or with MAKER_WORKERS=N in the environment fifty times N: workers, and
 * workers of workers, all asleep on one futex. Each has its parent and its number in private
 * memory again, and all wake up.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "maker.h"

#define EACH	49		/* children of a worker */
#define LIMIT_MSEC	120000

static struct {
	uint32_t phase;		/* the futex */
	uint32_t there, well, ill;
	int fork_errno;
} *sh;

static int number, n_workers = 40;

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

	while (n < n_workers && n_children < EACH) {
		children[n_children] = fork();
		if (children[n_children] < 0) {
			sh->fork_errno = errno;
			_exit(1);
		}
		if (!children[n_children]) {
			n = n_workers + n * EACH + n_children;
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

static uint32_t n_all(void)
{
	return (uint32_t)n_workers * (EACH + 1);
}

static void wait_for_all(void)
{
	for (int i = 0; i < LIMIT_MSEC && sh->there < n_all() && !sh->fork_errno; i++)
		usleep(1000);
	if (sh->fork_errno == EAGAIN)
		maker_skip("this machine lets nobody have %u processes: fork: %s", n_all(),
			   strerror(sh->fork_errno));
	MAKER_SAME("error of fork", sh->fork_errno, 0);
	MAKER_SAME("processes", sh->there, n_all());
}

int main(int argc, char **argv)
{
	const char *wanted = getenv("MAKER_WORKERS");

	maker_begin(argc, argv);
	if (wanted)
		n_workers = atoi(wanted);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(sh != MAP_FAILED);
	for (int i = 0; i < n_workers && !sh->fork_errno; i++) {
		pid_t pid = fork();

		if (!pid)
			worker(i);
		if (pid < 0)
			sh->fork_errno = errno;
	}
	wait_for_all();
	maker_ready();
	maker_wait();

	MAKER_SAME("processes that ran too early", sh->well + sh->ill, 0);
	__atomic_store_n(&sh->phase, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &sh->phase, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	while (wait(NULL) > 0)
		;
	MAKER_SAME("processes that are ill", sh->ill, 0);
	MAKER_SAME("processes that are well", sh->well, n_all());
	maker_ok();
}
