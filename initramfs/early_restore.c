/*
 * The trees come back: each by a process of its own, all at once, as children of PID 1 in
 * their unit's control group. A restore that fails, hangs or crashes takes only its own unit
 * with it; that unit's remains are killed and it starts cold later.
 *
 * The restoring process enters the unit's group first, so memory filled from outside is
 * charged to the unit too. It ends as soon as its tree runs.
 *
 * Before the trees run, and while their connections still are in repair mode, the network is
 * unlocked: only then do window probes, unsent bytes and the acknowledgements that wake waiting
 * peers get out, and their answers in. It must not be earlier than the last tree's sockets
 * are there, or the kernel would answer for those with resets. So every tree waits for the
 * slowest, for a limited time.
 *
 * The trap: PID 1 itself may not clone with CLONE_PARENT; a service of the distribution's
 * initramfs must, or the trees would lose their parent when it ends (PR_SET_PDEATHSIG).
 */
#include "initramfs/early.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "cr/cr.h"
#include "initramfs/early_store.h"
#include "util/io.h"
#include "util/log.h"

/* Beyond this plus 0.1 s per MiB a restore does not work, it hangs; and all others wait. */
#define RESTORE_BASE_USEC	(30ull * 1000000u)
#define RESTORE_MIB_USEC	100000u
#define REAP_USEC		(5ull * 1000000u)
/* The kernel's fs.nr_open: PID 1 begins with 1,024, a tree may have more files than that. */
#define FILES_MAX		(1u << 20)

/* A ready tree waits so long for the others. */
#define READY_WAIT_USEC		(10ull * 1000000u)

/* What a child says: first, unless it fails before, that it is ready; then how it ended. */
struct result {
	bool ready;
	int error;
	pid_t root;
	char reason[EARLY_REASON_BYTES];
};

struct job {
	struct manifest_unit *unit;
	const struct manifest_tree *tree;
	pid_t pid;
	int fd;			/* results come here; -EBADF: there is the last one */
	int go_fd;		/* a byte here: the tree may run */
	bool ready;
	uint64_t deadline;
	struct result result;
};

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

struct gate {
	int say_fd, go_fd;
};

/* struct cr_opts.notify. A parent that is gone or forgets us does not hold the tree back. */
static int wait_for_others(void *arg, const char *event, pid_t root)
{
	const struct gate *g = arg;
	const struct result ready = { .ready = true, .root = root };
	struct pollfd p = { .fd = g->go_fd, .events = POLLIN };

	if (strcmp(event, "network-unlock"))
		return 0;
	if (write(g->say_fd, &ready, sizeof(ready)) != sizeof(ready))
		return 0;
	poll(&p, 1, READY_WAIT_USEC / 1000 + 1000);
	return 0;
}

