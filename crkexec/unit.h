/*
 * Systemd units over sd-bus, and the processes in their control groups.
 */
#ifndef CRKEXEC_UNIT_H
#define CRKEXEC_UNIT_H

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "crkexec/strv.h"

struct unit_tree {
	pid_t root;			/* the first one */
	pid_t *pids;			/* all of it, roots first */
	size_t n_pids, n_roots;
};

struct unit {
	char *name;			/* Id: aliases resolved */
	char *path;			/* D-Bus object */
	char *load_state, *active_state, *sub_state, *type;
	char *cgroup;			/* "/system.slice/x.service" */
	char *cgroup_dir;		/* the same below /sys/fs/cgroup */
	char *pid_file;			/* PIDFile=, "" if none */
	char *identifier;		/* of its journal lines */
	struct strv runtime_dirs;	/* RuntimeDirectory=: relative to /run */
	pid_t main_pid, control_pid;
	struct unit_tree tree;
};

/* PID 1's private socket: does not depend on the D-Bus daemon. */
int bus_open(sd_bus **ret) _must_check_;
/* Text of a bus error for messages: never NULL. */
const char *bus_error_text(const sd_bus_error *e, int r);

/* "redis" → "redis.service"; as given when it names its type. NULL: no memory or not a name. */
char *unit_name_full(const char *given);
/* Loads a unit by name or alias. -ENOENT: no such unit. */
int unit_load(sd_bus *bus, const char *name, struct unit **ret) _must_check_;
/* Finds the tree anew; needs cgroup_dir. -ESRCH: there is no process. */
int unit_find_tree(struct unit *un) _must_check_;
void unit_free(struct unit *un);
static inline void unit_freep(struct unit **un)
{
	if (*un)
		unit_free(*un);
}

/* Properties of any object of PID 1. The caller frees. */
int bus_get_text(sd_bus *bus, const char *path, const char *iface, const char *prop, char **ret)
	_must_check_;
int bus_get_strv(sd_bus *bus, const char *path, const char *iface, const char *prop,
		 struct strv *l) _must_check_;
int bus_get_u32(sd_bus *bus, const char *path, const char *iface, const char *prop, uint32_t *ret)
	_must_check_;
int bus_get_bool(sd_bus *bus, const char *path, const char *iface, const char *prop, bool *ret)
	_must_check_;

/* A property of the loaded unit of that name. */
int unit_get_text(sd_bus *bus, const char *name, const char *prop, char **ret) _must_check_;

#define SD_NAME		"org.freedesktop.systemd1"
#define SD_PATH		"/org/freedesktop/systemd1"
#define SD_MANAGER	"org.freedesktop.systemd1.Manager"
#define SD_UNIT		"org.freedesktop.systemd1.Unit"
#define SD_SERVICE	"org.freedesktop.systemd1.Service"

#endif
