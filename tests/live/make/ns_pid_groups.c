/*
 * Sessions and groups of a PID namespace whose first process has its session from outside: it and
 * a child stay there, where they have the number 0; one group in it has lost its leader; then
 * the first process makes a session of its own.
 */
#define _GNU_SOURCE
#include "ns_pid.h"

static struct shared {
	pid_t leader, orphan;
	int go;
} *sh;

static void idle(void)
{
	for (;;)
		pause();
}

static pid_t child(void (*fn)(void))
{
	pid_t pid = fork();

	MAKER_MUST(pid >= 0);
	if (!pid) {
		fn();
		_exit(0);
	}
	return pid;
}

/* Leaves a child behind in its group. */
static void leader_main(void)
{
	MAKER_MUST(setpgid(0, 0) == 0);
	sh->leader = getpid();
	sh->orphan = child(idle);
}

static void group_main(void)
{
	MAKER_MUST(setpgid(0, 0) == 0);
	idle();
}

static void same(const char *what, pid_t pid, pid_t sid, pid_t pgid)
{
	char text[80];

	snprintf(text, sizeof(text), "session of %s", what);
	MAKER_SAME(text, getsid(pid), sid);
	snprintf(text, sizeof(text), "group of %s", what);
	MAKER_SAME(text, getpgid(pid), pgid);
}

static void check(pid_t outside, pid_t group, pid_t apart)
{
	same("the first process", 0, 1, 1);
	same("the child from before", outside, 0, 0);
	same("the leader of a group", group, 0, group);
	same("the group without its leader", sh->orphan, 0, sh->leader);
	same("the child from after", apart, 1, 1);
	if (kill(sh->leader, 0) == 0)
		maker_fail("process %d is back", sh->leader);
	MAKER_MUST(kill(-sh->leader, 0) == 0);
}

int main(int argc, char **argv)
{
	pid_t outside, group, apart, leader;

	maker_begin(argc, argv);
	sh = ns_pid_share(sizeof(*sh));
	ns_pid_begin(argv[1], NULL);
	same("the first process", 0, 0, 0);
	outside = child(idle);
	group = child(group_main);
	leader = child(leader_main);
	MAKER_MUST(waitpid(leader, NULL, 0) == leader);
	while (getpgid(group) != group)
		usleep(1000);
	MAKER_MUST(setsid() == 1);
	apart = child(idle);
	check(outside, group, apart);
	maker_ready();
	maker_wait();

	check(outside, group, apart);
	maker_ok();
}
