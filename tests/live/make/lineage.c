/*
 * A family: orphans, sessions and groups whose leaders have ended, zombies of all sorts. Everyone
 * knows parent, session, group and memory of its own again, the root finds its zombies' statuses
 * and is told of no child that it has not lost.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "maker.h"

enum { DAEMON = 1, DAEMONS_CHILD, LOST_GROUP, LOST_GROUP_TOO, PLAIN, SHELL, JOB, EARLY_PARENT, EARLY,
       OF_ZOMBIE, GROUP_LEFT, GROUP_KEPT, TWICE_LOST, NODES };

struct node {
	pid_t pid, ppid, sid, pgid;
	int phase;		/* 1: there, 2: has noted all, 3: has looked again */
	char error[100];
};

static struct {
	int phase;
	struct node node[NODES];
} *sh;

static int mine = 4711;	/* private memory: each node's own */
static volatile sig_atomic_t told;

static void on_child(int sig)
{
	(void)sig;
	told++;
}

static struct node look(void)
{
	return (struct node){ .pid = getpid(), .ppid = getppid(), .sid = getsid(0), .pgid = getpgrp() };
}

/* Never returns. */
static void node(int i)
{
	struct node *n = &sh->node[i], is;
	int reaper = 0;

	mine = i;
	n->pid = getpid();
	__atomic_store_n(&n->phase, 1, __ATOMIC_RELEASE);
	maker_await(&sh->phase, 2);
	is = look();
	is.phase = 2;
	*n = is;
	maker_await(&sh->phase, 3);
	is = look();
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	if (reaper || is.pid != n->pid || is.ppid != n->ppid || is.sid != n->sid || is.pgid != n->pgid || mine != i)
		snprintf(n->error, sizeof(n->error), "pid %d ppid %d sid %d pgid %d memory %d reaper %d",
			 is.pid, is.ppid, is.sid, is.pgid, mine, reaper);
	__atomic_store_n(&n->phase, 3, __ATOMIC_RELEASE);
	for (;;)
		maker_await(&sh->phase, 4);
}

static pid_t child(void)
{
	pid_t pid = fork();

	MAKER_MUST(pid >= 0);
	if (!pid)
		mine = 0;
	return pid;
}

static void child_node(int i)
{
	if (!child())
		node(i);
}

/* Runs fn in a child that ends with it. */
static pid_t passing(void (*fn)(void))
{
	pid_t pid = child();

	if (!pid) {
		fn();
		_exit(0);
	}
	return pid;
}

static void run(void (*fn)(void))
{
	MAKER_MUST(waitpid(passing(fn), NULL, 0) > 0);
}

static void lost_group(void)
{
	setpgid(0, 0);
	child_node(LOST_GROUP);
	child_node(LOST_GROUP_TOO);
}

static void double_fork(void)
{
	setsid();
	if (child())
		return;
	child_node(DAEMONS_CHILD);
	run(lost_group);
	node(DAEMON);
}

static void twice(void)
{
	setsid();
	child_node(TWICE_LOST);
}

static void job(void)
{
	child_node(JOB);
}

static void shell(void)
{
	if (!child()) {
		setsid();
		run(job);
		node(SHELL);
	}
	node(PLAIN);
}

static void early(void)
{
	child_node(EARLY);
	setsid();
	node(EARLY_PARENT);
}

static void leader_that_is_a_zombie(void)
{
	setsid();
	child_node(OF_ZOMBIE);
}

static void leave_group(void)
{
	pid_t home = getpgrp();

	setpgid(0, 0);
	child_node(GROUP_KEPT);
	/* Not before the other is in it. */
	maker_await(&sh->node[GROUP_KEPT].phase, 1);
	setpgid(0, home);
	node(GROUP_LEFT);
}

static void ends_with_7(void)
{
	_exit(7);
}

static void is_killed(void)
{
	raise(SIGKILL);
}

static void leaves_core(void)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void *ends_all(void *main_thread)
{
	pthread_join(*(pthread_t *)main_thread, NULL);
	_exit(5);
}

static void main_thread_first(void)
{
	static pthread_t main_thread, t;

	main_thread = pthread_self();
	MAKER_MUST(pthread_create(&t, NULL, ends_all, &main_thread) == 0);
	pthread_exit(NULL);
}

static void tell_all(int phase)
{
	__atomic_store_n(&sh->phase, phase, __ATOMIC_RELEASE);
	for (int i = 1; i < NODES; i++)
		maker_await(&sh->node[i].phase, phase);
}

int main(int argc, char **argv)
{
	const struct {
		void (*fn)(void);
		int status;
	} ends[] = { { ends_with_7, 7 << 8 }, { is_killed, SIGKILL }, { leaves_core, SIGSEGV },
		     { main_thread_first, 5 << 8 }, { leader_that_is_a_zombie, 0 } };
	enum { ENDS = sizeof(ends) / sizeof(ends[0]) };
	pid_t zombie[ENDS];
	int told_before, reaper = 0;

	maker_begin(argc, argv);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(sh != MAP_FAILED);
	MAKER_MUST(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = on_child, .sa_flags = SA_RESTART }, NULL);
	run(double_fork);
	run(twice);
	passing(shell);
	passing(early);
	passing(leave_group);
	for (int i = 0; i < ENDS; i++) {
		zombie[i] = passing(ends[i].fn);
		MAKER_MUST(waitid(P_PID, (id_t)zombie[i], NULL, WEXITED | WNOWAIT) == 0);
	}
	for (int i = 1; i < NODES; i++)
		maker_await(&sh->node[i].phase, 1);
	tell_all(2);
	told_before = told;
	maker_ready();
	maker_wait();

	tell_all(3);
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	MAKER_SAME("subreaper", reaper, 1);
	MAKER_SAME("SIGCHLD", told, told_before);
	for (int i = 1; i < NODES; i++)
		if (*sh->node[i].error)
			maker_fail("node %d (pid %d ppid %d sid %d pgid %d) is %s", i, sh->node[i].pid,
				   sh->node[i].ppid, sh->node[i].sid, sh->node[i].pgid, sh->node[i].error);
	for (int i = 0; i < ENDS; i++) {
		int status = -1;

		MAKER_SAME("wait", waitpid(zombie[i], &status, WNOHANG), zombie[i]);
		MAKER_SAME("status", status & ~0x80, ends[i].status);
	}
	MAKER_SAME("wait for a stranger", waitpid(-1, NULL, WNOHANG), 0);
	for (int i = 1; i < NODES; i++)
		kill(sh->node[i].pid, SIGKILL);
	maker_ok();
}
