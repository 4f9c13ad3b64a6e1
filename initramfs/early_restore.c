/*
 * The trees come back: each by a process of its own (early_restorer.c), all at once, as children
 * of PID 1 in their unit's control group. A restore that fails, hangs or crashes takes only its
 * own unit with it; that unit's remains are killed and it starts cold later.
 *
 * Before the trees run, and while their connections still are in repair mode, the network is
 * unlocked: only then do window probes, unsent bytes and the acknowledgements that wake waiting
 * peers get out, and their answers in. It must not be earlier than the last tree's sockets
 * are there, or the kernel would answer for those with resets. So every tree waits for the
 * slowest, for a limited time.
 */
#include "initramfs/early_restorer.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "util/io.h"
#include "util/log.h"

/* Beyond this plus 0.1 s per MiB a restore does not work, it hangs; and all others wait. */
#define RESTORE_BASE_USEC	(30ull * 1000000u)
#define RESTORE_MIB_USEC	100000u

struct early_job {
	struct manifest_unit *unit;
	const struct manifest_tree *tree;
	struct restorer r;		/* fd -EBADF: there is the last result */
	bool ready, released;
	uint64_t deadline;
	struct restorer_result result;
};

uint64_t early_restore_usec(const struct manifest_unit *u)
{
	uint64_t bytes = u->image_bytes + manifest_pre_dump_bytes(u);

	return RESTORE_BASE_USEC + (bytes >> 20) * RESTORE_MIB_USEC;
}

static void hear(struct early *e, struct early_job *j)
{
	ssize_t n;

	/* ECONNRESET, once: it has ended and not read our last byte. What it said is still there. */
	do
		n = recv(j->r.fd, &j->result, sizeof(j->result), 0);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n == sizeof(j->result) && j->result.ready && !j->ready) {
		j->ready = true;
		return;
	}
	if (n != sizeof(j->result)) {
		j->result = (struct restorer_result){ .error = -ECHILD };
		snprintf(j->result.reason, sizeof(j->result.reason),
			 "the restore of pid %d ended without a result (crashed or killed)",
			 j->tree->root_pid);
	}
	j->result.reason[sizeof(j->result.reason) - 1] = '\0';
	restorer_done(e, &j->r);
}

static void end(struct early *e, struct early_job *j)
{
	restorer_kill(&j->r);
	restorer_done(e, &j->r);
}

static void give_up(struct early *e, struct early_job *j)
{
	j->result.error = -ETIMEDOUT;
	snprintf(j->result.reason, sizeof(j->result.reason),
		 "the restore of pid %d took too long", j->tree->root_pid);
	end(e, j);
}

static void go(const struct early_job *j)
{
	int r = restorer_go(&j->r);

	/* It has ended: what it said before is still to be heard. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		log_warn("cannot tell %s to go on: %s", j->unit->name, strerror(-r));
}

/*
 * Unlocks when no tree has still to make its sockets, or when the first ready one has waited
 * long enough. *until: when that is, UINT64_MAX before the first is ready.
 */
static void open_gate(struct early *e, struct early_job *jobs, size_t n, uint64_t now, uint64_t *until)
{
	size_t ready = 0, making = 0;

	for (size_t i = 0; i < n; i++) {
		ready += jobs[i].r.fd >= 0 && jobs[i].ready && !jobs[i].released;
		making += jobs[i].r.fd >= 0 && !jobs[i].ready;
	}
	if (!ready)
		return;
	if (*until == UINT64_MAX)
		*until = now + RESTORER_READY_USEC;
	if (making && now < *until)
		return;
	if (making)
		log_warn("the network is unlocked before %zu trees are ready: they take too long",
			 making);
	early_net_unlock(e);
	for (size_t i = 0; i < n; i++) {
		if (jobs[i].r.fd < 0 || !jobs[i].ready || jobs[i].released)
			continue;
		jobs[i].released = true;
		go(&jobs[i]);
	}
}

static void wait_for_all(struct early *e, struct early_job *jobs, size_t n)
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
			if (jobs[i].r.fd >= 0 && (!p || jobs[i].deadline <= now))
				give_up(e, &jobs[i]);
			if (jobs[i].r.fd >= 0) {
				next = MIN(next, jobs[i].deadline);
				open++;
			}
			if (p)
				p[i] = (struct pollfd){ .fd = jobs[i].r.fd, .events = POLLIN };
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

static void judge(struct early *e, struct manifest_unit *u, struct early_job *jobs, size_t n)
{
	uint64_t now = clock_usec(CLOCK_REALTIME);

	for (size_t i = 0; i < n; i++)
		if (jobs[i].unit == u && jobs[i].result.error < 0)
			early_mark_cold(u, "%s", jobs[i].result.reason);
	for (size_t i = 0; i < u->n_trees && u->outcome != OUTCOME_COLD; i++)
		if (!is_alive(u->trees[i].root_pid))
			early_mark_cold(u, "its process ended right after the restore");
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

static void begin_unit(struct early *e, struct manifest_unit *u)
{
	int r = early_cgroup_make(e, u->cgroup);

	if (r < 0)
		early_mark_cold(u, "%s", log_first_error());
	if (!u->n_trees)
		early_mark_cold(u, "the manifest has no process of it");
	for (size_t i = 0; i < u->n_trees && u->outcome != OUTCOME_COLD; i++) {
		struct early_job *j = &e->jobs[e->n_jobs];

		*j = (struct early_job){ .unit = u, .tree = &u->trees[i], .r.fd = -EBADF };
		r = restorer_start(e, u, j->tree, &j->r);
		if (r < 0)
			early_mark_cold(u, "%s", strerror(-r));
		else
			e->n_jobs++;
	}
}

int early_restore_begin(struct early *e)
{
	struct manifest *m = e->manifest;
	size_t room = 1;

	for (size_t i = 0; i < m->n_units; i++)
		room += m->units[i].n_trees;
	e->jobs = calloc(room, sizeof(*e->jobs));
	if (!e->jobs)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_units; i++) {
		/* Each unit's first error is its own. */
		log_init(LOGLEVEL_INFO, e->log_fd);
		begin_unit(e, &m->units[i]);
	}
	return 0;
}

int early_restore(struct early *e)
{
	struct manifest *m = e->manifest;
	uint64_t now = clock_usec(CLOCK_BOOTTIME);

	for (size_t i = 0; i < e->n_jobs; i++) {
		struct early_job *j = &e->jobs[i];

		j->deadline = now + early_restore_usec(j->unit);
		/* Something before us (its files, say) may have failed. */
		if (j->unit->outcome == OUTCOME_COLD)
			end(e, j);
		else
			go(j);
	}
	wait_for_all(e, e->jobs, e->n_jobs);
	reap_dead(e);
	for (size_t i = 0; i < m->n_units; i++)
		judge(e, &m->units[i], e->jobs, e->n_jobs);
	e->n_jobs = 0;
	return 0;
}

void early_restore_abandon(struct early *e)
{
	for (size_t i = 0; i < e->n_jobs; i++)
		if (e->jobs[i].r.fd >= 0)
			end(e, &e->jobs[i]);
	for (size_t i = 0; e->n_jobs && i < e->manifest->n_units; i++)
		if (early_cgroup_kill(e->manifest->units[i].cgroup) < 0)
			log_warn("%s will start beside what is left of it", e->manifest->units[i].name);
	e->n_jobs = 0;
}
