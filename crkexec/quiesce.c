/*
 * Phase "quiesce": the services that were not chosen stop the normal way, while the chosen
 * ones still answer; then disks and journal are brought up to date, so that little is left to
 * write during the blackout.
 *
 * Left alone: what the way out needs, what a chosen unit requires (its stop would stop that
 * too), what refuses manual stops, and services without processes, such as finished oneshots:
 * nothing of them is lost, but stopping a firewall's or a network's would undo their work.
 */
#include <fcntl.h>
#include <string.h>

#include "crkexec/keep.h"
#include "crkexec/phases.h"
#include "crkexec/tree.h"
#include "util/io.h"
#include "util/log.h"

#define STOP_TIMEOUT_USEC	(100ull * 1000000u)
#define JOURNAL_TIMEOUT_MSEC	5000

struct stopper {
	struct upgrade *u;
	struct strv units;		/* to be stopped */
	struct strv others;		/* active ones that stop with them: finished oneshots, timers */
	struct strv jobs;		/* object paths that are not done */
};

static int on_job_removed(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	struct stopper *s = arg;
	const char *path, *unit, *result;
	uint32_t id;

	(void)error;
	if (sd_bus_message_read(m, "uoss", &id, &path, &unit, &result) < 0)
		return 0;
	for (size_t i = 0; i < s->jobs.n; i++)
		if (!strcmp(s->jobs.v[i], path)) {
			free(s->jobs.v[i]);
			s->jobs.v[i] = s->jobs.v[--s->jobs.n];
			if (strcmp(result, "done"))
				log_warn("stopping %s: %s", unit, result);
			break;
		}
	return 0;
}

/* A process whose command line begins with '@' serves a file system, by convention. */
static bool is_storage_daemon(pid_t pid)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/cmdline", pid), *text = NULL;
	size_t n;

	return path && read_file_at(AT_FDCWD, path, 1u << 20, &text, &n) == 0 && n && text[0] == '@';
}

/* 1: stop it, 0: leave it. */
static int want_stop(struct upgrade *u, const char *name, const char *path)
{
	_cleanup_free_ char *cgroup = NULL, *dir = NULL;
	uint32_t main_pid = 0;
	bool can_stop = true, transient = false, runs;
	struct unit_tree t;
	int r = bus_get_text(u->bus, path, SD_SERVICE, "ControlGroup", &cgroup);

	if (r >= 0)
		r = bus_get_bool(u->bus, path, SD_UNIT, "CanStop", &can_stop);
	if (r >= 0)
		r = bus_get_bool(u->bus, path, SD_UNIT, "Transient", &transient);
	if (r >= 0)
		r = bus_get_u32(u->bus, path, SD_SERVICE, "MainPID", &main_pid);
	if (r < 0)
		return 0;	/* gone since it was listed */
	if (cgroup[0] != '/' || !cgroup[1])
		return 0;
	dir = str_fmt("/sys/fs/cgroup%s", cgroup);
	if (!dir)
		return -ENOMEM;
	runs = tree_find(dir, &t) == 0 && t.n_pids;
	tree_done(&t);
	if (!runs)
		return 0;
	if (main_pid && is_storage_daemon((pid_t)main_pid))
		return 0;
	if (!can_stop) {
		upgrade_warn(u, "%s refuses to be stopped; it ends with the old kernel", name);
		return 0;
	}
	if (transient)
		upgrade_warn(u, "%s is transient: systemd forgets it when it stops, and cannot start it again",
			     name);
	return 1;
}

static int choose_from(struct stopper *s, sd_bus_message *reply, const struct strv *keep)
{
	struct upgrade *u = s->u;
	int r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");

	while (r >= 0) {
		const char *name, *active, *path;

		r = sd_bus_message_read(reply, "(ssssssouso)", &name, NULL, NULL, &active, NULL, NULL,
					&path, NULL, NULL, NULL);
		if (r <= 0)
			break;
		if (strlen(name) < 9 || strcmp(name + strlen(name) - 8, ".service") ||
		    !strcmp(active, "inactive") || !strcmp(active, "failed"))
			continue;
		if (strv_has(keep, name) || keep_by_name(name)) {
			r = strv_add(&u->kept, name);
			continue;
		}
		r = want_stop(u, name, path);
		if (r > 0)
			r = strv_add(&s->units, name);
	}
	return r < 0 ? r : 0;
}

static bool is_active(sd_bus *bus, const char *name)
{
	_cleanup_free_ char *state = NULL;

	return unit_get_text(bus, name, "ActiveState", &state) == 0 && !strcmp(state, "active");
}

/* To start a target means to start all that it wants: that is left to the operator. */
static int choose_others(struct stopper *s)
{
	struct strv all = { 0 };
	int r = 0;

	for (size_t i = 0; i < s->units.n && r == 0; i++)
		r = strv_add(&all, s->units.v[i]);
	if (r == 0)
		r = keep_dependents(s->u->bus, &all);
	for (size_t i = s->units.n; i < all.n && r == 0; i++) {
		const char *type = strrchr(all.v[i], '.');

		if (type && strcmp(type, ".target") && is_active(s->u->bus, all.v[i]))
			r = strv_add(&s->others, all.v[i]);
	}
	strv_done(&all);
	return r;
}

