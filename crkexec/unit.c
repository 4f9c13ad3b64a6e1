#include <string.h>

#include "crkexec/tree.h"
#include "crkexec/unit.h"
#include "util/io.h"
#include "util/log.h"

#define PRIVATE_BUS	"unix:path=/run/systemd/private"
#define CGROUP_ROOT	"/sys/fs/cgroup"

static void bus_unrefp(sd_bus **b)
{
	sd_bus_unref(*b);
}

int bus_open(sd_bus **ret)
{
	_cleanup_(bus_unrefp) sd_bus *bus = NULL;
	int r = sd_bus_new(&bus);

	if (r < 0)
		return r;
	r = sd_bus_set_address(bus, PRIVATE_BUS);
	if (r < 0)
		return r;
	r = sd_bus_start(bus);
	if (r < 0)
		return r;
	*ret = take_ptr(bus);
	return 0;
}

const char *bus_error_text(const sd_bus_error *e, int r)
{
	return e->message ? e->message : strerror(-r);
}

int bus_get_text(sd_bus *bus, const char *path, const char *iface, const char *prop, char **ret)
{
	return sd_bus_get_property_string(bus, SD_NAME, path, iface, prop, NULL, ret);
}

int bus_get_u32(sd_bus *bus, const char *path, const char *iface, const char *prop, uint32_t *ret)
{
	return sd_bus_get_property_trivial(bus, SD_NAME, path, iface, prop, NULL, 'u', ret);
}

int bus_get_bool(sd_bus *bus, const char *path, const char *iface, const char *prop, bool *ret)
{
	int v = 0, r = sd_bus_get_property_trivial(bus, SD_NAME, path, iface, prop, NULL, 'b', &v);

	*ret = v;
	return r;
}

int bus_get_strv(sd_bus *bus, const char *path, const char *iface, const char *prop,
		 struct strv *l)
{
	char **v = NULL;
	int r = sd_bus_get_property_strv(bus, SD_NAME, path, iface, prop, NULL, &v);

	for (char **s = v; s && *s; s++) {
		if (r >= 0)
			r = strv_add(l, *s);
		free(*s);
	}
	free(v);
	return r;
}

int unit_get_text(sd_bus *bus, const char *name, const char *prop, char **ret)
{
	char *path = NULL;
	int r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", name, &path);

	if (r >= 0)
		r = bus_get_text(bus, path, SD_UNIT, prop, ret);
	free(path);
	return r < 0 ? r : 0;
}

char *unit_name_full(const char *given)
{
	static const char *const types[] = {
		".service", ".socket", ".target", ".mount", ".automount", ".swap", ".timer",
		".path", ".slice", ".scope", ".device",
	};
	size_t n = strlen(given);

	if (!n || n > 240 || strchr(given, '/') || given[0] == '.' || given[0] == '-')
		return NULL;
	for (const char *s = given; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		size_t t = strlen(types[i]);

		if (n > t && !strcmp(given + n - t, types[i]))
			return strdup(given);
	}
	return str_fmt("%s.service", given);
}

/* SyslogIdentifier=, or the name of the program that ExecStart= runs, as systemd does it. */
static int unit_load_identifier(sd_bus *bus, struct unit *un)
{
	sd_bus_message *reply = NULL;
	const char *program = "", *slash;
	int r = bus_get_text(bus, un->path, SD_SERVICE, "SyslogIdentifier", &un->identifier);

	if (r < 0 || *un->identifier)
		return r;
	r = sd_bus_get_property(bus, SD_NAME, un->path, SD_SERVICE, "ExecStart", NULL, &reply,
				"a(sasbttttuii)");
	if (r >= 0)
		r = sd_bus_message_enter_container(reply, 'a', "(sasbttttuii)");
	if (r >= 0)
		r = sd_bus_message_enter_container(reply, 'r', "sasbttttuii");
	/* 0: there is none. */
	if (r > 0)
		r = sd_bus_message_read(reply, "s", &program);
	if (r >= 0) {
		slash = strrchr(program, '/');
		free(un->identifier);
		un->identifier = strdup(slash ? slash + 1 : program);
		r = un->identifier ? 0 : -ENOMEM;
	}
	sd_bus_message_unref(reply);
	return r;
}

