/*
 * crkexec-early: the phases of the new kernel's side, as one table for both carriers.
 *
 *   (as PID 1)              own initramfs
 *   crkexec-early --initrd  in the distribution's initramfs, before the switch to the root
 *   crkexec-early --fence   its guard, before udev; --fence --notify under systemd
 *
 * After the first failure only the rows marked ALWAYS run: they boot the machine.
 */
#include "initramfs/early_store.h"

#include <fcntl.h>
#include <string.h>

#include "util/io.h"
#include "util/log.h"

enum {
	OWN = 1, INITRD = 2, BOTH = 3,	/* carriers */
	ALWAYS = 4,			/* also when nothing can be restored any more */
	FATAL = 8,			/* no machine without it */
};

/* Beside the disks' ones; the process that runs them holds the lock until "network unlock". */
static const struct early_phase network_phases[] = {
	{ "network modules",	early_network_modules,	OWN },
	/* An interface that is up for one packet may send one reset. */
	{ "network lock",	early_net_lock,		OWN },
	{ "network",		early_net_configure,	OWN },
};

static int network_begin(struct early *e)
{
	return early_lane_begin(e, network_phases, ARRAY_SIZE(network_phases), &e->network);
}

/* Beyond this a driver does not come up any more. */
#define NETWORK_USEC	(60u * 1000000u)

static int network_join(struct early *e)
{
	return early_lane_join(e, e->network, NETWORK_USEC + e->manifest->n_links * EARLY_DEVICE_USEC);
}

static const struct early_phase phases[] = {
	/* Nothing works without /proc, /dev and /run, not even a message. */
	{ "kernel filesystems", early_mount_api,	OWN | ALWAYS },
	{ "log",		early_log_open,		BOTH | ALWAYS },
	{ "manifest",		early_manifest,		BOTH },
	/* Loading modules starts kernel threads: the saved ids are taken first. */
	{ "PID fence",		early_fence,		BOTH },
	{ "clock",		early_clock,		BOTH },
	{ "sysctls",		early_sysctls,		BOTH },
	{ "network process",	network_begin,		OWN },
	{ "more kernel filesystems",
				early_mount_more_api,	OWN | ALWAYS },
	/* They check their images while devices appear. */
	{ "restorers",		early_restore_begin,	BOTH },
	{ "modules",		early_modules,		OWN | ALWAYS },
	{ "network lock",	early_net_lock,		INITRD },
	{ "network",		early_net_configure,	INITRD },
	{ "root filesystem",	early_mount_root,	BOTH | ALWAYS | FATAL },
	/* Before the next row: it has the initramfs' /proc and modules. */
	{ "wait for network",	network_join,		OWN },
	/* Before the trees: their mount namespaces are built from "/". */
	{ "enter root",		early_enter_root,	BOTH | ALWAYS | FATAL },
	{ "filesystems",	early_mount_others,	BOTH },
	/* Settings of interfaces and filesystems that were not there the first time. */
	{ "sysctls again",	early_sysctls_again,	BOTH },
	/* Beside the restore; the rules are loaded where the network is unlocked. */
	{ "packet filter process",
				early_filter_begin,	BOTH },
	/* What follows changes the world: not a second time by another boot. */
	{ "images taken",	early_store_consume,	BOTH },
	{ "AppArmor profiles",	early_apparmor,		BOTH },
	{ "files",		early_carry,		BOTH },
	/* From the first moment on they may have something to say. */
	{ "log sockets",	early_syslog,		OWN },
	{ "restore",		early_restore,		BOTH },
	/* All connections answer for themselves again, or never will. */
	{ "network unlock",	early_net_unlock,	BOTH | ALWAYS },
	{ "outcome",		early_outcome,		BOTH | ALWAYS },
	{ "real init",		early_exec_init,	OWN | ALWAYS | FATAL },
};

static void read_cmdline(struct early *e)
{
	_cleanup_free_ char *text = NULL;
	int r;

	if (e->cmdline.root || e->cmdline.init)
		return;
	r = read_file_at(AT_FDCWD, "/proc/cmdline", 1u << 20, &text, NULL);
	if (r == 0)
		r = early_cmdline_parse(text, &e->cmdline);
	if (r < 0)
		log_err(r, "cannot read the kernel's command line");
}

static void run_phase(struct early *e, const struct early_phase *p)
{
	if (early_run_phase(e, p) >= 0)
		return;
	early_say("%s failed: %s", p->name, e->reason);
	if ((p->flags & FATAL) && !e->initrd)
		early_die(e, e->reason);
}

static int run_phases(struct early *e)
{
	unsigned int carrier = e->initrd ? INITRD : OWN;

	for (size_t i = 0; i < ARRAY_SIZE(phases); i++) {
		if (!(phases[i].flags & carrier) || (*e->reason && !(phases[i].flags & ALWAYS)))
			continue;
		run_phase(e, &phases[i]);
		/* /proc is there after the first row. */
		if (i == 0 || e->initrd)
			read_cmdline(e);
	}
	return *e->reason ? -EIO : 0;
}

/* The kernel's console for messages of libraries; children get no closed 0, 1, 2. */
static void open_console(void)
{
	int fd;

	do {
		fd = open("/dev/console", O_RDWR | O_NOCTTY);
		if (fd < 0)
			fd = open("/", O_RDONLY | O_DIRECTORY);
	} while (fd >= 0 && fd < 2);
	if (fd > 2)
		close(fd);
}

static int guard_main(struct early *e, bool notify)
{
	int r = early_log_open(e);

	if (r == 0) {
		read_cmdline(e);
		r = early_manifest(e);
	}
	return r < 0 ? r : early_guard(e, notify);
}

int main(int argc, char **argv)
{
	struct early e = {
		.argv = argv, .rootfs_fd = -EBADF, .images_fd = -EBADF, .uevent_fd = -EBADF,
		.log_fd = -EBADF, .begin_usec = clock_usec(CLOCK_BOOTTIME),
	};

	if (getpid() == 1) {
		open_console();
		run_phases(&e);
		return 1;	/* not reached: "real init" is FATAL */
	}
	if (argc >= 2 && !strcmp(argv[1], "--initrd")) {
		e.initrd = true;
		e.uevent_fd = uevent_open();
		read_cmdline(&e);
		return run_phases(&e) < 0;
	}
	if (argc >= 2 && !strcmp(argv[1], "--fence"))
		return guard_main(&e, argc >= 3 && !strcmp(argv[2], "--notify")) < 0;
	fprintf(stderr, "%s: is run by the initramfs: as PID 1, with --initrd, or with --fence"
			" [--notify]\n", argv[0]);
	return 2;
}
