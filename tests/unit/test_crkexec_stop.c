/*
 * Which units an upgrade stops, as `crkexec check` says before and quiesce then does: asked of a systemd
 * of our own, with control groups of our own.
 */
#include <fcntl.h>
#include <json-c/json.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "crkexec/paths.h"
#include "crkexec/phases.h"
#include "crkexec/report.h"
#include "unit.h"
#include "util/io.h"

#define PATHS	"/org/freedesktop/systemd1/unit"

static const struct fake {
	const char *name, *required_by;
	bool has_processes, cannot_stop, transient;
} fakes[] = {
	{ .name = "chosen.service", .has_processes = true },
	{ .name = "dbus.service", .has_processes = true },
	{ .name = "worker.service", .has_processes = true, .required_by = "after.service" },
	{ .name = "after.service" },
	{ .name = "once.service" },
	{ .name = "run-1.service", .has_processes = true, .transient = true },
	{ .name = "stubborn.service", .has_processes = true, .cannot_stop = true },
	{ .name = "a.socket" },
};

static const struct fake *fake_at(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(fakes); i++) {
		_cleanup_free_ char *name = NULL;

		if (sd_bus_path_decode(path, PATHS, &name) > 0 && !strcmp(name, fakes[i].name))
			return &fakes[i];
	}
	return NULL;
}

static int list_units(sd_bus_message *reply)
{
	int r = sd_bus_message_open_container(reply, 'a', "(ssssssouso)");

	for (size_t i = 0; i < ARRAY_SIZE(fakes) && r >= 0; i++) {
		char *path = NULL;

		r = sd_bus_path_encode(PATHS, fakes[i].name, &path);
		if (r >= 0)
			r = sd_bus_message_append(reply, "(ssssssouso)", fakes[i].name, "", "loaded",
						  "active", "running", "", path, 0, "", "/");
		free(path);
	}
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get(sd_bus_message *call, sd_bus_message *reply)
{
	const struct fake *f = fake_at(sd_bus_message_get_path(call));
	_cleanup_free_ char *cgroup = f ? str_fmt("/%s", f->name) : NULL;
	const char *iface, *prop;
	int r = sd_bus_message_read(call, "ss", &iface, &prop);

	if (r < 0 || !f)
		return -ENOENT;
	if (!strcmp(prop, "ControlGroup"))
		return sd_bus_message_append(reply, "v", "s", f->has_processes ? cgroup : "");
	if (!strcmp(prop, "CanStop"))
		return sd_bus_message_append(reply, "v", "b", !f->cannot_stop);
	if (!strcmp(prop, "Transient"))
		return sd_bus_message_append(reply, "v", "b", f->transient);
	if (!strcmp(prop, "MainPID"))
		return sd_bus_message_append(reply, "v", "u", 0);
	if (!strcmp(prop, "ActiveState"))
		return sd_bus_message_append(reply, "v", "s", "active");
	/* The rest are relations. */
	if (!strcmp(prop, "RequiredBy") && f->required_by)
		return sd_bus_message_append(reply, "v", "as", 1, f->required_by);
	return sd_bus_message_append(reply, "v", "as", 0);
}

static int get_unit(sd_bus_message *call, sd_bus_message *reply)
{
	const char *name;
	char *path = NULL;
	int r = sd_bus_message_read(call, "s", &name);

	if (r >= 0)
		r = sd_bus_path_encode(PATHS, name, &path);
	if (r >= 0 && !fake_at(path))
		r = -ENOENT;
	if (r >= 0)
		r = sd_bus_message_append(reply, "o", path);
	free(path);
	return r;
}

static int on_call(sd_bus_message *call, void *arg, sd_bus_error *error)
{
	sd_bus_message *reply = NULL;
	int r = sd_bus_message_new_method_return(call, &reply);

	(void)arg;
	(void)error;
	if (r >= 0 && sd_bus_message_is_method_call(call, NULL, "ListUnits"))
		r = list_units(reply);
	else if (r >= 0 && sd_bus_message_is_method_call(call, NULL, "GetUnit"))
		r = get_unit(call, reply);
	else if (r >= 0)
		r = get(call, reply);
	r = r < 0 ? sd_bus_reply_method_errno(call, r, NULL) : sd_bus_send(NULL, reply, NULL);
	sd_bus_message_unref(reply);
	return r < 0 ? r : 1;
}

static void be_systemd(int fd)
{
	sd_bus *bus;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sd_bus_new(&bus) < 0 || sd_bus_set_fd(bus, fd, fd) < 0 ||
	    sd_bus_set_server(bus, true, SD_ID128_MAKE(00, 01, 02, 03, 04, 05, 06, 07, 08, 09, 0a, 0b, 0c,
						       0d, 0e, 0f)) < 0 ||
	    sd_bus_set_anonymous(bus, true) < 0 || sd_bus_add_filter(bus, NULL, on_call, NULL) < 0 ||
	    sd_bus_start(bus) < 0)
		_exit(1);
	do {
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, UINT64_MAX);
	} while (r >= 0);
	_exit(0);
}

