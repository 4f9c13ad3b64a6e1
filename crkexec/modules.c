/*
 * Which modules of the target kernel bring this machine's disks, network and file systems up:
 * each device's own and those of the buses above it, by modalias, in the target's index.
 *
 * The trap: an alias that is found nowhere may be built in, or missing: the name of the driver
 * that runs the device now decides, since the target must have that one in either form.
 */
#include <fcntl.h>
#include <libkmod.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "crkexec/kernel.h"
#include "crkexec/machine.h"
#include "crkexec/upgrade.h"
#include "util/io.h"
#include "util/log.h"

#define SOFTDEP_DEPTH_MAX	8

struct finder {
	struct upgrade *u;
	struct manifest *m;
	struct kmod_ctx *kmod;
	struct kmod_ctx *settings;	/* with modprobe.d(5)'s */
	struct strv list;		/* paths of those to be loaded one after the other */
};

static int add_firmware(struct finder *f, struct kmod_module *mod)
{
	struct kmod_list *info = NULL, *l;
	int r = 0;

	/* A module that says nothing of itself wants nothing. */
	if (kmod_module_get_info(mod, &info) < 0)
		return 0;
	kmod_list_foreach(l, info)
		if (r == 0 && !strcmp(kmod_module_info_get_key(l), "firmware"))
			r = firmware_find("", f->u->target.version, kmod_module_info_get_value(l),
					  &f->u->firmware_paths);
	kmod_module_info_free_list(info);
	return r;
}

static int add_one(struct finder *f, struct kmod_module *mod)
{
	const char *path = kmod_module_get_path(mod);

	/* No path: built in. */
	if (!path || strv_has(&f->list, path))
		return 0;
	log_debug("module %s", path);
	if (strv_add(&f->list, path) < 0)
		return -ENOMEM;
	if (strv_has(&f->u->module_paths, path))
		return 0;
	return strv_add(&f->u->module_paths, path) < 0 ? -ENOMEM : add_firmware(f, mod);
}

/*
 * "e1000e.ko IntMode=1": with the options that modprobe would give it, here and on the command line. The
 * trap: bonding makes a bond0 of its own when nobody tells it not to.
 */
static char *name_and_options(struct finder *f, const char *path)
{
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path, *options = NULL;
	const char *first = str_starts(name, "bonding.ko") ? " max_bonds=0" : "";
	struct kmod_module *mod = NULL;
	char *text;

	if (f->settings && kmod_module_new_from_path(f->settings, path, &mod) == 0)
		options = kmod_module_get_options(mod);
	text = str_fmt("%s%s%s%s", name, first, options ? " " : "", options ? options : "");
	if (mod)
		kmod_module_unref(mod);
	return text;
}

/* For the manifest; the list is empty again. */
static int take_names(struct finder *f, char ***ret, size_t *ret_n)
{
	_cleanup_strv_ struct strv names = { 0 };

	for (size_t i = 0; i < f->list.n; i++)
		if (strv_add_take(&names, name_and_options(f, f->list.v[i])) < 0)
			return -ENOMEM;
	strv_done(&f->list);
	*ret = names.v;
	*ret_n = names.n;
	names = (struct strv){ 0 };
	return 0;
}

static int add_module(struct finder *f, struct kmod_module *mod, int depth);

static int add_list(struct finder *f, struct kmod_list *list, int depth)
{
	struct kmod_list *l;
	int r = 0;

	kmod_list_foreach(l, list) {
		struct kmod_module *mod = kmod_module_get_module(l);

		if (r == 0)
			r = add_module(f, mod, depth);
		kmod_module_unref(mod);
	}
	return r;
}

