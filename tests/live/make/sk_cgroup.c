/*
 * Whose control group a socket is in (IPAddressDeny=, nft "socket cgroupv2" go by that): two
 * processes in groups of their own with listeners, a connection and UDP sockets; the kernel
 * lists all of them under the group of the process that made them.
 *
 * cr-options: --tcp-established
 */
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <sys/prctl.h>

#include "cgroup_common.h"
#include "sock_common.h"

#ifndef INET_DIAG_CGROUP_ID
#define INET_DIAG_CGROUP_ID 21
#endif
#define N_SOCKS	5

static char unified[128], name[64], inner[96], other[64];
static int stranger_client;
static int own[N_SOCKS], ask[2], told[2];
static pid_t child;

static void enter(const char *group)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/%s", unified, group);
	cgroup_make(path);
	cgroup_move(0, path);
}

/* A cgroup2 directory's inode number is the group's id. */
static uint64_t id_of(const char *group)
{
	char path[320];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", unified, group);
	MAKER_MUST(!stat(path, &st));
	return st.st_ino;
}

static uint64_t group_in(const struct nlmsghdr *h)
{
	const struct rtattr *a = (void *)((char *)NLMSG_DATA(h) + sizeof(struct inet_diag_msg));
	int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(struct inet_diag_msg)));
	uint64_t id = 0;

	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if ((a->rta_type & NLA_TYPE_MASK) == INET_DIAG_CGROUP_ID)
			memcpy(&id, RTA_DATA(a), sizeof(id));
	return id;
}

/* 0: not listed, or without its group. */
static uint64_t look(int family, int protocol, ino_t ino)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} req = { .h = { sizeof(req), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 },
		  .r = { .sdiag_family = (uint8_t)family, .sdiag_protocol = (uint8_t)protocol,
			 .idiag_states = ~0u } };
	static _Alignas(8) char buf[65536];
	int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	uint64_t found = 0;

	MAKER_MUST(nl >= 0 && send(nl, &req, sizeof(req), 0) == sizeof(req));
	for (bool end = false; !end;) {
		ssize_t n = recv(nl, buf, sizeof(buf), 0);

		MAKER_MUST(n > 0);
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (size_t)n); h = NLMSG_NEXT(h, n)) {
			MAKER_MUST(h->nlmsg_type != NLMSG_ERROR);
			end |= h->nlmsg_type == NLMSG_DONE;
			if (!end && ((struct inet_diag_msg *)NLMSG_DATA(h))->idiag_inode == ino)
				found = group_in(h);
		}
	}
	close(nl);
	return found;
}

static void make_sockets(void)
{
	struct sockaddr_in a;
	struct sockaddr_in6 a6;
	socklen_t len = sizeof(a);

	own[0] = socket(AF_INET, SOCK_STREAM, 0);
	sock_in(&a, "127.0.0.1", 0);
	MAKER_MUST(!bind(own[0], (struct sockaddr *)&a, sizeof(a)) && !listen(own[0], 4) &&
		   !getsockname(own[0], (struct sockaddr *)&a, &len));
	own[1] = socket(AF_INET, SOCK_STREAM, 0);
	MAKER_MUST(!connect(own[1], (struct sockaddr *)&a, sizeof(a)));
	own[2] = accept(own[0], NULL, NULL);
	own[3] = socket(AF_INET, SOCK_DGRAM, 0);
	MAKER_MUST(own[2] >= 0 && !bind(own[3], (struct sockaddr *)&a, sizeof(a)));
	own[4] = socket(AF_INET6, SOCK_DGRAM, 0);
	sock_in6(&a6, "::1", 0);
	MAKER_MUST(!bind(own[4], (struct sockaddr *)&a6, sizeof(a6)));
}

static uint64_t told_group(int fd)
{
	struct stat st;

	MAKER_MUST(!fstat(fd, &st));
	return look(sock_int(fd, SOL_SOCKET, SO_DOMAIN), sock_int(fd, SOL_SOCKET, SO_PROTOCOL),
		    st.st_ino);
}