/* Service properties; the object has them also while it is inactive. */
static int unit_load_service(sd_bus *bus, struct unit *un)
{
	uint32_t pid = 0, control = 0;
	int r = bus_get_text(bus, un->path, SD_SERVICE, "Type", &un->type);

	if (r >= 0)
		r = bus_get_text(bus, un->path, SD_SERVICE, "ControlGroup", &un->cgroup);
	if (r >= 0)
		r = bus_get_text(bus, un->path, SD_SERVICE, "PIDFile", &un->pid_file);
	if (r >= 0)
		r = bus_get_strv(bus, un->path, SD_SERVICE, "RuntimeDirectory", &un->runtime_dirs);
	if (r >= 0)
		r = unit_load_identifier(bus, un);
	if (r >= 0)
		r = bus_get_u32(bus, un->path, SD_SERVICE, "MainPID", &pid);
	if (r >= 0)
		r = bus_get_u32(bus, un->path, SD_SERVICE, "ControlPID", &control);
	if (r < 0)
		return r;
	un->main_pid = (pid_t)pid;
	un->control_pid = (pid_t)control;
	if (un->cgroup[0] == '/') {
		un->cgroup_dir = str_fmt("%s%s", CGROUP_ROOT, un->cgroup);
		if (!un->cgroup_dir)
			return -ENOMEM;
	}
	return 0;
}

static int unit_load_object(sd_bus *bus, const char *name, struct unit *un)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus_message *reply = NULL;
	const char *path;
	int r = sd_bus_call_method(bus, SD_NAME, SD_PATH, SD_MANAGER, "LoadUnit", &error, &reply,
				   "s", name);

	if (r >= 0)
		r = sd_bus_message_read(reply, "o", &path);
	if (r >= 0) {
		un->path = strdup(path);
		r = un->path ? 0 : -ENOMEM;
	} else {
		log_fail(r, "cannot load unit %s: %s", name, bus_error_text(&error, r));
	}
	sd_bus_message_unref(reply);
	sd_bus_error_free(&error);
	return r;
}

int unit_load(sd_bus *bus, const char *name, struct unit **ret)
{
	_cleanup_(unit_freep) struct unit *un = calloc(1, sizeof(*un));
	int r;

	if (!un)
		return -ENOMEM;
	r = unit_load_object(bus, name, un);
	if (r < 0)
		return r;
	r = bus_get_text(bus, un->path, SD_UNIT, "Id", &un->name);
	if (r >= 0)
		r = bus_get_text(bus, un->path, SD_UNIT, "LoadState", &un->load_state);
	if (r >= 0)
		r = bus_get_text(bus, un->path, SD_UNIT, "ActiveState", &un->active_state);
	if (r >= 0)
		r = bus_get_text(bus, un->path, SD_UNIT, "SubState", &un->sub_state);
	if (r < 0)
		return log_err(r, "cannot read the properties of unit %s", name);
	if (!strcmp(un->load_state, "not-found"))
		return -ENOENT;
	if (strlen(un->name) > 8 && !strcmp(un->name + strlen(un->name) - 8, ".service") &&
	    !strcmp(un->load_state, "loaded")) {
		r = unit_load_service(bus, un);
		if (r < 0)
			return log_err(r, "cannot read the properties of %s", un->name);
	}
	*ret = take_ptr(un);
	return 0;
}

int unit_find_tree(struct unit *un)
{
	struct unit_tree t;
	int r = tree_find(un->cgroup_dir, &t);

	if (r < 0)
		return r;
	tree_done(&un->tree);
	un->tree = t;
	return t.n_pids ? 0 : -ESRCH;
}

void unit_free(struct unit *un)
{
	tree_done(&un->tree);
	free(un->name);
	free(un->path);
	free(un->load_state);
	free(un->active_state);
	free(un->sub_state);
	free(un->type);
	free(un->cgroup);
	free(un->cgroup_dir);
	free(un->pid_file);
	free(un->identifier);
	strv_done(&un->runtime_dirs);
	free(un);
}
