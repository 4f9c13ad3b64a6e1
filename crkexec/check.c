/*
 * Phase "check": everything that would stop the upgrade later, found now, all of it in one
 * run: in the running kernel, in the target kernel, in the trees. Changes nothing.
 */
#include <fcntl.h>
#include <string.h>

#include "cr/cr.h"
#include "crkexec/cmdline.h"
#include "crkexec/dumpopts.h"
#include "crkexec/load.h"
#include "crkexec/phases.h"
#include "crkexec/tree.h"
#include "util/io.h"
#include "util/log.h"

#define CHECK_TIMEOUT_USEC	(2u * 1000000u)

static void keep_first(int *first, int r)
{
	if (r < 0 && *first == 0)
		*first = r;
}

/* Where its configuration is known. */
static int check_needs(struct upgrade *u, const struct kconfig_need *needs)
{
	_cleanup_free_ char *text = NULL;
	struct strv missing = { 0 };
	int r, first = 0;

	if (!u->target.config)
		return 0;
	r = read_file_at(AT_FDCWD, u->target.config, 4u << 20, &text, NULL);
	if (r == 0)
		r = kconfig_missing(text, needs, &missing);
	if (r < 0)
		return log_err(r, "cannot read %s", u->target.config);
	for (const struct kconfig_need *n = needs; n->option; n++)
		if (strv_has(&missing, n->option))
			keep_first(&first, upgrade_problem(u, -EOPNOTSUPP, NULL, "choose another kernel",
				   "kernel %s was built without CONFIG_%s: %s", u->target.version,
				   n->option, n->why));
	strv_done(&missing);
	return first;
}

static int check_config(struct upgrade *u)
{
	if (!u->target.config)
		upgrade_warn(u, "kernel %s: its configuration was not found, so its features could "
			     "not be checked", u->target.version);
	return check_needs(u, kconfig_needs);
}

/* Words of --append by which the new kernel has no AppArmor. */
static bool is_without_apparmor(const char *append)
{
	static const char *const lists[] = { "security", "lsm" };
	_cleanup_free_ char *on = append ? cmdline_get(append, "apparmor") : NULL;
	bool without = on && !strcmp(on, "0");

	for (size_t i = 0; append && i < ARRAY_SIZE(lists); i++) {
		_cleanup_free_ char *list = cmdline_get(append, lists[i]);

		without |= list && !strstr(list, "apparmor");
	}
	return without;
}

/* Profiles come along (apparmor.c); the kernel must take them. */
static int check_apparmor(struct upgrade *u)
{
	static const struct kconfig_need needs[] = {
		{ "SECURITY_APPARMOR", "services are confined by its profiles" }, { NULL, NULL }
	};

	for (size_t i = 0; i < u->n_units; i++) {
		if (!u->m->units[i].n_profiles)
			continue;
		if (is_without_apparmor(u->opt->append))
			return upgrade_problem(u, -EOPNOTSUPP, u->units[i]->name, "leave that word out",
					       "it is confined by AppArmor, which --append switches off");
		return check_needs(u, needs);
	}
	return 0;
}

struct obstacles {
	struct upgrade *u;
	const char *unit;
};

static void on_obstacle(void *arg, const char *scope, const char *what, const char *remedy)
{
	struct obstacles *o = arg;

	/* Some name the object themselves. */
	if (str_starts(what, scope))
		scope = "";
	upgrade_problem(o->u, -EOPNOTSUPP, o->unit, remedy && *remedy ? remedy : NULL, "%s%s%s",
			scope, *scope ? ": " : "", what);
}

static int check_tree(struct upgrade *u, size_t i)
{
	struct obstacles o = { u, u->units[i]->name };
	struct dump_setup setup;
	size_t before = u->n_obstacles;
	int r = dump_setup_init(&setup, u, i);

	if (r < 0)
		return r;
	setup.opts.log_obstacles_only = true;
	/* A group stays frozen when its freezer is killed, and no guard is there yet; traced tasks run on. */
	setup.opts.freeze_cgroup = NULL;
	/* The service stands still meanwhile, and it is not the upgrade yet. */
	setup.opts.timeout_usec = CHECK_TIMEOUT_USEC;
	log_obstacles_set(on_obstacle, &o);
	r = cr_check_tree(&setup.opts);
	log_obstacles_set(NULL, NULL);
	dump_setup_done(&setup);
	if (u->n_obstacles > before)
		return -EOPNOTSUPP;
	if (r < 0)
		upgrade_problem(u, r, o.unit, NULL, "cannot examine pid %d: %s",
				u->units[i]->tree.root,
				*log_first_error() ? log_first_error() : strerror(-r));
	return r;
}

static int check_unit(struct upgrade *u, size_t i)
{
	const struct unit *un = u->units[i];
	int r = upgrade_look(u, i);

	if (r < 0)
		return r;
	if (!strcmp(un->type, "dbus"))
		upgrade_warn(u, "%s is of Type=dbus: after the upgrade its adoption lasts until the "
			     "next boot; a daemon-reload does not bring the type back", un->name);
	return check_tree(u, i);
}

static void check_journal(struct upgrade *u)
{
	if (access("/var/log/journal", F_OK) < 0)
		upgrade_warn(u, "the journal is kept in memory only (no /var/log/journal): its lines "
			     "end with this kernel");
}

int upgrade_check(void *arg)
{
	struct upgrade *u = arg;
	int first = 0;

	keep_first(&first, load_check(u));
	keep_first(&first, check_config(u));
	for (size_t i = 0; i < u->n_units; i++)
		keep_first(&first, check_unit(u, i));
	keep_first(&first, check_world(u));
	keep_first(&first, check_apparmor(u));
	keep_first(&first, check_target(u));
	/* For those who decide whether there shall be an upgrade. */
	if (u->opt->verb == VERB_CHECK || u->opt->dry_run)
		keep_first(&first, quiesce_list(u));
	check_journal(u);
	return first;
}
