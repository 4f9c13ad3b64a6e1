/*
 * crkexec-adopt UNIT: the start job of a unit whose processes run already. Takes their output
 * over to the unit's own stream, tells systemd which process is the main one, ends.
 *
 *   crkexec-adopt --finish, --cleanup    see adopt_finish.c
 *
 * Runs with "+" (no sandbox, all rights), in the unit's control group, as its control process.
 * Where the unit has a mount, network or ipc namespace it gets a fresh one of those: it goes
 * back to PID 1's first.
 *
 * The trap: READY=1 with a main process that is gone makes the unit "started" and then dead.
 * A dead one (it ended on its own; or someone restarts the unit before the drop-in is gone)
 * is started from cold: drop-in off, restart queued, which merges with the job we are in.
 */
#define _GNU_SOURCE
#include "systemd-units/adopt.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "crkexec/manifest.h"
#include "util/io.h"
#include "util/log.h"

#define BARRIER_USEC	(30u * 1000000u)
/* The queued restart kills us; nothing is served by waiting longer. */
#define COLD_SECONDS	90

static int join_init(const char *type)
{
	_cleanup_free_ char *theirs = str_fmt("/proc/1/ns/%s", type);
	_cleanup_free_ char *ours = str_fmt("/proc/self/ns/%s", type);
	_cleanup_close_ int fd = -EBADF;
	struct stat a, b;

	if (!theirs || !ours)
		return -ENOMEM;
	fd = open(theirs, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &a) < 0 || stat(ours, &b) < 0)
		return neg_errno();
	if (a.st_ino == b.st_ino)
		return 0;
	return setns(fd, 0) < 0 ? neg_errno() : 0;
}

static int join_init_namespaces(void)
{
	/* Mounts last: /proc of a sandbox is as good as the host's for the others. */
	static const char *const types[] = { "ipc", "net", "mnt" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		int r = join_init(types[i]);

		if (r < 0)
			return log_err(r, "cannot enter PID 1's %s namespace", types[i]);
	}
	return 0;
}

static struct manifest_unit *find_unit(const struct manifest *m, const char *name)
{
	for (size_t i = 0; i < m->n_units; i++)
		if (!strcmp(m->units[i].name, name))
			return &m->units[i];
	return NULL;
}

static void __attribute__((noreturn)) start_cold(const char *unit, const char *why)
{
	const char *const reload[] = { "systemctl", "daemon-reload", NULL };
	const char *const restart[] = { "systemctl", "--no-block", "restart", unit, NULL };
	_cleanup_free_ char *text = str_fmt("cold %s\n", why);

	log_warn("%s starts cold: %s", unit, why);
	if (text && adopt_mark(unit, text) == 0 && adopt_run(reload) == 0 &&
	    adopt_run(restart) == 0)
		sleep(COLD_SECONDS);
	exit(EXIT_FAILURE);
}

static int tell_systemd(const struct manifest_unit *u)
{
	int r = sd_notifyf(0, "MAINPID=%d\nREADY=1\nSTATUS=", u->main_pid);

	if (r <= 0)
		return log_err(r < 0 ? r : -ENOENT, "cannot tell systemd the main process of %s",
			       u->name);
	/* When we end, systemd must have read it: our pid says whose message it is. */
	r = sd_notify_barrier(0, BARRIER_USEC);
	return r < 0 ? log_err(r, "systemd does not read its notifications") : 0;
}

static int adopt(const char *name)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	_cleanup_free_ char *output = str_fmt(CRKEXEC_RUN_DIR "/%s.out", name);
	const struct manifest_unit *u;
	int r;

	if (!output)
		return -ENOMEM;
	r = manifest_load(AT_FDCWD, CRKEXEC_RUN_DIR "/manifest.json", &m);
	if (r < 0)
		start_cold(name, "the manifest of the upgrade cannot be read");
	u = find_unit(m, name);
	if (!u || !u->main_pid)
		start_cold(name, "the manifest knows no main process of it");
	r = proc_in_cgroup(u->main_pid, u->cgroup);
	if (r < 0)
		return log_err(r, "cannot look at pid %d", u->main_pid);
	/*
	 * A service without its journal is better than none. Of one that has ended, too: what it has said last
	 * may tell why.
	 */
	if (stdio_switch(u->cgroup, output) < 0)
		log_warn("output of %s stays in %s", name, output);
	if (r == 0)
		start_cold(name, "its restored main process has ended");
	r = tell_systemd(u);
	return r < 0 ? r : adopt_mark(name, "adopted\n");
}

static int usage(const char *self)
{
	fprintf(stderr, "usage: %s UNIT | --finish | --cleanup\nrun by systemd after an upgrade"
			" with crkexec(8)\n", self);
	return 2;
}

int main(int argc, char **argv)
{
	_cleanup_close_ int log_fd = -EBADF;
	int r;

	if (argc != 2 || !*argv[1])
		return usage(argv[0]);
	if (!strcmp(argv[1], "--finish"))
		return adopt_finish() < 0;
	if (!strcmp(argv[1], "--cleanup"))
		return adopt_cleanup() < 0;
	if (argv[1][0] == '-' || strchr(argv[1], '/'))
		return usage(argv[0]);
	r = join_init_namespaces();
	if (r < 0)
		return EXIT_FAILURE;
	/* Our own words do not belong between the lines of the service. */
	log_fd = open(CRKEXEC_RUN_DIR "/adopt.log",
		      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	log_init(LOGLEVEL_INFO, log_fd);
	LOG_SCOPE("%s", argv[1]);
	return adopt(argv[1]) < 0;
}
