/*
 * Filesystems: the kernel's own ones as systemd mounts them (it keeps what it finds), the root
 * below /sysroot, the move onto it, then those others that the trees need.
 *
 * The traps: pivot_root(2) fails on the initramfs, so the root is moved over "/"; a mount
 * cannot be moved off a shared parent, so "/" becomes shared only afterwards, and must, or
 * what the host mounts later never reaches the restored namespaces.
 */
#include "initramfs/early.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kernel/mountinfo.h"
#include "util/io.h"
#include "util/log.h"

#define NO_ALL	(MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct api_mount {
	const char *target, *type, *options;
	unsigned long flags;
	bool optional;
} api_mounts[] = {
	{ "/dev", "devtmpfs", "mode=755,size=4m,nr_inodes=1m", MS_NOSUID | MS_STRICTATIME, false },
	{ "/proc", "proc", NULL, NO_ALL, false },
	{ "/sys", "sysfs", NULL, NO_ALL, false },
	{ "/run", "tmpfs", "mode=755,size=20%,nr_inodes=800k",
	  MS_NOSUID | MS_NODEV | MS_STRICTATIME, false },
}, more_api_mounts[] = {
	{ "/sys/fs/cgroup", "cgroup2", "nsdelegate,memory_recursiveprot", NO_ALL, false },
	{ "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV | MS_STRICTATIME, false },
	{ "/dev/pts", "devpts", "mode=620,gid=5", MS_NOSUID | MS_NOEXEC, false },
	/* Kernels may lack these; sandboxes hold clones of those that are there. */
	{ "/sys/kernel/security", "securityfs", NULL, NO_ALL, true },
	{ "/sys/fs/pstore", "pstore", NULL, NO_ALL, true },
	{ "/sys/fs/bpf", "bpf", "mode=700", NO_ALL, true },
	{ "/sys/firmware/efi/efivars", "efivarfs", NULL, NO_ALL, true },
};

int early_mkdirs(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return neg_errno();
		*p = '/';
	}
	return mkdir(copy, mode) < 0 && errno != EEXIST ? neg_errno() : 0;
}

static bool is_mount_point(const char *path)
{
	struct statx sx;

	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &sx) == 0 &&
	       (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static int mount_all(const struct api_mount *mounts, size_t n)
{
	int bad = 0;

	for (size_t i = 0; i < n; i++) {
		const struct api_mount *a = &mounts[i];

		if (is_mount_point(a->target))
			continue;
		if (a->optional ? access(a->target, F_OK) < 0
				: mkdir(a->target, 0755) < 0 && errno != EEXIST)
			continue;
		if (mount(a->type, a->target, a->type, a->flags, a->options) < 0 && !a->optional)
			bad = log_err(neg_errno(), "cannot mount %s on %s", a->type, a->target);
	}
	return bad;
}

int early_mount_api(struct early *e)
{
	umask(022);
	e->uevent_fd = uevent_open();
	if (e->uevent_fd < 0)
		log_err(e->uevent_fd, "no uevents, devices are looked for now and then");
	return mount_all(api_mounts, ARRAY_SIZE(api_mounts));
}

int early_mount_more_api(struct early *e _unused_)
{
	return mount_all(more_api_mounts, ARRAY_SIZE(more_api_mounts));
}

static int mount_device(struct early *e, const struct manifest_mount *m, const char *target, uint64_t usec)
{
	_cleanup_free_ char *device = NULL;
	int r = device_find(e->uevent_fd, m->source, usec, &device);

	if (r < 0)
		return r;
	if (mount(device, target, m->fstype, m->flags, m->options) < 0)
		return log_err(neg_errno(), "cannot mount %s (%s, %s) on %s", m->source, device,
			       m->fstype, target);
	return 0;
}

static const struct manifest_mount *root_of(const struct manifest *m)
{
	for (size_t i = 0; m && i < m->n_mounts; i++)
		if (!strcmp(m->mounts[i].target, "/"))
			return &m->mounts[i];
	return NULL;
}

/* As the kernel itself would: root=, rootfstype=, rootflags=, ro, rw. */
static int mount_root_by_cmdline(struct early *e)
{
	static const char *const guesses[] = { "ext4", "xfs", "btrfs", "f2fs", "vfat" };
	struct manifest_mount m = {
		.source = e->cmdline.root, .options = e->cmdline.root_flags,
		.fstype = e->cmdline.root_type, .flags = e->cmdline.read_only ? MS_RDONLY : 0,
	};
	int r = -EINVAL;

	if (!m.source)
		return log_fail(-ENOENT, "no root filesystem: none in the manifest, no root=");
	if (m.fstype)
		return mount_device(e, &m, EARLY_ROOT, EARLY_DEVICE_USEC);
	for (size_t i = 0; i < ARRAY_SIZE(guesses) && r == -EINVAL; i++) {
		m.fstype = (char *)guesses[i];
		r = mount_device(e, &m, EARLY_ROOT, EARLY_DEVICE_USEC);
	}
	return r;
}

int early_mount_root(struct early *e)
{
	const struct manifest_mount *root = root_of(e->manifest);
	int r = -ENOENT;

	if (e->initrd) {
		/* Theirs is mounted; the trees may need it writable, as it was. */
		if (root && !(root->flags & MS_RDONLY) &&
		    mount(NULL, EARLY_ROOT, NULL, MS_REMOUNT | root->flags, NULL) < 0)
			return log_err(neg_errno(), "cannot make the root writable");
		return 0;
	}
	if (mkdir(EARLY_ROOT, 0755) < 0 && errno != EEXIST)
		return log_err(neg_errno(), "cannot make " EARLY_ROOT);
	if (root)
		r = mount_device(e, root, EARLY_ROOT, EARLY_DEVICE_USEC);
	return r < 0 ? mount_root_by_cmdline(e) : 0;
}

static int carry_over(struct early *e, const char *path)
{
	_cleanup_free_ char *target = str_fmt(EARLY_ROOT "%s", path);

	if (!target)
		return -ENOMEM;
	if (is_mount_point(target))
		return 0;
	if (mount(path, target, NULL, e->initrd ? MS_BIND | MS_REC : MS_MOVE, NULL) < 0)
		return log_err(neg_errno(), "cannot bring %s to %s", path, target);
	return 0;
}

int early_enter_root(struct early *e)
{
	static const char *const carried[] = { "/dev", "/proc", "/sys", "/run" };
	int r;

	e->rootfs_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(carried); i++) {
		r = carry_over(e, carried[i]);
		if (r < 0)
			return r;
	}
	if (chdir(EARLY_ROOT) < 0)
		return log_err(neg_errno(), "cannot enter " EARLY_ROOT);
	/* The distribution's initramfs moves its root itself, after us. */
	if (!e->initrd && mount(".", "/", NULL, MS_MOVE, NULL) < 0)
		return log_err(neg_errno(), "cannot move the root filesystem to /");
	if (chroot(".") < 0 || chdir("/") < 0)
		return log_err(neg_errno(), "cannot change to the root filesystem");
	if (!e->initrd && mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0)
		return log_err(neg_errno(), "cannot make / shared");
	return 0;
}

