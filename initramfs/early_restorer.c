/*
 * Restores one tree: see early_restorer.h. The process enters the unit's group first, so
 * memory filled from outside is charged to the unit too. It ends as soon as its tree runs.
 *
 * Until it is told to go it shares our root and working directory (CLONE_FS), which move to the
 * root filesystem meanwhile.
 */
#include "initramfs/early_restorer.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "cr/cr.h"
#include "initramfs/early_store.h"
#include "util/io.h"
#include "util/log.h"

/* The kernel's fs.nr_open: PID 1 begins with 1,024, a tree may have more files than that. */
#define FILES_MAX		(1u << 20)
/* The gate opens after RESTORER_READY_USEC; who holds the lock may have to be told, then killed, before. */
#define RESTORER_WAIT_MSEC	((int)(RESTORER_READY_USEC / 1000) + 2 * EARLY_END_MSEC + 1000)

static int open_output(const struct manifest_unit *u)
{
	_cleanup_free_ char *path = str_fmt(CRKEXEC_RUN_DIR "/%s.out", u->name);
	int fd;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? log_err(neg_errno(), "cannot open %s", path) : fd;
}

/* Descriptors that led to journald write to a file until the unit is adopted. */
static int make_externals(const struct manifest_unit *u, int out_fd, struct cr_external **ret)
{
	struct cr_external *x = calloc(u->n_streams + 1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	for (size_t i = 0; i < u->n_streams; i++) {
		x[i].key = str_fmt("socket:[%llu]", (unsigned long long)u->streams[i].socket_ino);
		x[i].fd = out_fd;
		if (!x[i].key)
			return -ENOMEM;
	}
	*ret = x;
	return 0;
}

/* struct cr_opts.notify. A parent that is gone or forgets us does not hold the tree back. */
static int wait_for_others(void *arg, const char *event, pid_t root)
{
	const struct restorer_result ready = { .ready = true, .root = root };
	struct pollfd p = { .fd = *(const int *)arg, .events = POLLIN };

	if (strcmp(event, "network-unlock"))
		return 0;
	if (send(p.fd, &ready, sizeof(ready), MSG_NOSIGNAL) != sizeof(ready))
		return 0;
	poll(&p, 1, RESTORER_WAIT_MSEC);
	return 0;
}

/* What needs neither file systems nor network. */
static int prepare(struct early *e, const struct manifest_unit *u, const struct manifest_tree *t,
		   int group_fd, struct early_images *images)
{
	const struct rlimit files = { FILES_MAX, FILES_MAX };
	int r;

	/* The tree's own limits are in its images. */
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		log_warn("cannot raise the limit of open files: %s", strerror(errno));
	r = early_cgroup_enter(group_fd);
	close(group_fd);
	if (r < 0)
		return log_err(r, "cannot enter control group %s", u->cgroup);
	return early_images_open(e, t, images);
}

/* Without the byte: we are not wanted. */
static void wait_for_the_world(int fd)
{
	char byte;
	ssize_t n;

	do
		n = recv(fd, &byte, 1, 0);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(2);
}

static int restore(struct early *e, const struct manifest_unit *u, const struct manifest_tree *t,
		   struct early_images *images, int fd, pid_t *ret_root)
{
	_cleanup_close_ int work_fd = -EBADF, out_fd = -EBADF;
	struct cr_external *externals;
	struct cr_opts opts = {
		.store = images->store, .pid = t->root_pid,
		.tcp_established = true, .ext_unix_sk = true, .file_locks = true,
		.link_remap = true, .detached = true, .sibling = true, .time_namespace = true,
		/* Systemd knows processes by the pids that it sees. */
		.keep_outer_pids = true,
		.network_lock = CR_LOCK_SKIP, .cgroup_mode = -1,
		.n_externals = u->n_streams,
		.notify = wait_for_others, .notify_arg = &fd,
	};
	int r;

	if (unshare(CLONE_FS) < 0)
		return log_err(neg_errno(), "cannot have a root directory of its own");
	work_fd = open(CRKEXEC_RUN_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	out_fd = open_output(u);
	if (out_fd < 0)
		return out_fd;
	r = make_externals(u, out_fd, &externals);
	if (r < 0)
		return r;
	opts.work_dir_fd = work_fd;
	opts.externals = externals;
	opts.clock_advance_nsec = early_images_clock_advance(e, u, t, images);
	r = cr_restore(&opts, ret_root, NULL);
	if (r == 0 && *ret_root != t->root_pid)
		r = log_fail(-EEXIST, "restored as pid %d instead of %d", *ret_root, t->root_pid);
	return r;
}

static void __attribute__((noreturn)) run(struct early *e, const struct manifest_unit *u,
					  const struct manifest_tree *t, int group_fd, int fd)
{
	struct restorer_result res = { 0 };
	struct early_images images;
	int r;

	/* The first error of this process is the reason, not an earlier one of ours. */
	log_init(LOGLEVEL_INFO, e->log_fd);
	LOG_SCOPE("%s pid %d", u->name, t->root_pid);
	r = prepare(e, u, t, group_fd, &images);
	if (r == 0) {
		wait_for_the_world(fd);
		r = restore(e, u, t, &images, fd, &res.root);
	}
	res.error = r;
	if (r < 0)
		snprintf(res.reason, sizeof(res.reason), "%s",
			 *log_first_error() ? log_first_error() : strerror(-r));
	if (send(fd, &res, sizeof(res), MSG_NOSIGNAL) != sizeof(res))
		_exit(2);
	_exit(r < 0);
}

int restorer_start(struct early *e, const struct manifest_unit *u, const struct manifest_tree *t,
		   struct restorer *ret)
{
	/* Here, where nobody moves what the path leads over. */
	_cleanup_close_ int group = early_cgroup_open(u->cgroup), ours = -EBADF, theirs = -EBADF;
	unsigned long flags = CLONE_FS | CLONE_PIDFD | (e->initrd ? CLONE_PARENT : SIGCHLD);
	int p[2];

	if (group < 0)
		return log_err(group, "cannot open control group %s", u->cgroup);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0)
		return neg_errno();
	ours = p[0];
	theirs = p[1];
	/* The trap: PID 1 itself may not clone with CLONE_PARENT. */
	ret->pid = syscall(SYS_clone, flags, 0, &ret->pidfd, 0, 0);
	if (ret->pid < 0)
		return neg_errno();
	if (ret->pid == 0) {
		/* Or it would never see the end of its own waiting. */
		close(take_fd(&ours));
		run(e, u, t, take_fd(&group), theirs);
	}
	ret->fd = take_fd(&ours);
	return 0;
}

int restorer_go(const struct restorer *r)
{
	/* A byte and not just the end: others have copies of our descriptor. */
	return send(r->fd, "", 1, MSG_NOSIGNAL) == 1 ? 0 : neg_errno();
}

void restorer_kill(const struct restorer *r)
{
	/* -ESRCH: it has ended, which is the same. */
	if (syscall(SYS_pidfd_send_signal, r->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		log_warn("cannot end the restoring process %d: %s", r->pid, strerror(errno));
}

void restorer_done(struct early *e, struct restorer *r)
{
	struct pollfd p = { .fd = r->pidfd, .events = POLLIN };

	close(take_fd(&r->fd));
	if (poll(&p, 1, EARLY_END_MSEC) <= 0)
		log_warn("restoring process %d does not end, going on without it", r->pid);
	else if (!e->initrd)
		waitpid(r->pid, NULL, WNOHANG);
	close(take_fd(&r->pidfd));
}
