/*
 * UTS namespaces of parts of a tree: the root has one of its own, a child another, its child a third, one went
 * back to the host's by a descriptor, one shares that of a process that it does not come from. The name of the
 * host stays the host's.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "maker.h"

#define MEMBERS	5

/* By the descriptor it would answer with its names when asked; in its own namespace, or that behind fd. */
struct member {
	pid_t pid;
	int sock;
	struct utsname names;
};

static void names_set(const char *node, const char *domain)
{
	if (unshare(CLONE_NEWUTS) < 0 || sethostname(node, strlen(node)) < 0 || setdomainname(domain, strlen(domain)) < 0)
		maker_fail("uts namespace %s: %s", node, strerror(errno));
}

static void __attribute__((noreturn)) answer(int sock)
{
	struct utsname names;
	char c;

	while (read(sock, &c, 1) == 1)
		if (uname(&names) < 0 || write(sock, &names, sizeof(names)) != sizeof(names))
			break;
	_exit(0);
}

static void ask(struct member *m, struct utsname *names)
{
	if (write(m->sock, "?", 1) != 1 || read(m->sock, names, sizeof(*names)) != sizeof(*names))
		maker_fail("process %d does not answer", m->pid);
}

static int uts_of(pid_t pid)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/uts", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		maker_fail("%s: %s", path, strerror(errno));
	return fd;
}

/* node: in a namespace of that name of its own; NULL: in the one behind fd, or where its maker is (-1). */
static struct member begin(const char *node, int fd)
{
	struct member m;
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		maker_fail("socketpair: %s", strerror(errno));
	m.pid = fork();
	if (m.pid < 0)
		maker_fail("fork: %s", strerror(errno));
	if (!m.pid) {
		close(socks[0]);
		if (node)
			names_set(node, "part.example");
		if (fd >= 0 && setns(fd, CLONE_NEWUTS) < 0)
			maker_fail("setns: %s", strerror(errno));
		answer(socks[1]);
	}
	close(socks[1]);
	m.sock = socks[0];
	ask(&m, &m.names);
	return m;
}

static ino_t inode_of(pid_t pid)
{
	struct stat st;
	int fd = uts_of(pid);

	if (fstat(fd, &st) < 0)
		maker_fail("fstat: %s", strerror(errno));
	close(fd);
	return st.st_ino;
}

static void check(struct member *m, size_t i)
{
	struct utsname names;

	ask(m, &names);
	if (strcmp(names.nodename, m->names.nodename) || strcmp(names.domainname, m->names.domainname))
		maker_fail("process %zu is on %s.%s, was on %s.%s", i, names.nodename, names.domainname, m->names.nodename,
			   m->names.domainname);
}

int main(int argc, char **argv)
{
	struct member m[MEMBERS];
	int host;

	maker_begin(argc, argv);
	host = uts_of(getpid());
	m[0] = begin(NULL, -1);		/* the host's, before the root leaves it */
	names_set("root-part", "example");
	m[1] = begin("child-part", -1);
	m[2] = begin("other-part", -1);
	m[3] = begin(NULL, uts_of(m[1].pid));
	m[4] = begin(NULL, host);
	maker_ready();
	maker_wait();

	for (size_t i = 0; i < MEMBERS; i++)
		check(&m[i], i);
	if (inode_of(m[3].pid) != inode_of(m[1].pid) || inode_of(m[4].pid) != inode_of(m[0].pid))
		maker_fail("two processes do not share a uts namespace any more");
	if (inode_of(m[2].pid) == inode_of(m[1].pid) || inode_of(getpid()) == inode_of(m[0].pid))
		maker_fail("two processes share a uts namespace");
	/* A change in one is seen by those who share it, and by nobody else. */
	if (setns(uts_of(m[1].pid), CLONE_NEWUTS) < 0 || sethostname("renamed", 7) < 0)
		maker_fail("sethostname: %s", strerror(errno));
	strcpy(m[1].names.nodename, "renamed");
	strcpy(m[3].names.nodename, "renamed");
	for (size_t i = 0; i < MEMBERS; i++)
		check(&m[i], i);
	maker_ok();
}
