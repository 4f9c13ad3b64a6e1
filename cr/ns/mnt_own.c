/*
 * In the builder: filesystems of the tree's own, made anew and filled, before anything of it
 * becomes read-only. Each hangs on the scratch directory; its mounts are bound from there.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "ns/mountapi.h"
#include "ns/state.h"
#include "ns/tar.h"
#include "util/child.h"

static void set_option(int fs, const char *fstype, char *option)
{
	char *value = strchr(option, '=');
	long r;

	if (!strcmp(option, "seclabel"))	/* only says that labels work */
		return;
	if (value)
		*value++ = '\0';
	r = syscall(SYS_fsconfig, fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, option,
		    value, 0);
	if (r == 0)
		return;
	/* What the kernel prints it need not take (labels without their policy). */
	log_warn("%s option %s%s%s is refused by this kernel: %s", fstype, option,
		 value ? "=" : "", value ? value : "", strerror(errno));
}

static int set_options(int fs, const MntEntry *e, const char *fstype)
{
	_cleanup_free_ char *list = strdup(e->options);
	char *save = NULL;

	if (!list)
		return -ENOMEM;
	if (*e->source &&
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", e->source, 0) < 0)
		log_debug("%s: source %s is refused", e->mountpoint, e->source);
	for (char *o = strtok_r(list, ",", &save); o; o = strtok_r(NULL, ",", &save))
		set_option(fs, fstype, o);
	return 0;
}

static int open_filesystem(void *fstype)
{
	int fs = (int)syscall(SYS_fsopen, fstype, FSOPEN_CLOEXEC);

	return fs < 0 ? neg_errno() : fs;
}

struct opening {
	struct restore_ctx *ctx;
	const char *fstype;
	uint32_t pid_ns;
	int cgroup_ns;
};

/* A proc shows the PID namespace of whoever opens it, a cgroup2 the groups of his cgroup namespace. */
static int open_inside(void *arg)
{
	const struct opening *o = arg;

	if (o->cgroup_ns >= 0 && setns(o->cgroup_ns, CLONE_NEWCGROUP) < 0)
		return neg_errno();
	return pidns_call_inside(o->ctx, o->pid_ns, open_filesystem, (void *)o->fstype);
}

static int make_superblock(struct builder *b, const MntEntry *e, const char *fstype, int *ret_fd)
{
	struct restore_ctx *ctx = b->ctx;
	uint32_t cgroup_ns = ns_own_id(ctx->inventory, b->mnt->p->ids, NS_CGROUP);
	struct opening o = { ctx, fstype, e->pid_ns_id, ns_restore_fd(ctx->ns_state, NS_CGROUP, cgroup_ns) };
	/* The builder itself shall not change its groups. */
	_cleanup_close_ int fs = o.cgroup_ns < 0 ? open_inside(&o) : child_call(open_inside, &o);
	int fd, r;

	if (fs < 0)
		return log_err(fs, "mount %s: this kernel has no %s", e->mountpoint, fstype);
	r = set_options(fs, e, fstype);
	if (r < 0)
		return r;
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return log_err(neg_errno(), "mount %s: cannot make a %s (options %s)",
			       e->mountpoint, fstype, e->options);
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	if (fd < 0)
		return log_err(neg_errno(), "mount %s: cannot mount a %s", e->mountpoint, fstype);
	*ret_fd = fd;
	return 0;
}

static uint32_t map_uid(void *arg, uint32_t id)
{
	return ns_restore_uid(arg, id);
}

static uint32_t map_gid(void *arg, uint32_t id)
{
	return ns_restore_gid(arg, id);
}

static int fill(struct builder *b, const struct rest_mount *m, int fd)
{
	_cleanup_image_reader_ struct image_reader rd;
	struct tar_ids ids = { .uid = map_uid, .gid = map_gid, .arg = b->ctx };
	int r = image_open(b->ctx->store, &image_tmpfs_dev, &rd, m->e->root_dev);

	LOG_SCOPE("mount %s", m->e->mountpoint);
	if (r < 0)
		return log_err(r, "cannot open its contents, tmpfs-dev-%u.tar.gz.img",
			       m->e->root_dev);
	return tar_extract(rd.data, rd.bytes, fd, &ids);
}

static int make_readonly(int mount_fd, const char *mountpoint)
{
	_cleanup_close_ int fs = (int)syscall(SYS_fspick, mount_fd, "",
					      FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);

	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
		return log_err(neg_errno(), "cannot make the filesystem at %s read-only",
			       mountpoint);
	return 0;
}

/* A new superblock, filled, on the scratch directory; its root's descriptor. */
static int make_filesystem(struct builder *b, const struct rest_mount *m, int *ret_fd)
{
	_cleanup_close_ int fd = -EBADF;
	int r = make_superblock(b, m->e, m->fstype, &fd);

	if (r < 0)
		return r;
	r = hang_on_scratch(b, fd);
	if (r < 0)
		return log_err(r, "mount %s: cannot attach a new %s", m->e->mountpoint, m->fstype);
	if (fs_has_contents(m->fstype)) {
		r = fill(b, m, fd);
		if (r < 0)
			return r;
	}
	if (m->e->sb_flags & MS_RDONLY) {
		r = make_readonly(fd, m->e->mountpoint);
		if (r < 0)
			return r;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int source_open_own(struct builder *b, const struct rest_mount *m, int *ret_fd)
{
	uintptr_t known = (uintptr_t)map_get(&b->own_by_dev, m->e->root_dev);
	int fd = -EBADF, r;

	if (!known) {
		r = make_filesystem(b, m, &fd);
		if (r < 0)
			return r;
		known = (uintptr_t)fd + 1;
		r = map_put(&b->own_by_dev, m->e->root_dev, (void *)known);
		if (r < 0)
			return log_err(r, "mount %s", m->e->mountpoint);
	}
	fd = (int)(known - 1);
	r = open_on_mount(fd, *m->e->root == '/' ? m->e->root + 1 : m->e->root, O_PATH | O_NOFOLLOW);
	if (r < 0)
		return log_err(r, "mount %s: its %s has no %s", m->e->mountpoint, m->fstype,
			       m->e->root);
	*ret_fd = r;
	return 0;
}
