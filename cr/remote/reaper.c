#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
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
} reaper;

/* Digits alone, without the locale's help. */
static pid_t number_of(const char *name)
{
	pid_t n = 0;

	for (; *name >= '0' && *name <= '9'; name++)
		n = n * 10 + (*name - '0');
	return *name ? 0 : n;
}

/* A stop is left to whoever waits for it. */
static void reap_ended(pid_t tid)
{
	siginfo_t si = { 0 };

	if (waitid(P_PID, (id_t)tid, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 || si.si_pid != tid)
		return;
	if (si.si_code == CLD_EXITED || si.si_code == CLD_KILLED || si.si_code == CLD_DUMPED)
		(void)!waitpid(tid, NULL, WNOHANG | __WALL);
}

/* "/proc/TID/task". */
static int tasks_open(pid_t tid)
{
	static const char before[] = "/proc/", after[] = "/task";
	char path[32], digits[16];
	size_t n = 0, k = 0;

	for (size_t i = 0; before[i]; i++)
		path[n++] = before[i];
	for (; tid > 0; tid /= 10)
		digits[k++] = (char)('0' + tid % 10);
	while (k)
		path[n++] = digits[--k];
	for (size_t i = 0; i < sizeof(after); i++)
		path[n++] = after[i];
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void reaper_look(pid_t tid)
{
	_Alignas(struct dirent64) char buf[4096];
	int fd = tasks_open(tid);
	long n;

	while (fd >= 0 && (n = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
		for (long off = 0; off < n;) {
			const struct dirent64 *e = (const struct dirent64 *)(buf + off);
			pid_t other = number_of(e->d_name);

			if (other && other != tid)
				reap_ended(other);
			off += e->d_reclen;
		}
	}
	if (fd >= 0)
		close(fd);
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
	struct sigaction sa = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
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
