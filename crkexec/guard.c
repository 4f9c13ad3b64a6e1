/*
 * The guard: a transient unit of systemd's that runs `crkexec recover --guard ID`. It waits on
 * the lock that all processes of this upgrade hold, and when they are gone without having
 * cleaned up, it undoes what the undo log says. When the guard itself is killed systemd starts
 * it again, so services thaw even after a `kill -9` of every crkexec process.
 */
#include <string.h>

#include "crkexec/paths.h"
#include "crkexec/phases.h"
#include "util/io.h"
#include "util/log.h"

#define START_TIMEOUT_USEC	(10u * 1000000u)

static int add_text(sd_bus_message *m, const char *key, const char *value)
{
	return sd_bus_message_append(m, "(sv)", key, "s", value);
}

static int add_bool(sd_bus_message *m, const char *key, int value)
{
	return sd_bus_message_append(m, "(sv)", key, "b", value);
}

static int add_u64(sd_bus_message *m, const char *key, uint64_t value)
{
	return sd_bus_message_append(m, "(sv)", key, "t", value);
}

static int add_properties(sd_bus_message *m, const char *self, const char *id)
{
	int r = sd_bus_message_open_container(m, 'a', "(sv)");

	if (r >= 0)
		r = add_text(m, "Description", "Recovery of an interrupted kernel upgrade");
	/* After a clean end nothing of the unit stays. */
	if (r >= 0)
		r = add_text(m, "CollectMode", "inactive-or-failed");
	if (r >= 0)
		r = add_bool(m, "DefaultDependencies", 0);
	if (r >= 0)
		r = add_text(m, "Type", "exec");
	if (r >= 0)
		r = add_text(m, "Restart", "on-failure");
	if (r >= 0)
		r = add_u64(m, "RestartUSec", 200000);
	if (r >= 0)
		r = add_u64(m, "StartLimitIntervalUSec", 0);
	/* It has tried again and again by itself. */
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)", "RestartPreventExitStatus", "(aiai)", 1,
					  EXIT_NOT_UNDONE, 0);
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)", "OOMScoreAdjust", "i", -900);
	if (r >= 0)
		r = sd_bus_message_append(m, "(sv)", "ExecStart", "a(sasb)", 1, self, 4, self,
					  "recover", "--guard", id, 0);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int guard_call(sd_bus *bus, const char *name, const char *self, const char *id,
		      sd_bus_error *error)
{
	sd_bus_message *m = NULL;
	int r = sd_bus_message_new_method_call(bus, &m, SD_NAME, SD_PATH, SD_MANAGER,
					       "StartTransientUnit");

	if (r >= 0)
		r = sd_bus_message_append(m, "ss", name, "fail");
	if (r >= 0)
		r = add_properties(m, self, id);
	if (r >= 0)
		r = sd_bus_message_append(m, "a(sa(sv))", 0);
	if (r >= 0)
		r = sd_bus_call(bus, m, 0, error, NULL);
	sd_bus_message_unref(m);
	return r;
}

/*
 * The answer to the call means that there is a job. Our program may not be what systemd finds
 * by its path: in another mount namespace, replaced by an update.
 */
static int guard_wait(struct upgrade *u, const char *name)
{
	uint64_t end = now_monotonic_usec() + START_TIMEOUT_USEC;
	int r = 0;

	while (r >= 0) {
		_cleanup_free_ char *state = NULL;

		r = unit_get_text(u->bus, name, "SubState", &state);
		if (r < 0 || !strcmp(state, "running"))
			break;
		if (!strcmp(state, "failed") || str_starts(state, "auto-restart"))
			r = -ENOEXEC;
		else if (now_monotonic_usec() > end)
			r = -ETIMEDOUT;
		else
			r = upgrade_wait_fd(u, -1, 0, 2);
	}
	return r < 0 ? r : 0;
}

int guard_start(struct upgrade *u)
{
	_cleanup_free_ char *self = self_path(), *name = str_fmt("crkexec-guard-%s.service", u->m->id);
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int r = self && name ? guard_call(u->bus, name, self, u->m->id, &error) : -ENOMEM;

	if (r < 0)
		upgrade_problem(u, r, NULL, NULL, "cannot start the guard unit: %s",
				bus_error_text(&error, r));
	sd_bus_error_free(&error);
	if (r < 0)
		return r;
	r = guard_wait(u, name);
	if (r < 0 && r != -ECANCELED) {
		upgrade_problem(u, r, NULL, "start crkexec where systemd finds it by its path; see "
				"journalctl", "the guard unit does not run: systemd could not execute %s "
				"(%s)", self, strerror(-r));
		/* It would be tried again for ever. */
		(void)!sd_bus_call_method(u->bus, SD_NAME, SD_PATH, SD_MANAGER, "StopUnit", NULL, NULL,
					  "ss", name, "replace");
	}
	return r;
}