static int restore_tree(struct early *e, struct job *j, const struct gate *gate, pid_t *ret_root)
{
	_cleanup_close_ int work_fd = open(CRKEXEC_RUN_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int out_fd = -EBADF;
	struct early_images images;
	struct cr_external *externals;
	struct cr_opts opts = {
		.work_dir_fd = work_fd, .pid = j->tree->root_pid,
		.tcp_established = true, .ext_unix_sk = true, .file_locks = true,
		.link_remap = true, .detached = true, .sibling = true, .time_namespace = true,
		/* Systemd knows processes by the pids that it sees. */
		.keep_outer_pids = true,
		.network_lock = CR_LOCK_SKIP, .cgroup_mode = -1,
		.n_externals = j->unit->n_streams,
		.notify = wait_for_others, .notify_arg = (void *)gate,
	};
	int r;

	r = early_cgroup_enter(j->unit->cgroup);
	if (r < 0)
		return log_err(r, "cannot enter control group %s", j->unit->cgroup);
	out_fd = open_output(j->unit);
	if (out_fd < 0)
		return out_fd;
	r = make_externals(j->unit, out_fd, &externals);
	if (r < 0)
		return r;
	opts.externals = externals;
	r = early_images_open(e, j->tree, &images);
	if (r < 0)
		return r;
	opts.store = images.store;
	opts.clock_advance_nsec = early_images_clock_advance(e, j->unit, j->tree, &images);
	r = cr_restore(&opts, ret_root, NULL);
	if (r == 0 && *ret_root != j->tree->root_pid)
		r = log_fail(-EEXIST, "restored as pid %d instead of %d", *ret_root,
			     j->tree->root_pid);
	return r;
}

static void __attribute__((noreturn)) restore_child(struct early *e, struct job *j,
						    const struct gate *gate)
{
	const struct rlimit files = { FILES_MAX, FILES_MAX };
	struct result res = { 0 };
	int r;

	/* The first error of this process is the reason, not an earlier one of ours. */
	log_init(LOGLEVEL_INFO, e->log_fd);
	LOG_SCOPE("%s pid %d", j->unit->name, j->tree->root_pid);
	/* The trees' own limits are in their images. */
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		log_warn("cannot raise the limit of open files: %s", strerror(errno));
	r = restore_tree(e, j, gate, &res.root);
	res.error = r;
	if (r < 0)
		snprintf(res.reason, sizeof(res.reason), "%s",
			 *log_first_error() ? log_first_error() : strerror(-r));
	if (write(gate->say_fd, &res, sizeof(res)) != sizeof(res))
		_exit(2);
	_exit(r < 0);
}

uint64_t early_restore_usec(const struct manifest_unit *u)
{
	uint64_t bytes = u->image_bytes + manifest_pre_dump_bytes(u);

	return RESTORE_BASE_USEC + (bytes >> 20) * RESTORE_MIB_USEC;
}

static int start(struct early *e, struct job *j)
{
	_cleanup_close_ int rd = -EBADF, wr = -EBADF, wait = -EBADF, go = -EBADF;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return neg_errno();
	rd = p[0];
	wr = p[1];
	if (pipe2(p, O_CLOEXEC) < 0)
		return neg_errno();
	wait = p[0];
	go = p[1];
	j->pid = syscall(SYS_clone, e->initrd ? CLONE_PARENT : SIGCHLD, 0, 0, 0, 0);
	if (j->pid < 0)
		return neg_errno();
	if (j->pid == 0) {
		/* Or it would never see the end of its own waiting. */
		close(take_fd(&go));
		restore_child(e, j, &(struct gate){ wr, wait });
	}
	j->fd = take_fd(&rd);
	j->go_fd = take_fd(&go);
	j->deadline = clock_usec(CLOCK_BOOTTIME) + early_restore_usec(j->unit);
	return 0;
}

/* One that hangs in the kernel is left behind: the machine must come up. */
static void reap(const struct job *j)
{
	uint64_t until = clock_usec(CLOCK_BOOTTIME) + REAP_USEC;

	while (waitpid(j->pid, NULL, WNOHANG) == 0) {
		if (clock_usec(CLOCK_BOOTTIME) > until) {
			log_warn("restoring process %d does not end, going on without it", j->pid);
			return;
		}
		usleep(1000);
	}
}

static void close_job(struct early *e, struct job *j)
{
	close(take_fd(&j->fd));
	close_fdp(&j->go_fd);
	j->go_fd = -EBADF;
	if (!e->initrd)
		reap(j);
}

static void hear(struct early *e, struct job *j)
{
	ssize_t n = read(j->fd, &j->result, sizeof(j->result));

	if (n == sizeof(j->result) && j->result.ready && !j->ready) {
		j->ready = true;
		return;
	}
	if (n != sizeof(j->result)) {
		j->result = (struct result){ .error = -ECHILD };
		snprintf(j->result.reason, sizeof(j->result.reason),
			 "the restore of pid %d ended without a result (crashed or killed)",
			 j->tree->root_pid);
	}
	j->result.reason[sizeof(j->result.reason) - 1] = '\0';
	close_job(e, j);
}

static void give_up(struct early *e, struct job *j)
{
	kill(j->pid, SIGKILL);
	j->result.error = -ETIMEDOUT;
	snprintf(j->result.reason, sizeof(j->result.reason),
		 "the restore of pid %d took too long", j->tree->root_pid);
	close_job(e, j);
}

/*
 * Unlocks when no tree has still to make its sockets, or when the first ready one has waited
 * long enough. *until: when that is, UINT64_MAX before the first is ready.
 */
static void open_gate(struct early *e, struct job *jobs, size_t n, uint64_t now, uint64_t *until)
{
	size_t ready = 0, making = 0;

	for (size_t i = 0; i < n; i++) {
		ready += jobs[i].fd >= 0 && jobs[i].ready && jobs[i].go_fd >= 0;
		making += jobs[i].fd >= 0 && !jobs[i].ready;
	}
	if (!ready)
		return;
	if (*until == UINT64_MAX)
		*until = now + READY_WAIT_USEC;
	if (making && now < *until)
		return;
	if (making)
		log_warn("the network is unlocked before %zu trees are ready: they take too long",
			 making);
	early_net_unlock(e);
	for (size_t i = 0; i < n; i++) {
		if (!jobs[i].ready || jobs[i].go_fd < 0)
			continue;
		/* A byte and not just the end: later children have copies of our descriptor. */
		if (write(jobs[i].go_fd, "", 1) != 1)
			log_warn("cannot tell %s to go on: %s", jobs[i].unit->name,
				 strerror(errno));
		close(take_fd(&jobs[i].go_fd));
	}
}

static void wait_for_all(struct early *e, struct job *jobs, size_t n)
{
	_cleanup_free_ struct pollfd *p = calloc(n, sizeof(*p));
	uint64_t gate = UINT64_MAX;

	for (;;) {
		uint64_t now = clock_usec(CLOCK_BOOTTIME), next = UINT64_MAX;
		size_t open = 0;

		open_gate(e, jobs, n, now, &gate);
		if (gate > now)
			next = gate;

		for (size_t i = 0; i < n; i++) {
			if (jobs[i].fd >= 0 && (!p || jobs[i].deadline <= now))
				give_up(e, &jobs[i]);
			if (jobs[i].fd >= 0) {
				next = MIN(next, jobs[i].deadline);
				open++;
			}
			if (p)
				p[i] = (struct pollfd){ .fd = jobs[i].fd, .events = POLLIN };
		}
		if (!open)
			return;
		if (poll(p, n, (next - now) / 1000 + 1) <= 0)
			continue;
		for (size_t i = 0; i < n; i++)
			if (p[i].revents)
				hear(e, &jobs[i]);
	}
}

static void mark_cold(struct manifest_unit *u, const char *reason)
{
	u->outcome = OUTCOME_COLD;
	if (!u->reason)
		u->reason = strdup(reason);
}

static void reap_dead(struct early *e)
{
	if (!e->initrd)
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
}

static bool is_alive(pid_t pid)
{
	return kill(pid, 0) == 0 || errno != ESRCH;
}

static void judge(struct early *e, struct manifest_unit *u, struct job *jobs, size_t n)
{
	uint64_t now = clock_usec(CLOCK_REALTIME);

	for (size_t i = 0; i < n; i++)
		if (jobs[i].unit == u && jobs[i].result.error < 0)
			mark_cold(u, jobs[i].result.reason);
	for (size_t i = 0; i < u->n_trees && u->outcome != OUTCOME_COLD; i++)
		if (!is_alive(u->trees[i].root_pid))
			mark_cold(u, "its process ended right after the restore");
	if (u->outcome == OUTCOME_COLD) {
		if (early_cgroup_kill(u->cgroup) < 0)
			log_warn("%s will start beside what is left of it", u->name);
		reap_dead(e);
		early_carry_remove(e, u);
		early_say("%s was not restored, it will start cold: %s", u->name,
			  u->reason ? u->reason : "out of memory");
		return;
	}
	u->outcome = OUTCOME_RESTORED;
	u->restored_at_usec = now;
	early_say("%s restored (pid %d)", u->name, u->main_pid);
}

static size_t start_unit(struct early *e, struct manifest_unit *u, struct job *jobs)
{
	size_t n = 0;
	int r = early_cgroup_make(e, u->cgroup);

	/* Something before us (its files, say) has already failed. */
	if (u->outcome == OUTCOME_COLD)
		return 0;
	if (r < 0)
		mark_cold(u, log_first_error());
	if (!u->n_trees)
		mark_cold(u, "the manifest has no process of it");
	for (size_t i = 0; i < u->n_trees && u->outcome != OUTCOME_COLD; i++) {
		struct job *j = &jobs[n];

		*j = (struct job){ .unit = u, .tree = &u->trees[i], .fd = -EBADF,
				   .go_fd = -EBADF };
		r = start(e, j);
		if (r < 0)
			mark_cold(u, strerror(-r));
		else
			n++;
	}
	return n;
}

int early_restore(struct early *e)
{
	struct manifest *m = e->manifest;
	_cleanup_free_ struct job *jobs = NULL;
	size_t n = 0, room = 1;

	for (size_t i = 0; i < m->n_units; i++)
		room += m->units[i].n_trees;
	jobs = calloc(room, sizeof(*jobs));
	if (!jobs)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_units; i++)
		n += start_unit(e, &m->units[i], jobs + n);
	wait_for_all(e, jobs, n);
	reap_dead(e);
	for (size_t i = 0; i < m->n_units; i++)
		judge(e, &m->units[i], jobs, n);
	return 0;
}