static int choose_units(struct stopper *s)
{
	struct upgrade *u = s->u;
	sd_bus_message *reply = NULL;
	struct strv keep = { 0 };
	int r = keep_own_units(&keep);

	for (size_t i = 0; i < u->n_units && r == 0; i++)
		r = strv_add_once(&keep, u->units[i]->name);
	if (r == 0)
		r = keep_close(u->bus, &keep);
	if (r >= 0)
		r = sd_bus_call_method(u->bus, SD_NAME, SD_PATH, SD_MANAGER, "ListUnits", NULL, &reply,
				       "");
	if (r >= 0)
		r = choose_from(s, reply, &keep);
	if (r == 0)
		r = choose_others(s);
	sd_bus_message_unref(reply);
	strv_done(&keep);
	return r < 0 ? log_err(r, "cannot list the services to stop") : 0;
}

int quiesce_list(struct upgrade *u)
{
	struct stopper s = { .u = u };
	int r = choose_units(&s);

	for (size_t i = 0; i < s.others.n && r == 0; i++)
		r = strv_add(&s.units, s.others.v[i]);
	strv_done(&s.others);
	strv_sort(&s.units);
	strv_done(&u->to_stop);
	u->to_stop = s.units;
	u->to_stop_known = r == 0;
	return r;
}

static int stop_one(struct stopper *s, const char *name)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus_message *reply = NULL;
	const char *job;
	int r;

	/* "fail": a job that someone else has queued for it is not overruled. */
	r = sd_bus_call_method(s->u->bus, SD_NAME, SD_PATH, SD_MANAGER, "StopUnit", &error, &reply,
			       "ss", name, "fail");
	if (r >= 0)
		r = sd_bus_message_read(reply, "o", &job);
	if (r >= 0)
		r = strv_add(&s->jobs, job);
	else
		upgrade_problem(s->u, r, name, NULL, "cannot stop it: %s",
				bus_error_text(&error, r));
	sd_bus_message_unref(reply);
	sd_bus_error_free(&error);
	return r < 0 ? r : 0;
}

static int wait_jobs(struct stopper *s)
{
	uint64_t end = now_monotonic_usec() + STOP_TIMEOUT_USEC;

	while (s->jobs.n) {
		int r = sd_bus_process(s->u->bus, NULL);

		if (r > 0)
			continue;
		if (r == 0)
			r = upgrade_wait_fd(s->u, sd_bus_get_fd(s->u->bus),
					    (short)sd_bus_get_events(s->u->bus), 200);
		if (r < 0)
			return r;
		progress_detail(&s->u->progress, "%zu of %zu services are stopping", s->jobs.n,
				s->units.n);
		if (now_monotonic_usec() > end)
			return upgrade_problem(s->u, -ETIMEDOUT, NULL,
					       "see systemctl list-jobs; stop them beforehand",
					       "%zu services did not stop in time", s->jobs.n);
	}
	return 0;
}

static int stop_all(struct stopper *s)
{
	struct upgrade *u = s->u;
	sd_bus_slot *slot = NULL;
	int r = sd_bus_match_signal(u->bus, &slot, NULL, SD_PATH, SD_MANAGER, "JobRemoved",
				    on_job_removed, s);

	/* Undone last, and last of all looked at: by then every start has been asked for. */
	for (size_t i = 0; r >= 0 && i < s->others.n; i++)
		r = undo_push(&u->undo, "started", s->others.v[i]);
	for (size_t i = 0; r >= 0 && i < s->units.n; i++)
		r = undo_push(&u->undo, "started", s->units.v[i]);
	if (r >= 0)
		r = undo_push(&u->undo, "settle", "systemd");
	for (size_t i = 0; r >= 0 && i < s->others.n; i++)
		r = undo_push(&u->undo, "start", s->others.v[i]);
	for (size_t i = 0; r >= 0 && i < s->units.n; i++) {
		r = undo_push(&u->undo, "start", s->units.v[i]);
		if (r == 0)
			r = strv_add(&u->stopped, s->units.v[i]);
		if (r == 0)
			r = stop_one(s, s->units.v[i]);
		if (r == 0)
			r = upgrade_check_stop(u);
	}
	if (r >= 0)
		r = wait_jobs(s);
	sd_bus_slot_unref(slot);
	return r < 0 ? r : 0;
}

/* Stopping the others must not have touched the chosen ones. */
static int check_chosen(struct upgrade *u)
{
	for (size_t i = 0; i < u->n_units; i++) {
		struct unit *un = u->units[i];
		uint32_t pid = 0;
		int r = bus_get_u32(u->bus, un->path, SD_SERVICE, "MainPID", &pid);

		if (r < 0)
			return log_err(r, "cannot read the main process of %s", un->name);
		if ((pid_t)pid != un->main_pid)
			return upgrade_problem(u, -ESRCH, un->name, NULL,
					       "its main process changed from %d to %u while other "
					       "services were stopped", un->main_pid, pid);
	}
	return 0;
}

int upgrade_quiesce(void *arg)
{
	struct upgrade *u = arg;
	struct stopper s = { .u = u };
	int r, j;

	u->marks[MARK_QUIESCE] = undo_mark(&u->undo);
	r = choose_units(&s);
	if (r == 0 && s.units.n)
		r = stop_all(&s);
	strv_done(&s.units);
	strv_done(&s.others);
	strv_done(&s.jobs);
	if (r < 0)
		return r;
	j = journal_sync_end(journal_sync_begin(), JOURNAL_TIMEOUT_MSEC);
	if (j < 0)
		log_err(j, "the journal could not be synced");
	sync();
	/* Last: the two above may take long. */
	r = check_chosen(u);
	return r < 0 ? r : upgrade_check_stop(u);
}

int upgrade_restart(void *arg)
{
	struct upgrade *u = arg;

	return undo_rewind(&u->undo, u->marks[MARK_QUIESCE], undo_kinds);
}
