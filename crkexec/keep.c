#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>

#include "crkexec/keep.h"
#include "crkexec/tree.h"
#include "util/io.h"
#include "util/log.h"

/* Patterns of fnmatch(3). */
static const char *const kept_names[] = {
	/* The journal must take the last lines; devices and bus serve until the end. */
	"systemd-journald*.service", "systemd-udevd.service", "dbus.service",
	"dbus-broker.service", "systemd-logind.service", "systemd-userdbd.service",
	/* Stopping these would take addresses, routes or names away from the chosen services. */
	"systemd-networkd*.service", "NetworkManager*.service", "networking.service",
	"ifup@*.service", "wpa_supplicant*.service", "dhcpcd*.service", "connman*.service",
	"wicked*.service", "systemd-resolved.service", "nftables.service", "firewalld.service",
	"netfilter-persistent.service", "iptables.service", "ip6tables.service",
	/* File systems may stand on them. */
	"iscsid.service", "open-iscsi.service", "multipathd.service", "mdmon@*.service",
	"mdmonitor.service", "lvm2-*.service", "dm-event.service", "systemd-cryptsetup@*.service",
	"zfs-*.service", "rpcbind.service", "rpc-*.service", "nfs-*.service",
	/* A way in for the operator; ssh sessions are scopes of their own. */
	"ssh.service", "sshd.service", "ssh@*.service", "sshd@*.service", "getty@*.service",
	"serial-getty@*.service", "console-getty.service", "user@*.service",
	"user-runtime-dir@*.service", "rescue.service", "emergency.service", "debug-shell.service",
	"auditd.service", "crkexec-*.service",
};

bool keep_by_name(const char *unit)
{
	for (size_t i = 0; i < ARRAY_SIZE(kept_names); i++)
		if (fnmatch(kept_names[i], unit, 0) == 0)
			return true;
	return false;
}

static bool ends_with(const char *s, size_t n, const char *end)
{
	size_t e = strlen(end);

	return n > e && !strncmp(s + n - e, end, e);
}

char *cgroup_text_unit(const char *text)
{
	const char *line = str_starts(text, "0::") ? text : strstr(text, "\n0::");
	char *found = NULL;

	if (!line)
		return NULL;
	line = strstr(line, "::") + 2;
	while (*line == '/') {
		size_t n = strcspn(++line, "/\n");

		/* The outermost: user@1000.service contains services of the user's manager. */
		if (!found && (ends_with(line, n, ".service") || ends_with(line, n, ".scope")))
			found = strndup(line, n);
		line += n;
	}
	return found;
}

int keep_own_units(struct strv *keep)
{
	pid_t pid = getpid();
	int r = 0;

	/* Up to PID 1: whoever waits for this command must live to see its end. */
	for (int depth = 0; r == 0 && pid > 1 && depth < 64; depth++) {
		_cleanup_free_ char *cgroup = NULL, *stat = NULL, *unit = NULL;
		char path[40];

		snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
		r = read_file_at(AT_FDCWD, path, 65536, &cgroup, NULL);
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		if (r == 0)
			r = read_file_at(AT_FDCWD, path, 65536, &stat, NULL);
		if (r == 0)
			r = stat_parse_ppid(stat, &pid);
		if (r < 0)
			break;
		unit = cgroup_text_unit(cgroup);
		if (unit)
			r = strv_add_once(keep, unit);
	}
	/* An ancestor that ended in the meantime. */
	return r == -ENOENT || r == -ESRCH ? 0 : r;
}

static int add_related(sd_bus *bus, const char *unit, const char *const *properties, struct strv *list)
{
	sd_bus_message *reply = NULL;
	const char *path;
	int r = sd_bus_call_method(bus, SD_NAME, SD_PATH, SD_MANAGER, "GetUnit", NULL, &reply, "s",
				   unit);

	/* Not loaded: nothing depends on it. */
	if (r < 0)
		return 0;
	r = sd_bus_message_read(reply, "o", &path);
	for (; r >= 0 && *properties; properties++) {
		struct strv found = { 0 };

		r = bus_get_strv(bus, path, SD_UNIT, *properties, &found);
		/* Propagation of stops is of systemd 249. */
		if (r < 0)
			r = 0;
		for (size_t k = 0; r >= 0 && k < found.n; k++)
			r = strv_add_once(list, found.v[k]);
		strv_done(&found);
	}
	sd_bus_message_unref(reply);
	return r < 0 ? r : 0;
}

static int close_list(sd_bus *bus, const char *const *properties, struct strv *list)
{
	/* The list grows while it is walked. */
	for (size_t i = 0; i < list->n; i++) {
		int r = add_related(bus, list->v[i], properties, list);

		if (r < 0)
			return log_err(r, "cannot read what %s is tied to", list->v[i]);
	}
	return 0;
}

int keep_close(sd_bus *bus, struct strv *keep)
{
	static const char *const properties[] = {
		"Requires", "Requisite", "BindsTo", "PartOf", "StopPropagatedFrom", NULL,
	};

	return close_list(bus, properties, keep);
}

int keep_dependents(sd_bus *bus, struct strv *units)
{
	static const char *const properties[] = {
		"RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo", NULL,
	};

	return close_list(bus, properties, units);
}
