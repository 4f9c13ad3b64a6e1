/*
 * Phase "freeze": the control groups of the chosen units stop (cgroup v2 freezer), then the
 * network is locked: from here on nobody but us changes what will be saved. The blackout
 * begins here.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "crkexec/dumpopts.h"
#include "crkexec/phases.h"
#include "netlock/netlock.h"
#include "util/io.h"
#include "util/log.h"

#define FREEZE_TIMEOUT_USEC	(10ull * 1000000u)

static int freeze_begin(struct upgrade *u, const struct unit *un)
{
	_cleanup_free_ char *path = str_fmt("%s/cgroup.freeze", un->cgroup_dir);
	int r = path ? undo_push(&u->undo, "thaw", un->cgroup_dir) : -ENOMEM;

	if (r < 0)
		return r;
	r = write_file_at(AT_FDCWD, path, "1");
	return r < 0 ? upgrade_problem(u, r, un->name, NULL, "cannot freeze it: %s: %s", path,
				       strerror(-r)) : 0;
}

static int events_frozen(int fd)
{
	char text[256];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return neg_errno();
	text[n] = '\0';
	return strstr(text, "frozen 1") != NULL;
}

/* cgroup.events gives POLLPRI when its text changes. */
static int freeze_wait(struct upgrade *u, const struct unit *un, uint64_t end)
{
	_cleanup_free_ char *path = str_fmt("%s/cgroup.events", un->cgroup_dir);
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return log_err(neg_errno(), "cannot open cgroup.events of %s", un->name);
	for (;;) {
		int r = events_frozen(fd);

		if (r != 0)
			return r < 0 ? r : 0;
		if (now_monotonic_usec() > end)
			return upgrade_problem(u, -ETIMEDOUT, un->name,
				"a process waits inside the kernel (state D): see ps, dmesg",
				"it did not freeze in %llu s", FREEZE_TIMEOUT_USEC / 1000000u);
		r = upgrade_wait_fd(u, fd, POLLPRI, 100);
		if (r < 0)
			return r;
	}
}

/* What the freezer interrupts, while it is not yet. Without, some calls wait their whole time-outs again. */
static void look_ahead(struct upgrade *u)
{
	u->ahead = calloc(u->n_units, sizeof(struct cr_ahead *));
	for (size_t i = 0; u->ahead && u->peek && i < u->n_units; i++) {
		struct dump_setup setup;

		if (dump_setup_init(&setup, u, i) < 0)
			continue;
		u->ahead[i] = cr_look_ahead(&setup.opts, u->peek);
		dump_setup_done(&setup);
	}
}

int upgrade_freeze(void *arg)
{
	struct upgrade *u = arg;
	uint64_t end;
	int r = 0;

	look_ahead(u);
	end = now_monotonic_usec() + FREEZE_TIMEOUT_USEC;
	u->marks[MARK_FREEZE] = undo_mark(&u->undo);
	progress_hurry(&u->progress);
	for (size_t i = 0; i < u->n_units && r == 0; i++) {
		u->m->units[i].frozen_at_usec = now_realtime_usec();
		r = freeze_begin(u, u->units[i]);
	}
	for (size_t i = 0; i < u->n_units && r == 0; i++)
		r = freeze_wait(u, u->units[i], end);
	if (r == 0) {
		r = netlock_lock(u->netlock);
		/* Two trees may talk over lo, and are not dumped at the same instant. */
		if (r == 0)
			r = netlock_lock_ifindex(u->netlock, 1);
		if (r < 0)
			upgrade_problem(u, r, NULL, NULL, "cannot lock the network: %s", strerror(-r));
	}
	/* What the trees have said so far is written down while they are dumped. */
	if (r == 0)
		u->journal_fd = journal_sync_begin();
	/* What may have changed since the plan: processes, connections. */
	for (size_t i = 0; i < u->n_units && r == 0; i++) {
		r = upgrade_look(u, i);
		if (r == 0 && u->m->units[i].n_unaccepted)
			upgrade_warn(u, "%s: %u connections were not accepted in time and are lost",
				     u->units[i]->name, u->m->units[i].n_unaccepted);
	}
	/* Files, sockets: what the check has promised must hold for them, too. */
	return r < 0 ? r : check_world_again(u);
}

int upgrade_thaw(void *arg)
{
	struct upgrade *u = arg;
	int r = undo_rewind(&u->undo, u->marks[MARK_FREEZE], undo_kinds);

	progress_no_hurry(&u->progress);
	return r;
}