/* What it needs, what it wants before (ext4: crc32c), itself, what it wants after. */
static int add_module(struct finder *f, struct kmod_module *mod, int depth)
{
	struct kmod_list *pre = NULL, *post = NULL, *deps;
	const char *path = kmod_module_get_path(mod);
	int r;

	if (depth > SOFTDEP_DEPTH_MAX || (path && strv_has(&f->list, path)))
		return 0;
	kmod_module_get_softdeps(mod, &pre, &post);
	deps = kmod_module_get_dependencies(mod);
	r = add_list(f, pre, depth + 1);
	if (r == 0)
		r = add_list(f, deps, depth + 1);
	if (r == 0)
		r = add_one(f, mod);
	if (r == 0)
		r = add_list(f, post, depth + 1);
	kmod_module_unref_list(pre);
	kmod_module_unref_list(post);
	kmod_module_unref_list(deps);
	return r;
}

/* 1: the target has it (added, or built in); 0: it does not know the name. */
static int add_alias(struct finder *f, const char *alias)
{
	struct kmod_list *list = NULL;
	int r = kmod_module_new_from_lookup(f->kmod, alias, &list);

	if (r < 0 && r != -ENOENT)
		return log_err(r, "cannot look up %s in %s", alias, f->u->target.modules_dir);
	if (!list)
		return 0;
	r = add_list(f, list, 0);
	kmod_module_unref_list(list);
	return r < 0 ? r : 1;
}

static int read_word(const char *dir, const char *name, char **ret)
{
	_cleanup_free_ char *path = str_fmt("%s/%s", dir, name);
	int r = path ? read_file_at(AT_FDCWD, path, 4096, ret, NULL) : -ENOMEM;

	if (r == 0)
		(*ret)[strcspn(*ret, "\n")] = '\0';
	return r;
}

/* Name of the module that holds the device's driver now; NULL: no driver, or built in. */
static char *driver_module(const char *dir)
{
	_cleanup_free_ char *path = str_fmt("%s/driver/module", dir), *link = NULL;
	const char *slash;

	if (!path || readlink_at(AT_FDCWD, path, &link) < 0)
		return NULL;
	slash = strrchr(link, '/');
	return strdup(slash ? slash + 1 : link);
}

static int add_device(struct finder *f, const char *dir, const char *what)
{
	_cleanup_free_ char *alias = NULL, *driver = driver_module(dir);
	int r;

	if (read_word(dir, "modalias", &alias) == 0 && *alias) {
		r = add_alias(f, alias);
		if (r < 0)
			return r;
	}
	if (!driver)
		return 0;
	r = add_alias(f, driver);
	if (r == 0)
		return upgrade_problem(f->u, -EOPNOTSUPP, NULL,
				       "install the module, or choose another kernel",
				       "kernel %s has no module %s, which %s needs",
				       f->u->target.version, driver, what);
	return r < 0 ? r : 0;
}

/* The device and what it hangs on, up to /sys/devices. The nearest bus is added last. */
static int add_device_chain(struct finder *f, const char *link, const char *what)
{
	char real[PATH_MAX];
	size_t base = strlen("/sys/devices/");

	if (!realpath(link, real) || !str_starts(real, "/sys/devices/"))
		return 0;
	for (size_t i = base;; i++) {
		int r;
		char c = real[i];

		if (c && c != '/')
			continue;
		real[i] = '\0';
		r = add_device(f, real, what);
		if (r < 0 || !c)
			return r;
		real[i] = '/';
	}
}

static int add_link_kind(struct finder *f, const struct manifest_link *l)
{
	_cleanup_free_ char *alias = str_fmt("rtnl-link-%s", l->kind);
	int r = alias ? add_alias(f, alias) : -ENOMEM;

	/* Built in, or not there: then its addresses are missing, and who needs them starts cold. */
	return r < 0 ? r : 0;
}

static int add_network(struct finder *f)
{
	for (size_t i = 0; i < f->m->n_links; i++) {
		const struct manifest_link *l = &f->m->links[i];
		_cleanup_free_ char *path = str_fmt("/sys/class/net/%s/device", l->name);
		int r = !path ? -ENOMEM : l->kind ? add_link_kind(f, l) : add_device_chain(f, path, l->name);

		if (r < 0)
			return r;
	}
	return 0;
}

