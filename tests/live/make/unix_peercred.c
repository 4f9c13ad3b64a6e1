/*
 * Whom unix sockets name as their other end (SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD): pairs,
 * listeners, connections and those still waiting, made by processes of several users, some of
 * which have ended; a connection whose client has closed keeps its name, too.
 */
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>

#include "sock_common.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS	59
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD	77
#endif

struct look {
	struct ucred cred;
	gid_t groups[8];
	int n_groups;		/* -1: none */
	long pidfd;		/* the pid behind SO_PEERPIDFD; -1 ended, 0 not there */
};

static long pid_behind(int pidfd)
{
	char path[64], line[256];
	long pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	f = fopen(path, "r");
	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "Pid: %ld", &pid);
	fclose(f);
	return pid;
}

static struct look look(int fd)
{
	struct look l;
	socklen_t len = sizeof(l.cred);
	int pidfd = -1;

	memset(&l, 0, sizeof(l));
	MAKER_MUST(!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &l.cred, &len));
	len = sizeof(l.groups);
	l.n_groups = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, l.groups, &len) < 0
		     ? -1 : (int)(len / sizeof(gid_t));
	len = sizeof(pidfd);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) < 0) {
		l.pidfd = errno == EINVAL || errno == ESRCH ? -1 : 0;
	} else {
		l.pidfd = pid_behind(pidfd);
		close(pidfd);
	}
	return l;
}

static void same(const char *what, int fd, const struct look *was)
{
	struct look is = look(fd);

	if (is.cred.pid != was->cred.pid || is.cred.uid != was->cred.uid ||
	    is.cred.gid != was->cred.gid)
		maker_fail("%s: pid %d, uid %u, gid %u, not %d, %u, %u", what, is.cred.pid,
			   is.cred.uid, is.cred.gid, was->cred.pid, was->cred.uid, was->cred.gid);
	if (is.n_groups != was->n_groups || memcmp(is.groups, was->groups, sizeof(is.groups)))
		maker_fail("%s: other groups (%d, were %d)", what, is.n_groups, was->n_groups);
	if (is.pidfd != was->pidfd)
		maker_fail("%s: SO_PEERPIDFD leads to %ld, not %ld", what, is.pidfd, was->pidfd);
}

static char path[80], abstract[40], ended[40];
static int listener, l_abs, by_ended;

static void become(uid_t uid, gid_t gid)
{
	const gid_t groups[] = { gid, 4242, 77 };

	MAKER_MUST(!setgroups(3, groups) && !setresgid(gid, gid, gid) &&
		   !setresuid(uid, uid, uid));
}

/* A child that shares our table, does one thing as another user, and ends. */
struct job {
	int (*run)(void);
	int result;
};

static int other_listens(void)
{
	MAKER_MUST(!listen(by_ended, 5));
	return 0;
}

static int other_connects(void)
{
	return sock_un_connected(SOCK_STREAM, path, -1);
}

static char stack[65536] __attribute__((aligned(16)));

static int job_main(void *arg)
{
	struct job *j = arg;

	become(1234, 2345);
	j->result = j->run();
	syscall(SYS_exit, 0);
	return 0;
}

static pid_t last_job;

static int by_other(int (*run)(void))
{
	struct job j = { run, -1 };
	pid_t pid = clone(job_main, stack + sizeof(stack),
			  CLONE_VM | CLONE_FILES | SIGCHLD, &j);

	MAKER_MUST(pid > 0 && waitpid(pid, NULL, 0) == pid && j.result >= 0);
	last_job = pid;
	return j.result;
}

/* Messages of an ended process and of ours, which tell their sender. */
static int letters[2], words[2];

static int other_writes(void)
{
	MAKER_MUST(send(letters[1], "theirs", 6, 0) == 6);
	MAKER_MUST(send(words[1], "their words", 11, 0) == 11);
	return 0;
}

static void expect_from(const char *what, int fd, const char *text, pid_t pid, uid_t uid, gid_t gid)
{
	union {
		struct cmsghdr c;
		char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} u = { 0 };
	char buf[64];
	struct iovec io = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &u,
			    .msg_controllen = sizeof(u) };
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
	struct ucred from;

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, strlen(text)))
		maker_fail("%s: %zd bytes instead of \"%s\"", what, n, text);
	MAKER_MUST(m.msg_controllen && u.c.cmsg_type == SCM_CREDENTIALS);
	memcpy(&from, CMSG_DATA(&u.c), sizeof(from));
	MAKER_SAME(what, from.pid, pid);
	MAKER_SAME(what, from.uid, uid);
	MAKER_SAME(what, from.gid, gid);
}

static int told[2], ask[2];

