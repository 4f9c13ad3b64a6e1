/* Part of phase "plan": the kernel, and what carries the early program into it. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/cmdline.h"
#include "crkexec/machine.h"
#include "crkexec/paths.h"
#include "crkexec/phases.h"
#include "kernel/mountinfo.h"
#include "util/io.h"
#include "util/log.h"

static int take_entry(struct upgrade *u, const struct kernel_entry *e)
{
	u->target.image = strdup(e->image);
	if (!u->target.image)
		return -ENOMEM;
	if (e->initrd) {
		u->target.initrd = strdup(e->initrd);
		return u->target.initrd ? 0 : -ENOMEM;
	}
	return 0;
}

/* The version asked for, or the newest; a prefix is not a version: "7.2" may mean several. */
static int choose_version(struct upgrade *u, const char *version)
{
	struct kernel_list list = { 0 };
	struct strv names = { 0 };
	int r = kernel_list("", &list);

	if (r < 0)
		return log_err(r, "cannot list the kernels");
	r = -ENOENT;
	for (size_t i = list.n; i-- > 0 && r == -ENOENT;)
		if (!version || !strcmp(list.v[i].version, version))
			r = take_entry(u, &list.v[i]);
	for (size_t i = 0; i < list.n && r == -ENOENT; i++)
		if (strv_add(&names, list.v[i].version) < 0)
			r = -ENOMEM;
	if (r == -ENOENT)
		upgrade_problem(u, r, NULL, "give one of these, or the path of a kernel image",
				version ? "there is no kernel %s; installed: %s" :
				"no kernel is installed%s (looked for in /boot and /usr/lib/modules): %s",
				version ? version : "", strv_text(&names));
	strv_done(&names);
	kernel_list_done(&list);
	return r;
}

static int check_image(struct upgrade *u)
{
	struct bzimage bz;
	const char *why;
	int r = bzimage_read(u->target.image, &bz, &why);

	if (r < 0)
		return upgrade_problem(u, r, NULL, "give a kernel image such as /boot/vmlinuz-VERSION",
				       "cannot use %s: %s", u->target.image, why ? why : strerror(-r));
	u->target.cmdline_max = bz.cmdline_max;
	u->target.has_high_memory = bz.has_high_memory;
	u->target.version = strdup(bz.version);
	u->m->kernel_to = strdup(bz.version);
	if (!u->target.version || !u->m->kernel_to)
		return -ENOMEM;
	u->target.config = kernel_find_config("", bz.version);
	u->target.modules_dir = kernel_find_modules("", bz.version);
	if (!u->target.initrd)
		u->target.initrd = kernel_find_initrd("", bz.version);
	return 0;
}

int plan_kernel(struct upgrade *u)
{
	const char *given = u->opt->kernel;
	int r;

	if (given && !kernel_is_version(given)) {
		u->target.image = realpath(given, NULL);
		if (!u->target.image)
			return upgrade_problem(u, neg_errno(), NULL, NULL, "cannot use kernel %s: %m",
					       given);
	} else {
		r = choose_version(u, given);
		if (r < 0)
			return r;
	}
	if (u->opt->initrd) {
		free(u->target.initrd);
		u->target.initrd = realpath(u->opt->initrd, NULL);
		if (!u->target.initrd)
			return upgrade_problem(u, neg_errno(), NULL, NULL, "cannot use initrd %s: %m",
					       u->opt->initrd);
	}
	return check_image(u);
}

/* An initrd of another kernel hangs the boot: its modules do not load. */
static int check_initrd(struct upgrade *u)
{
	const struct target *t = &u->target;
	struct initrd_info info;
	int r = initrd_scan(t->initrd, &info);

	if (r < 0)
		return upgrade_problem(u, r, NULL, NULL, "cannot read initrd %s: %s", t->initrd,
				       strerror(-r));
	if (info.versions.n && !strv_has(&info.versions, t->version))
		r = upgrade_problem(u, -EINVAL, NULL, "give the initrd that was made for this kernel",
				    "initrd %s belongs to kernel %s, not to %s", t->initrd,
				    strv_text(&info.versions), t->version);
	else if (info.unreadable)
		r = upgrade_problem(u, -EINVAL, NULL, "make it anew (dracut --force --kver VERSION); "
				    "compressed by gzip, xz or zstd it can be checked",
				    "initrd %s is not an initramfs, damaged, or compressed in an unknown "
				    "way", t->initrd);
	else if (!info.has_early)
		r = upgrade_problem(u, -EOPNOTSUPP, NULL,
				    "make it anew with the dracut module \"crkexec\": dracut --force "
				    "--add crkexec --kver VERSION",
				    "initrd %s does not hold crkexec's early program", t->initrd);
	initrd_info_done(&info);
	return r;
}

static int own_initramfs_is_enough(char **ret_why)
{
	_cleanup_free_ char *why = NULL;
	int r = root_is_on_plain_disk(&why);

	*ret_why = why ? str_fmt("the root file system is on %s", why) : NULL;
	return r;
}

static char *current_init(void)
{
	_cleanup_free_ char *text = NULL, *init = NULL;

	if (read_file_at(AT_FDCWD, "/proc/cmdline", 1u << 20, &text, NULL) < 0)
		return NULL;
	init = cmdline_get(text, "init");
	return init && path_is_normal(init) ? take_ptr(init) : NULL;
}

int plan_carrier(struct upgrade *u)
{
	_cleanup_free_ char *why = NULL, *early = NULL;
	int r = u->opt->initrd ? 0 : own_initramfs_is_enough(&why);

	if (r < 0)
		return r;
	u->m->root_init = current_init();
	u->target.own_initramfs = r > 0;
	if (u->target.own_initramfs) {
		early = lib_path("crkexec-early");
		if (!early || access(early, R_OK | X_OK) < 0)
			return upgrade_problem(u, -ENOENT, NULL, "reinstall crkexec",
					       "crkexec's early program is missing (%s)",
					       early ? early : "?");
		return 0;
	}
	if (!u->target.initrd)
		return upgrade_problem(u, -ENOENT, NULL, "make one, or give it by --initrd",
				       "%s, so the distribution's initrd of kernel %s is needed: "
				       "none was found", why ? why : "--initrd", u->target.version);
	/* The guard locks the network before the root could come over it. */
	if (root_is_remote())
		return upgrade_problem(u, -EOPNOTSUPP, NULL, "restart this machine by an ordinary reboot",
				       "the root file system is reached over a network, which is locked until the "
				       "services are back");
	if (why)
		log_info("%s: the distribution's initrd carries the early program", why);
	return check_initrd(u);
}