static int mount_other(struct early *e, const struct manifest_mount *m, uint64_t usec)
{
	struct stat st;
	int r;

	if (m->target[0] != '/' || strstr(m->target, "/../"))
		return log_fail(-EBADMSG, "mount target %s is not absolute", m->target);
	if (!strcmp(m->target, "/") || is_mount_point(m->target))
		return 0;
	if (stat(m->target, &st) < 0) {
		r = early_mkdirs(m->target, 0755);
		if (r < 0)
			return log_err(r, "cannot make %s to mount %s", m->target, m->fstype);
	}
	if (str_starts(m->source, "/dev/") || strchr(m->source, '='))
		return mount_device(e, m, m->target, usec);
	if (mount(m->source, m->target, m->fstype, m->flags, m->options) < 0)
		return log_err(neg_errno(), "cannot mount %s on %s", m->fstype, m->target);
	/* The trap: bound, it has the flags of where it comes from (mount(2)). */
	if (m->flags & MS_BIND && mount(NULL, m->target, NULL, MS_REMOUNT | m->flags, NULL) < 0) {
		r = log_err(neg_errno(), "cannot restrict %s as it was", m->target);
		umount2(m->target, MNT_DETACH);
		return r;
	}
	return 0;
}

/*
 * Who has files on a missing file system must not come back: it would find the directory below, which may
 * look the same, and write there what nobody sees when the disk is mounted later.
 */
static void give_up_users(struct early *e, const char *target)
{
	struct manifest *m = e->manifest;

	for (size_t i = 0; i < m->n_units; i++) {
		struct manifest_unit *u = &m->units[i];

		for (size_t k = 0; k < u->n_filesystems; k++)
			if (!strcmp(u->filesystems[k], target))
				early_mark_cold(u, "its file system %s is missing: %s", target, log_first_error());
	}
}

/*
 * Mounted on the directory below it would be hidden as soon as the other one is there; and what is bound
 * from it is not what the directory below shows.
 */
static int check_below(const struct manifest_mount *m, const struct manifest_mount *const *missing, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (path_below(m->target, missing[i]->target) ||
		    (m->flags & MS_BIND && path_below(m->source, missing[i]->target)))
			return log_fail(-ENOENT, "it lies on %s, which is missing", missing[i]->target);
	return 0;
}

int early_mount_others(struct early *e)
{
	const uint64_t end = clock_usec(CLOCK_BOOTTIME) + EARLY_DEVICE_USEC;
	const struct manifest *m = e->manifest;
	_cleanup_free_ const struct manifest_mount **missing = calloc(m->n_mounts + 1, sizeof(*missing));
	size_t n = 0;

	if (!missing)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_mounts; i++) {
		const struct manifest_mount *mt = &m->mounts[i];
		uint64_t now = clock_usec(CLOCK_BOOTTIME);

		log_first_error_forget();
		/* They appear side by side: one time for all of them together. */
		if (check_below(mt, missing, n) == 0 && mount_other(e, mt, end > now ? end - now : 0) == 0)
			continue;
		log_warn("going on without %s", mt->target);
		give_up_users(e, mt->target);
		missing[n++] = mt;
	}
	return 0;
}
