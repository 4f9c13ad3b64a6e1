#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "remote/reaper.h"
#include "util/log.h"
#include "util/macro.h"

#define LOOK_NSEC	50000000

static struct {
	timer_t timer;
	pid_t owner;		/* the thread that has it: a forked child has none; 0: it is not made */
	volatile pid_t tid;	/* 0: nobody is waited for */
	pid_t *volatile tids;	/* whom we trace; 0: it is reaped */
	volatile size_t n;
	size_t room;
} reaper;

/* A stop is left to whoever waits for it. */
static bool reap_ended(pid_t tid)
{
	siginfo_t si = { 0 };

	return waitid(P_PID, (id_t)tid, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 && si.si_pid == tid &&
	       (si.si_code == CLD_EXITED || si.si_code == CLD_KILLED || si.si_code == CLD_DUMPED) &&
	       waitpid(tid, NULL, WNOHANG | __WALL) == tid;
}

int reaper_know(pid_t tid)
{
	const size_t n = reaper.n;

	if (n == reaper.room) {
		const size_t room = n + n / 2 + 64;
		pid_t *more = calloc(room, sizeof(*more)), *old = reaper.tids;

		if (!more)
			return -ENOMEM;
		/* The signal may come at any moment. */
		if (n)
			memcpy(more, old, n * sizeof(*more));
		reaper.tids = more;
		reaper.room = room;
		free(old);
	}
	reaper.tids[n] = tid;
	reaper.n = n + 1;
	return 0;
}

void reaper_forget_all(void)
{
	reaper.n = reaper.room = 0;
	free(reaper.tids);
	reaper.tids = NULL;
}

void reaper_look(pid_t but)
{
	for (size_t i = 0; i < reaper.n; i++)
		if (reaper.tids[i] && reaper.tids[i] != but && reap_ended(reaper.tids[i]))
			reaper.tids[i] = 0;
}

static void on_tick(int sig _unused_)
{
	const int saved = errno;
	const pid_t tid = reaper.tid;

	if (tid)
		reaper_look(tid);
	errno = saved;
}

/* Without it we wait as long as it takes, as most waits end. */
static bool reaper_make(void)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN };
	/* No SA_RESTART: who waits may look around. */
	struct sigaction sa = { .sa_handler = on_tick };
	const pid_t self = (pid_t)syscall(SYS_gettid);
	sigset_t set;

	if (reaper.owner == self)
		return true;
	ev._sigev_un._tid = self;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	if (sigaction(SIGRTMIN, &sa, NULL) < 0 || sigprocmask(SIG_UNBLOCK, &set, NULL) < 0 ||
	    timer_create(CLOCK_MONOTONIC, &ev, &reaper.timer) < 0) {
		log_debug("no timer for threads that end: %s", strerror(errno));
		return false;
	}
	reaper.owner = self;
	return true;
}

static void reaper_set(long nsec)
{
	const struct itimerspec its = { { 0, nsec }, { 0, nsec } };

	timer_settime(reaper.timer, 0, &its, NULL);
}

void reaper_begin(pid_t tid)
{
	if (!reaper_make())
		return;
	reaper.tid = tid;
	reaper_set(LOOK_NSEC);
}

void reaper_end(void)
{
	if (!reaper.tid)
		return;
	reaper_set(0);
	reaper.tid = 0;
}