/* Connects, is another user afterwards. */
static void be_child(void)
{
	struct look pair_look, fd_look, now;
	int fd = sock_un_connected(SOCK_SEQPACKET, abstract, -1), pair[2];
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	become(99, 98);
	fd_look = look(fd);
	pair_look = look(pair[0]);
	MAKER_MUST(write(told[1], "r", 1) == 1 && read(ask[0], &c, 1) == 1);
	same("the child's connection", fd, &fd_look);
	same("the child's pair", pair[0], &pair_look);
	now = look(pair[1]);
	MAKER_SAME("the child's pair, other end", now.cred.pid, getpid());
	MAKER_MUST(write(told[1], "y", 1) == 1);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	int pair[2], dgram[2], c, s, other_c, other_s, dead_s, waiting, fresh, child_s;
	struct look was[16];
	struct sockaddr_un a;
	struct ucred cred;
	socklen_t len;
	char byte;
	pid_t child, writer;

	maker_begin(argc, argv);
	snprintf(path, sizeof(path), "/tmp/maker-peercred-%d", maker_number());
	snprintf(abstract, sizeof(abstract), "@maker-peercred-%d", maker_number());
	MAKER_MUST(!pipe(told) && !pipe(ask));
	/* Shared memory and descriptors: a job's dumpable flag is ours. */
	listener = sock_un_bound(SOCK_STREAM, path);
	MAKER_MUST(!chmod(path, 0666) && !listen(listener, 5));
	snprintf(ended, sizeof(ended), "@maker-peercred-%d-ended", maker_number());
	by_ended = sock_un_bound(SOCK_STREAM, ended);
	by_other(other_listens);
	other_c = by_other(other_connects);
	other_s = accept(listener, NULL, NULL);
	MAKER_MUST(other_s >= 0);
	l_abs = sock_un_bound(SOCK_SEQPACKET, abstract);
	MAKER_MUST(!listen(l_abs, 5));
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child)
		be_child();
	child_s = accept(l_abs, NULL, NULL);
	MAKER_MUST(read(told[0], &byte, 1) == 1);
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram));
	c = sock_un_connected(SOCK_STREAM, path, -1);
	s = accept(listener, NULL, NULL);
	dead_s = by_other(other_connects);
	MAKER_MUST(send(dead_s, "bye", 3, 0) == 3 && !close(dead_s));
	dead_s = accept(listener, NULL, NULL);
	waiting = sock_un_connected(SOCK_STREAM, path, -1);
	fresh = socket(AF_UNIX, SOCK_STREAM, 0);
	MAKER_MUST(!socketpair(AF_UNIX, SOCK_DGRAM, 0, letters) &&
		   !socketpair(AF_UNIX, SOCK_STREAM, 0, words));
	sock_set(letters[0], SOL_SOCKET, SO_PASSCRED, 1);
	sock_set(words[0], SOL_SOCKET, SO_PASSCRED, 1);
	by_other(other_writes);
	MAKER_MUST(send(letters[1], "mine", 4, 0) == 4 && send(words[1], "my words", 8, 0) == 8);
	writer = last_job;
	MAKER_MUST(prctl(PR_SET_DUMPABLE, 1) == 0);

	const struct {
		const char *what;
		int fd;
	} all[] = {
		{ "listener", listener }, { "listener of an ended process", by_ended },
		{ "client", c }, { "accepted", s }, { "another's client", other_c },
		{ "accepted from another", other_s }, { "accepted from the child", child_s },
		{ "abstract listener", l_abs }, { "pair", pair[0] }, { "pair, other end", pair[1] },
		{ "datagram pair", dgram[0] }, { "accepted from one that has closed", dead_s },
		{ "waiting", waiting }, { "fresh", fresh },
	};
	const int n = sizeof(all) / sizeof(*all);

	for (int i = 0; i < n; i++)
		was[i] = look(all[i].fd);
	MAKER_SAME("uid of another", was[5].cred.uid, 1234);
	MAKER_SAME("groups of another", was[5].n_groups, 3);
	MAKER_SAME("pid of the child", was[6].cred.pid, child);

	maker_ready();
	maker_wait();

	for (int i = 0; i < n; i++)
		same(all[i].what, all[i].fd, &was[i]);
	expect_from("a datagram of an ended process", letters[0], "theirs", writer, 1234, 2345);
	expect_from("a datagram of ours", letters[0], "mine", getpid(), 0, 0);
	expect_from("words of an ended process", words[0], "their words", writer, 1234, 2345);
	expect_from("our words", words[0], "my words", getpid(), 0, 0);
	sock_talk("connection", c, s);
	sock_talk("another's connection", other_c, other_s);
	len = sizeof(a);
	memset(&a, 0, sizeof(a));
	MAKER_MUST(!getsockname(dead_s, (struct sockaddr *)&a, &len));
	if (strcmp(a.sun_path, path))
		maker_fail("accepted from one that has closed: is called \"%s\"", a.sun_path);
	sock_expect("accepted from one that has closed", dead_s, "bye", 3);
	sock_eof("accepted from one that has closed", dead_s);
	s = accept(listener, NULL, NULL);
	len = sizeof(cred);
	MAKER_MUST(s >= 0 && !getsockopt(s, SOL_SOCKET, SO_PEERCRED, &cred, &len));
	MAKER_SAME("who waited", cred.pid, getpid());
	sock_talk("accepted late", waiting, s);
	MAKER_MUST(write(ask[1], "?", 1) == 1 && read(told[0], &byte, 1) == 1);
	MAKER_SAME("child", byte, 'y');
	kill(child, SIGKILL);
	unlink(path);
	maker_ok();
}
