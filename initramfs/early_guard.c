/*
 * The guard: in the distribution's initramfs, long before the restore, a process that raises
 * the PID fence, sets the clock and locks every network interface as it appears. Started
 * before udev, so before any network driver is loaded; ended by the restore, or by itself
 * when that never comes.
 *
 * The trap: an interface exists for a moment before its message is read. It is not up yet:
 * whoever would bring it up learns of it by the same messages and has more to do.
 */
#include "initramfs/early.h"

#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#include "netlock/netlock.h"
#include "util/io.h"
#include "util/log.h"

#define PID_FILE	CRKEXEC_RUN_DIR "/guard.pid"
/*
 * Long enough for someone to type a passphrase; not for ever, for the passphrase may have to
 * come over the network.
 */
#define GUARD_USEC	(300ull * 1000000u)

static int links_open(void)
{
	const struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
					NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return neg_errno();
	return take_fd(&fd);
}

/* What has the lock already keeps it. lo is locked when the trees come back. */
static void lock_all(struct netlock *lock)
{
	struct if_nameindex *list = if_nameindex();

	for (struct if_nameindex *i = list; i && i->if_index; i++) {
		int r;

		if (!strcmp(i->if_name, "lo"))
			continue;
		r = netlock_lock_ifindex(lock, i->if_index);
		if (r < 0)
			log_err(r, "cannot lock interface %s", i->if_name);
	}
	if (list)
		if_freenameindex(list);
}

static void drain(int fd)
{
	char buf[16384];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) >= 0 || errno == EINTR ||
	       errno == ENOBUFS)
		;
}

static void notify_ready(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = -EBADF;
	size_t n = path ? strlen(path) : 0;

	if (!n || n >= sizeof(addr.sun_path))
		return;
	memcpy(addr.sun_path, path, n);
	if (addr.sun_path[0] == '@')
		addr.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (const struct sockaddr *)&addr,
			     offsetof(struct sockaddr_un, sun_path) + n) < 0)
		log_err(neg_errno(), "cannot tell systemd that the guard stands");
}

static int watch(struct netlock *lock, int links_fd, int signal_fd)
{
	uint64_t end = clock_usec(CLOCK_BOOTTIME) + GUARD_USEC;

	for (;;) {
		struct pollfd p[] = {
			{ .fd = signal_fd, .events = POLLIN }, { .fd = links_fd, .events = POLLIN },
		};
		uint64_t now = clock_usec(CLOCK_BOOTTIME);

		if (now >= end)
			return log_fail(-ETIMEDOUT, "nobody came to restore anything: the network"
						    " is unlocked");
		if (poll(p, ARRAY_SIZE(p), (end - now) / 1000 + 1) < 0 && errno != EINTR)
			return log_err(neg_errno(), "the guard cannot wait");
		if (p[0].revents)
			return 0;
		if (p[1].revents) {
			drain(links_fd);
			lock_all(lock);
		}
	}
}

static int write_pid_file(void)
{
	_cleanup_close_ int fd = open(PID_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC |
				      O_NOFOLLOW, 0600);
	_cleanup_free_ char *text = str_fmt("%d\n", getpid());

	if (fd < 0 || !text)
		return text ? neg_errno() : -ENOMEM;
	return write_full(fd, text, strlen(text));
}

int early_guard(struct early *e, bool notify)
{
	_cleanup_close_ int links_fd = -EBADF, signal_fd = -EBADF;
	sigset_t signals;
	int r;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	links_fd = links_open();
	if (signal_fd < 0 || links_fd < 0)
		return log_err(links_fd < 0 ? links_fd : neg_errno(), "the guard cannot watch");
	/* The fence first: everything else makes processes. */
	if (early_fence(e) < 0 || early_clock(e) < 0)
		log_warn("going on without");
	r = netlock_open(&e->lock);
	if (r < 0)
		return log_err(r, "cannot prepare the network lock");
	lock_all(e->lock);
	r = write_pid_file();
	if (r < 0)
		log_err(r, "cannot write " PID_FILE);
	if (notify)
		notify_ready();
	r = watch(e->lock, links_fd, signal_fd);
	netlock_close(e->lock);
	e->lock = NULL;
	unlink(PID_FILE);
	return r;
}

int early_guard_stop(void)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int pidfd = -EBADF;
	struct pollfd p = { .events = POLLIN };
	int pid, r;

	r = read_file_at(AT_FDCWD, PID_FILE, 64, &text, NULL);
	if (r == -ENOENT)
		return 0;
	if (r == 0) {
		text[strcspn(text, "\n")] = '\0';
		r = parse_int(text, &pid);
	}
	if (r < 0 || pid <= 1)
		return log_err(r < 0 ? r : -EINVAL, "cannot read " PID_FILE);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return errno == ESRCH ? 0 : log_err(neg_errno(), "cannot reach the guard");
	syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
	p.fd = pidfd;
	if (poll(&p, 1, EARLY_END_MSEC) > 0)
		return 0;
	/* Its locks go with it, whatever it waits for. */
	log_warn("the guard does not end, killing it");
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	return poll(&p, 1, EARLY_END_MSEC) > 0 ? 0 : -ETIMEDOUT;
}
