/* Phase "plan": what is to be kept, by which kernel, through which store. Changes nothing. */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

#include "crkexec/machine.h"
#include "cr/cr.h"
#include "crkexec/memory.h"
#include "crkexec/phases.h"
#include "crkexec/tree.h"
#include "util/io.h"
#include "util/log.h"

static int plan_system(struct upgrade *u)
{
	struct statfs fs;
	int r;

	if (access("/run/systemd/system", F_OK) < 0)
		return upgrade_problem(u, -EOPNOTSUPP, NULL, NULL,
				       "this machine was not booted with systemd");
	if (statfs("/sys/fs/cgroup", &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
		return upgrade_problem(u, -EOPNOTSUPP, NULL,
				       "boot without systemd.unified_cgroup_hierarchy=0",
				       "/sys/fs/cgroup is not cgroup v2");
	r = bus_open(&u->bus);
	return r < 0 ? upgrade_problem(u, r, NULL, NULL, "cannot talk to systemd: %s",
				       strerror(-r)) : 0;
}

static int unit_refuse(struct upgrade *u, const struct unit *un)
{
	const char *n = un->name;
	size_t len = strlen(n);

	if (!strcmp(un->load_state, "masked"))
		return upgrade_problem(u, -EINVAL, n, "unmask and start it, or leave it out",
				       "the unit is masked");
	if (strcmp(un->load_state, "loaded"))
		return upgrade_problem(u, -EINVAL, n, "see: systemctl status", "the unit file cannot "
				       "be used (%s)", un->load_state);
	if (len < 9 || strcmp(n + len - 8, ".service"))
		return upgrade_problem(u, -EINVAL, n, "name services only", "it is not a service");
	if (!strcmp(un->active_state, "failed"))
		return upgrade_problem(u, -EINVAL, n, "start it, or leave it out",
				       "the unit has failed");
	if (strcmp(un->active_state, "active"))
		return upgrade_problem(u, -EINVAL, n, "start it, or leave it out",
				       "the unit is not active (%s)", un->active_state);
	if (!un->cgroup_dir)
		return upgrade_problem(u, -EINVAL, n, "leave it out: there is nothing to keep",
				       "the unit has no processes (%s)", un->sub_state);
	return 0;
}

/* Takes it over. */
static int plan_add(struct upgrade *u, struct unit *unit)
{
	_cleanup_(unit_freep) struct unit *un = unit;
	struct unit **v;
	int r;

	r = unit_refuse(u, un);
	if (r < 0)
		return r;
	for (size_t i = 0; i < u->n_units; i++)
		if (!strcmp(u->units[i]->name, un->name))
			return 0;	/* named twice, or by an alias */
	r = unit_find_tree(un);
	if (r == -ESRCH)
		return upgrade_problem(u, r, un->name, "leave it out: there is nothing to keep",
				       "the unit has no processes");
	if (r < 0)
		return upgrade_problem(u, r, un->name, NULL, "cannot read %s: %s", un->cgroup_dir,
				       strerror(-r));
	/* Started by an init script, or Type=forking without PIDFile=: the adoption has nothing to name. */
	if (!un->main_pid)
		return upgrade_problem(u, -EOPNOTSUPP, un->name, "give it PIDFile= or another Type=, "
				       "or leave it out",
				       "systemd knows no main process of it, by which the new one could "
				       "take it over");
	v = reallocarray(u->units, u->n_units + 1, sizeof(struct unit *));
	if (!v)
		return -ENOMEM;
	u->units = v;
	u->units[u->n_units++] = take_ptr(un);
	return 0;
}

/*
 * Debian's postgresql.service runs nothing itself: its clusters are units that are PartOf= it. Such
 * a name stands for those of them that run. *ret_n: how many.
 */
static int plan_parts(struct upgrade *u, const struct unit *un, size_t *ret_n)
{
	struct strv parts = { 0 };
	int r = bus_get_strv(u->bus, un->path, SD_UNIT, "ConsistsOf", &parts), first = 0;

	*ret_n = 0;
	for (size_t i = 0; r >= 0 && i < parts.n; i++) {
		struct unit *part = NULL;

		if (unit_load(u->bus, parts.v[i], &part) < 0)
			continue;
		if (!part->cgroup_dir || strcmp(part->active_state, "active")) {
			unit_free(part);
			continue;
		}
		++*ret_n;
		r = plan_add(u, part);
		if (r < 0 && !first)
			first = r;
		r = 0;
	}
	strv_done(&parts);
	return first;
}

static int plan_unit(struct upgrade *u, const char *given)
{
	_cleanup_free_ char *name = unit_name_full(given);
	struct unit *un = NULL;
	size_t n_parts;
	int r;

	if (!name)
		return upgrade_problem(u, -EINVAL, NULL, NULL, "\"%s\" is not a unit name", given);
	r = unit_load(u->bus, name, &un);
	if (r == -ENOENT)
		return upgrade_problem(u, r, name, "see: systemctl list-units --type=service",
				       "there is no such unit");
	if (r < 0)
		return upgrade_problem(u, r, name, NULL, "cannot read the unit: %s", strerror(-r));
	if (!un->cgroup_dir && !strcmp(un->active_state, "active")) {
		r = plan_parts(u, un, &n_parts);
		if (n_parts) {
			unit_free(un);
			return r;
		}
	}
	return plan_add(u, un);
}

static int plan_units(struct upgrade *u)
{
	int first = 0;

	/* All of them are looked at: one run names every mistake. */
	for (size_t i = 0; i < u->opt->services.n; i++) {
		int r = plan_unit(u, u->opt->services.v[i]);

		if (r < 0 && !first)
			first = r;
	}
	return first;
}

static int fill_unit(const struct unit *un, struct manifest_unit *mu)
{
	mu->name = strdup(un->name);
	mu->cgroup = strdup(un->cgroup);
	mu->type = strdup(un->type);
	mu->identifier = *un->identifier ? strdup(un->identifier) : NULL;
	mu->main_pid = un->main_pid;
	mu->control_pid = un->control_pid;
	mu->n_tasks = (uint32_t)un->tree.n_pids;
	return mu->name && mu->cgroup && mu->type ? 0 : -ENOMEM;
}

static int plan_manifest_units(struct upgrade *u)
{
	u->m->units = calloc(u->n_units, sizeof(*u->m->units));
	if (!u->m->units)
		return -ENOMEM;
	for (size_t i = 0; i < u->n_units; i++) {
		int r;

		u->m->n_units = i + 1;
		r = fill_unit(u->units[i], &u->m->units[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Below this the copy takes no longer than the rest of a dump. */
#define PRE_DUMP_MIN_BYTES	(64ull << 20)

/*
 * A pre-dump has all that is private; what of it is written again until the freeze is a guess. Should
 * that be too low, the tree is saved whole, in the pre-dump's room.
 */
static struct store_need need_of(const struct upgrade *u, const struct memory_estimate *e,
				 uint64_t carried_bytes)
{
	struct store_need need = { .bytes = e->bytes + carried_bytes, .swapped_bytes = e->swapped_bytes };

	if (!u->opt->no_pre_dump && e->private_bytes >= PRE_DUMP_MIN_BYTES && cr_track_supported())
		need.rest_bytes = need.bytes - e->private_bytes + e->private_bytes / 4;
	return need;
}

int upgrade_needs(struct upgrade *u, struct store_need **ret)
{
	_cleanup_free_ struct store_need *needs = calloc(u->n_units, sizeof(*needs));

	if (!needs)
		return -ENOMEM;
	u->estimate_bytes = 0;
	for (size_t i = 0; i < u->n_units; i++) {
		struct memory_estimate e;
		uint64_t carried;
		int r = carry_check(u, u->units[i], &carried);

		if (r == 0)
			r = memory_estimate_tree(&u->units[i]->tree, &e);
		if (r < 0)
			return r;
		needs[i] = need_of(u, &e, carried);
		u->estimate_bytes += needs[i].bytes;
	}
	*ret = take_ptr(needs);
	return 0;
}

static int plan_store(struct upgrade *u)
{
	_cleanup_free_ struct store_need *needs = NULL;
	int r = upgrade_needs(u, &needs);

	return r < 0 ? r : store_choose(u, needs, u->n_units);
}

int upgrade_plan(void *arg)
{
	struct upgrade *u = arg;
	int r = plan_system(u), kernel;

	if (r < 0)
		return r;
	r = plan_units(u);
	/* Also when a unit is wrong: one run names both. */
	kernel = plan_kernel(u);
	if (r < 0 || kernel < 0)
		return r < 0 ? r : kernel;
	r = plan_manifest_units(u);
	if (r == 0)
		r = sysctls_read(u->m);
	/* What it can bring up decides on the rest. */
	if (r == 0)
		r = plan_carrier(u);
	if (r == 0)
		r = netstate_read(u, u->m);
	if (r == 0)
		r = packet_filter_read(u, u->m);
	if (r == 0)
		r = mounts_read(u, u->m);
	if (r == 0 && u->target.own_initramfs)
		r = modules_find(u, u->m);
	if (r == 0)
		r = plan_store(u);
	return r;
}
