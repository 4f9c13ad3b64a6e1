/*
 * PID namespaces in a part of the tree: the maker's own process stays where it is, its child is the first of
 * one, a grandchild the first of another one nested in that; both with a /proc of their own, threads, a
 * session, a zombie, a timer that names a thread. Another child has entered the first namespace, but
 * its parent has not; whose next child will be born there, too. A third one, there as well, shares its parent's
 * descriptors, and its next child will be born in a namespace further down.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "maker.h"

enum who { FIRST, MEMBER, DEEP, ENTERED, SHARER, WHO_MAX };
static const char *const names[] = { "the first process", "its child", "the nested first process", "who entered",
					     "who shares descriptors" };

struct ids {
	pid_t pid, ppid, sid, pgid, tid, zombie;
	char self[16];
};

static struct shared {
	struct ids was[WHO_MAX];
	char fault[200];
	int ready, go, done, levels;
} *sh;

static int ticks;

static void tick(int sig)
{
	(void)sig;
	__atomic_add_fetch(&ticks, 1, __ATOMIC_RELEASE);
}

static void fault(enum who who, const char *what, long is, long was)
{
	snprintf(sh->fault, sizeof(sh->fault), "%s of %s is %ld, was %ld", what, names[who], is, was);
}

static volatile pid_t thread_id;

static void *thread_main(void *arg)
{
	(void)arg;
	for (;;) {
		thread_id = (pid_t)syscall(SYS_gettid);
		usleep(2000);
	}
	return NULL;
}

/* As it is now; the thread tells its id itself. */
static void look(struct ids *v, pid_t zombie)
{
	thread_id = 0;
	while (!thread_id)
		usleep(1000);
	*v = (struct ids){ getpid(), getppid(), getsid(0), getpgrp(), thread_id, zombie, "" };
	MAKER_MUST(readlink("/proc/self", v->self, sizeof(v->self) - 1) > 0);
}

static void check(enum who who, timer_t timer)
{
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	const struct ids *was = &sh->was[who];
	struct ids is;
	int status = 0;

	look(&is, was->zombie);
#define SAME(f)	if (is.f != was->f) fault(who, #f, is.f, was->f)
	SAME(pid);
	SAME(ppid);
	SAME(sid);
	SAME(pgid);
	SAME(tid);
	if (strcmp(is.self, was->self))
		fault(who, "/proc/self", atoi(is.self), atoi(was->self));
	if (waitpid(was->zombie, &status, 0) != was->zombie || WEXITSTATUS(status) != 7)
		fault(who, "status of the zombie", status, 7 << 8);
	if (timer_settime(timer, 0, &soon, NULL) < 0)
		fault(who, "timer", -errno, 0);
	for (int i = 0; i < 2500 && !__atomic_load_n(&ticks, __ATOMIC_ACQUIRE); i++)
		usleep(2000);
	if (!ticks)
		fault(who, "ticks", 0, 1);
}

static void live(enum who who)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2 };
	pthread_t thread;
	siginfo_t si;
	timer_t timer;
	pid_t zombie = fork();

	if (!zombie)
		_exit(7);
	MAKER_MUST(zombie > 0 && waitid(P_PID, (id_t)zombie, &si, WEXITED | WNOWAIT) == 0);
	MAKER_MUST(signal(SIGUSR2, tick) != SIG_ERR);
	MAKER_MUST(pthread_create(&thread, NULL, thread_main, NULL) == 0);
	look(&sh->was[who], zombie);
	ev._sigev_un._tid = thread_id;
	MAKER_MUST(timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0);
	__atomic_add_fetch(&sh->ready, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE))
		usleep(2000);
	check(who, timer);
	__atomic_add_fetch(&sh->done, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

static void own_proc(void)
{
	MAKER_MUST(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0);
	MAKER_MUST(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0);
}

static void wait_ready(int n)
{
	while (__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE) < n)
		usleep(1000);
}

static pid_t child(void)
{
	pid_t pid = fork();

	MAKER_MUST(pid >= 0);
	return pid;
}

static void first_main(void)
{
	own_proc();
	if (!child()) {
		setsid();
		live(MEMBER);
	}
	wait_ready(1);
	/* Its own children after the nested first process are none: the zombie comes before. */
	MAKER_MUST(unshare(CLONE_NEWPID) == 0);
	if (!child()) {
		own_proc();
		live(DEEP);
	}
	wait_ready(2);
	MAKER_MUST(setns(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC), CLONE_NEWPID) == 0);
	live(FIRST);
}

/* How many PID namespaces show a next child. It looks itself: /proc is the root's, where it has another number. */
static int next_child(void)
{
	char line[200];
	pid_t pid = child();
	FILE *f;

	if (!pid) {
		f = fopen("/proc/self/status", "r");
		sh->levels = 0;
		while (f && fgets(line, sizeof(line), f))
			if (!strncmp(line, "NSpid:", 6))
				for (char *s = strtok(line + 6, "\t\n "); s; s = strtok(NULL, "\t\n "))
					sh->levels++;
		_exit(0);
	}
	MAKER_MUST(waitpid(pid, NULL, 0) == pid);
	return sh->levels;
}

static void sharer_main(void)
{
	int levels, now;

	MAKER_MUST(unshare(CLONE_NEWPID) == 0);
	if (!child())
		for (;;)
			pause();
	levels = next_child();
	__atomic_add_fetch(&sh->ready, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE))
		usleep(2000);
	now = next_child();
	if (now != levels)
		fault(SHARER, "PID namespaces of the next child", now, levels);
	__atomic_add_fetch(&sh->done, 1, __ATOMIC_RELEASE);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	int levels;

	maker_begin(argc, argv);
	setsid();
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(sh != MAP_FAILED && unshare(CLONE_NEWPID) == 0);
	if (!child())
		first_main();
	wait_ready(3);
	if (!child())
		live(ENTERED);
	wait_ready(4);
	if (!syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0))
		sharer_main();
	wait_ready(5);
	levels = next_child();
	maker_ready();
	maker_wait();

	__atomic_store_n(&sh->go, 1, __ATOMIC_RELEASE);
	for (int i = 0; __atomic_load_n(&sh->done, __ATOMIC_ACQUIRE) < WHO_MAX && i < 5000; i++)
		usleep(2000);
	MAKER_SAME("done", sh->done, WHO_MAX);
	if (*sh->fault)
		maker_fail("%s", sh->fault);
	MAKER_SAME("PID namespaces of the next child", next_child(), levels);
	maker_ok();
}