static int add_fstype(struct finder *f, const char *fstype)
{
	_cleanup_free_ char *alias = str_fmt("fs-%s", fstype);
	int r = alias ? add_alias(f, alias) : -ENOMEM;

	/* An old index has no aliases of what is built in: the module's name is the type's. */
	if (r == 0)
		r = add_alias(f, fstype);
	if (r == 0)
		return upgrade_problem(f->u, -EOPNOTSUPP, NULL,
				       "install the module, or choose another kernel",
				       "kernel %s does not know the file system %s",
				       f->u->target.version, fstype);
	return r < 0 ? r : 0;
}

static int add_file_systems(struct finder *f)
{
	for (size_t i = 0; i < f->m->n_mounts; i++) {
		const struct manifest_mount *mt = &f->m->mounts[i];
		_cleanup_free_ char *path = NULL;
		struct stat st;
		int r;

		/* Those without a device: what there is, is enough; most are part of any kernel. */
		if (!str_starts(mt->source, "/dev/") && !strchr(mt->source, '=')) {
			path = str_fmt("fs-%s", mt->fstype);
			r = path ? add_alias(f, path) : -ENOMEM;
			if (r < 0)
				return r;
			continue;
		}
		r = add_fstype(f, mt->fstype);
		if (r < 0)
			return r;
		path = str_starts(mt->source, "UUID=") ? str_fmt("/dev/disk/by-uuid/%s", mt->source + 5) :
		       str_starts(mt->source, "PARTUUID=") ?
		       str_fmt("/dev/disk/by-partuuid/%s", mt->source + 9) : strdup(mt->source);
		if (!path || stat(path, &st) < 0 || !S_ISBLK(st.st_mode))
			continue;
		free(path);
		path = str_fmt("/sys/dev/block/%u:%u", major(st.st_rdev), minor(st.st_rdev));
		r = path ? add_device_chain(f, path, mt->target) : -ENOMEM;
		if (r < 0)
			return r;
	}
	return 0;
}

/* "net.ipv4.tcp_congestion_control=bbr": connections keep theirs by name. */
static int add_congestion(struct finder *f)
{
	static const char key[] = "net.ipv4.tcp_congestion_control=";

	for (size_t i = 0; i < f->m->n_sysctls; i++) {
		_cleanup_free_ char *name = NULL;
		int r;

		if (!str_starts(f->m->sysctls[i], key))
			continue;
		name = str_fmt("tcp_%s", f->m->sysctls[i] + sizeof(key) - 1);
		r = name ? add_alias(f, name) : -ENOMEM;
		if (r < 0)
			return r;
		if (r == 0 && strcmp(name, "tcp_reno"))
			upgrade_warn(f->u, "kernel %s has no module %s", f->u->target.version, name);
	}
	return 0;
}

int modules_find(struct upgrade *u, struct manifest *m)
{
	struct finder f = { .u = u, .m = m };
	const char *none = NULL;
	int r;

	if (!u->target.modules_dir)
		return upgrade_problem(u, -ENOENT, NULL, "install the kernel's modules",
				       "there is no /usr/lib/modules/%s", u->target.version);
	f.kmod = kmod_new(u->target.modules_dir, &none);
	if (!f.kmod)
		return log_fail(-ENOMEM, "cannot read %s", u->target.modules_dir);
	kmod_load_resources(f.kmod);
	f.settings = kmod_new(u->target.modules_dir, NULL);
	r = add_network(&f);
	if (r == 0)
		r = take_names(&f, &m->network_modules, &m->n_network_modules);
	if (r == 0)
		r = add_file_systems(&f);
	if (r == 0)
		r = add_congestion(&f);
	if (r == 0)
		r = take_names(&f, &m->modules, &m->n_modules);
	strv_done(&f.list);
	kmod_unref(f.kmod);
	if (f.settings)
		kmod_unref(f.settings);
	return r;
}