static bool kernel_tells(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint64_t id;

	MAKER_MUST(fd >= 0 && !listen(fd, 1));
	id = told_group(fd);
	close(fd);
	return id;
}

static const char *check_sockets(const char *group)
{
	static const char *const names[N_SOCKS] = { "listener", "client", "accepted", "UDP",
						    "UDP over IPv6" };
	static char text[160];
	uint64_t should = id_of(group);

	for (int i = 0; i < N_SOCKS; i++) {
		uint64_t is = told_group(own[i]);

		if (is == should)
			continue;
		snprintf(text, sizeof(text), "%s is in group %llu, not in %llu (%s)", names[i],
			 (unsigned long long)is, (unsigned long long)should, group);
		return text;
	}
	sock_talk("connection", own[1], own[2]);
	return NULL;
}

/* A listener and what it accepts, as a .socket unit's: in a group where nobody is. */
static int strangers[3];

static void make_strangers(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	enter(other);
	for (int i = 0; i < 2; i++) {
		strangers[i] = socket(AF_INET, i ? SOCK_DGRAM : SOCK_STREAM, 0);
		sock_in(&a, "127.0.0.1", 0);
		MAKER_MUST(!bind(strangers[i], (struct sockaddr *)&a, sizeof(a)));
	}
	MAKER_MUST(!listen(strangers[0], 4) &&
		   !getsockname(strangers[0], (struct sockaddr *)&a, &len));
	enter(name);
	stranger_client = socket(AF_INET, SOCK_STREAM, 0);
	MAKER_MUST(!connect(stranger_client, (struct sockaddr *)&a, sizeof(a)));
	strangers[2] = accept(strangers[0], NULL, NULL);
	MAKER_MUST(strangers[2] >= 0);
}

static void check_strangers(void)
{
	static const char *const names[] = { "another group's listener", "another group's UDP",
					     "accepted by another group's" };

	for (int i = 0; i < 3; i++)
		MAKER_SAME(names[i], told_group(strangers[i]), id_of(other));
	sock_talk("connection to another group's", stranger_client, strangers[2]);
}

static void be_child(void)
{
	const char *wrong;
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	enter(inner);
	make_sockets();
	MAKER_MUST(write(told[1], "r", 1) == 1);
	MAKER_MUST(read(ask[0], &c, 1) == 1);
	wrong = check_sockets(inner);
	if (wrong)
		maker_log("FAIL: child: %s", wrong);
	MAKER_MUST(write(told[1], wrong ? "n" : "y", 1) == 1);
	for (;;)
		pause();
}

static void clean_up(void)
{
	const char *const groups[] = { inner, other, name };
	char path[320];

	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	enter("");
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", unified, groups[i]);
		cgroup_remove(path);
	}
}

int main(int argc, char **argv)
{
	const char *wrong;
	char c;

	maker_begin(argc, argv);
	cgroup_mount(NULL, unified, sizeof(unified));
	if (!*unified)
		maker_skip("no cgroup2 mounted");
	if (!kernel_tells())
		maker_skip("the kernel tells no socket's group (Linux 5.9, CONFIG_SOCK_CGROUP_DATA)");
	snprintf(name, sizeof(name), "crk-sk-%d", maker_number());
	snprintf(inner, sizeof(inner), "%s/child", name);
	snprintf(other, sizeof(other), "crk-sk-%d-other", maker_number());
	MAKER_MUST(!pipe(ask) && !pipe(told));
	enter(name);
	make_sockets();
	make_strangers();
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child)
		be_child();
	MAKER_MUST(read(told[0], &c, 1) == 1);
	wrong = check_sockets(name);
	if (wrong)
		maker_fail("before the dump: %s", wrong);
	maker_ready();
	maker_wait();

	check_strangers();
	wrong = check_sockets(name);
	MAKER_MUST(write(ask[1], "?", 1) == 1 && read(told[0], &c, 1) == 1);
	clean_up();
	if (wrong)
		maker_fail("%s", wrong);
	if (c == 'y')
		maker_ok();
	return 1;
}
