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

static int guard_call(sd_bus *bus, const char *self, const char *id, sd_bus_error *error)
{
	_cleanup_free_ char *name = str_fmt("crkexec-guard-%s.service", id);
	sd_bus_message *m = NULL;
	int r = name ? sd_bus_message_new_method_call(bus, &m, SD_NAME, SD_PATH, SD_MANAGER,
						      "StartTransientUnit") : -ENOMEM;

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

int guard_start(struct upgrade *u)
{
	_cleanup_free_ char *self = self_path();
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int r = self ? guard_call(u->bus, self, u->m->id, &error) : -ENOMEM;

	if (r < 0)
		upgrade_problem(u, r, NULL, NULL, "cannot start the guard unit: %s",
				bus_error_text(&error, r));
	sd_bus_error_free(&error);
	return r < 0 ? r : 0;
}