static void make_groups(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crk-unit", "/sys/fs/cgroup", "tmpfs", 0, NULL) < 0)
		unit_skip("no /sys/fs/cgroup of its own: %s", strerror(errno));
	for (size_t i = 0; i < ARRAY_SIZE(fakes); i++) {
		_cleanup_free_ char *dir = str_fmt("/sys/fs/cgroup/%s", fakes[i].name);
		_cleanup_free_ char *procs = str_fmt("%s/cgroup.procs", dir), *pid = str_fmt("%d\n", getpid());
		int fd;

		if (!fakes[i].has_processes)
			continue;
		ASSERT_OK(make_dirs(dir));
		fd = open(procs, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		ASSERT_OK(write_full(fd, pid, strlen(pid)));
		close(fd);
	}
}

struct machine {
	struct options opt;
	struct unit chosen, *units;
	struct upgrade u;
};

static void machine_init(struct machine *m, enum verb verb, bool json)
{
	static char name[] = "chosen.service";
	int fds[2];

	make_groups();
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	if (fork() == 0)
		be_systemd(fds[1]);
	close(fds[1]);
	*m = (struct machine){ .opt = { .verb = verb, .json = json }, .chosen = { .name = name } };
	m->units = &m->chosen;
	m->u = (struct upgrade){ .opt = &m->opt, .units = &m->units, .n_units = 1, .m = manifest_new() };
	ASSERT_OK(sd_bus_new(&m->u.bus));
	ASSERT_OK(sd_bus_set_fd(m->u.bus, fds[0], fds[0]));
	ASSERT_OK(sd_bus_start(m->u.bus));
	progress_init(&m->u.progress, STDERR_FILENO);
}

static void machine_done(struct machine *m)
{
	strv_done(&m->u.to_stop);
	strv_done(&m->u.kept);
	manifest_free(m->u.m);
	sd_bus_unref(m->u.bus);
}

TEST("a check lists what would be stopped: not what is chosen, kept, without processes or refuses")
{
	struct machine m;

	alarm(60);
	machine_init(&m, VERB_CHECK, true);
	ASSERT_OK(quiesce_list(&m.u));
	ASSERT(m.u.to_stop_known);
	ASSERT_EQ(m.u.to_stop.n, 3);
	/* Has no processes, but stops with the one that it requires. */
	ASSERT_STREQ(m.u.to_stop.v[0], "after.service");
	ASSERT_STREQ(m.u.to_stop.v[1], "run-1.service");
	ASSERT_STREQ(m.u.to_stop.v[2], "worker.service");
	ASSERT_EQ(m.u.kept.n, 2);
	ASSERT_EQ(m.u.m->n_warnings, 2);
	ASSERT_CONTAINS(m.u.m->warnings[0], "run-1.service is transient");
	ASSERT_CONTAINS(m.u.m->warnings[1], "stubborn.service refuses to be stopped");
	machine_done(&m);
}

/* What report_end() writes to fd. */
static void report_into(int fd, struct machine *m, char *text, size_t bytes)
{
	_cleanup_free_ char *path = str_fmt("%s/out", unit_tmpdir()), *said = NULL;
	int out = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), kept;

	fflush(stdout);
	kept = dup(fd);
	ASSERT_OK(dup2(out, fd));
	report_end(&m->u, 0);
	ASSERT_OK(dup2(kept, fd));
	close(kept);
	close(out);
	ASSERT_OK(read_file_at(AT_FDCWD, path, bytes - 1, &said, NULL));
	strcpy(text, said);
}

TEST("what would be stopped is said at the end of a check, one unit a line")
{
	struct machine m;
	char text[4096];

	alarm(60);
	machine_init(&m, VERB_CHECK, false);
	ASSERT_OK(quiesce_list(&m.u));
	report_into(STDERR_FILENO, &m, text, sizeof(text));
	ASSERT_CONTAINS(text, "stops these first");
	ASSERT_CONTAINS(text, "\n  after.service\n  run-1.service\n  worker.service\n");
	ASSERT_CONTAINS(text, "Nothing stands in the way");
	strv_done(&m.u.to_stop);
	report_into(STDERR_FILENO, &m, text, sizeof(text));
	ASSERT_CONTAINS(text, "stops no other service");
	machine_done(&m);
}

TEST("what would be stopped is a list in a check's JSON, null where it is not known")
{
	struct json_object *o, *list;
	struct machine m;
	char text[8192];

	alarm(60);
	machine_init(&m, VERB_CHECK, true);
	report_into(STDOUT_FILENO, &m, text, sizeof(text));
	o = json_tokener_parse(text);
	ASSERT(o && json_object_object_get_ex(o, "units_to_stop", &list) && !list);
	json_object_put(o);
	ASSERT_OK(quiesce_list(&m.u));
	report_into(STDOUT_FILENO, &m, text, sizeof(text));
	o = json_tokener_parse(text);
	ASSERT(o && json_object_object_get_ex(o, "units_to_stop", &list));
	ASSERT_EQ(json_object_array_length(list), 3);
	ASSERT_STREQ(json_object_get_string(json_object_array_get_idx(list, 2)), "worker.service");
	json_object_put(o);
	machine_done(&m);
}
