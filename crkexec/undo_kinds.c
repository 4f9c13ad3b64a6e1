/*
 * How each kind of step is undone. Run by the phases' undo functions, and by recovery after
 * crkexec was killed: nothing of the upgrade's memory is there, and any step may not have
 * been taken, or be undone already.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "crkexec/hugepages.h"
#include "crkexec/load.h"
#include "crkexec/paths.h"
#include "crkexec/tree.h"
#include "crkexec/undo.h"
#include "util/io.h"
#include "util/log.h"

#define SETTLE_SECONDS	60

static int undo_unload(const char *arg)
{
	(void)arg;
	return kexec_is_loaded() == 1 ? kexec_unload() : 0;
}

static int undo_umount(const char *path)
{
	if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		return neg_errno();
	if (rmdir(path) < 0 && errno != ENOENT)
		return neg_errno();
	return 0;
}

static int undo_fsthaw(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return neg_errno();
	/* EINVAL: it was not frozen. */
	return ioctl(fd, FITHAW, 0) < 0 && errno != EINVAL ? neg_errno() : 0;
}

/*
 * A dump that was killed may have left a socket in repair mode: it would stay dumb for ever.
 * -1 ends the mode without sending anything (TCP_REPAIR_OFF_NO_WP, Linux 4.19). That clears
 * SO_REUSEADDR, which the dump has set to what it was before; a 2 is the mode's own, from a dump
 * that did not come so far: without the option, a service could not bind its port again.
 */
static int end_repair(void *arg, pid_t pid, int t_fd, const char *link)
{
	_cleanup_close_ int pidfd = -EBADF, fd = -EBADF;
	int v = 0, off = -1, reuse = 0;
	socklen_t n = sizeof(v);

	(void)arg;
	if (!str_starts(link, "socket:["))
		return 0;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, t_fd, 0);
	if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &v, &n) < 0 || v == 0)
		return 0;
	log_warn("pid %d fd %d was left in TCP repair mode", pid, t_fd);
	n = sizeof(reuse);
	if (getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, &n) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse)) < 0)
		log_err(neg_errno(), "cannot end TCP repair mode of pid %d fd %d", pid, t_fd);
	return 0;
}

static int undo_thaw(const char *dir)
{
	_cleanup_free_ char *path = str_fmt("%s/cgroup.freeze", dir);
	struct unit_tree t;
	int r;

	if (!path)
		return -ENOMEM;
	r = tree_find(dir, &t);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = tree_each_fd(&t, end_repair, NULL);
	tree_done(&t);
	if (r < 0)
		log_err(r, "cannot look through the sockets of %s", dir);
	r = write_file_at(AT_FDCWD, path, "0");
	return r == -ENOENT ? 0 : r;
}

static int with_bus(int (*fn)(sd_bus *bus, const char *arg), const char *arg)
{
	sd_bus *bus = NULL;
	int r = bus_open(&bus);

	if (r == 0)
		r = fn(bus, arg);
	sd_bus_flush_close_unref(bus);
	return r < 0 ? r : 0;
}

static int start_unit(sd_bus *bus, const char *name)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int r;

	/* We stopped it: that shall not count towards its limit of starts (StartLimitBurst=). */
	sd_bus_call_method(bus, SD_NAME, SD_PATH, SD_MANAGER, "ResetFailedUnit", NULL, NULL, "s", name);
	r = sd_bus_call_method(bus, SD_NAME, SD_PATH, SD_MANAGER, "StartUnit", &error, NULL,
			       "ss", name, "replace");
	if (r < 0)
		log_fail(r, "%s: %s", name, bus_error_text(&error, r));
	sd_bus_error_free(&error);
	return r;
}

static int undo_start(const char *name)
{
	return with_bus(start_unit, name);
}

/* Until no job is left, so that "undone" means that the services run. */
static int settle(sd_bus *bus, const char *arg)
{
	(void)arg;
	for (int i = 0; i < SETTLE_SECONDS * 20; i++) {
		uint32_t jobs = 0;
		int r = bus_get_u32(bus, SD_PATH, SD_MANAGER, "NJobs", &jobs);

		if (r < 0 || !jobs)
			return r;
		usleep(50000);
	}
	log_warn("systemd still has jobs after %d seconds", SETTLE_SECONDS);
	return 0;
}

static int undo_settle(const char *arg)
{
	return with_bus(settle, arg);
}

/* Asked for after settle(): a start that was accepted may have failed. */
static int started_unit(sd_bus *bus, const char *name)
{
	_cleanup_free_ char *state = NULL;

	/* One that systemd has forgotten could not be started: that has been said. */
	if (unit_get_text(bus, name, "ActiveState", &state) == 0 && !strcmp(state, "failed"))
		return log_fail(-EIO, "%s was started again and has failed: systemctl status %s", name,
				name);
	return 0;
}

static int undo_started(const char *name)
{
	return with_bus(started_unit, name);
}

const struct undo_kind undo_kinds[] = {
	{ "hugepages", "set the number of huge pages back to", hugepages_undo },
	{ "unload", "unload", undo_unload },
	{ "umount", "unmount", undo_umount },
	{ "remove", "remove", remove_tree },
	{ "thaw", "thaw", undo_thaw },
	{ "fsthaw", "thaw the file system", undo_fsthaw },
	{ "start", "start", undo_start },
	{ "settle", "wait for", undo_settle },
	{ "started", "see running again", undo_started },
	{ NULL, NULL, NULL }
};
