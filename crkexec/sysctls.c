/*
 * Settings that decide whether a restore succeeds (limits, sizes, what may be bound), and what a program must not
 * find changed before the boot has set it again.
 */
#include <fcntl.h>
#include <string.h>

#include "crkexec/machine.h"
#include "util/io.h"
#include "util/log.h"

/*
 * With dots; the boot sets them again from sysctl.d, but only after the restore. Anything
 * that a kernel gives a different default for is worse than a few writes too many.
 */
static const char *const names[] = {
	"fs.file-max",
	"fs.nr_open",
	"fs.aio-max-nr",
	"fs.mqueue.queues_max",
	"fs.mqueue.msg_max",
	"fs.mqueue.msgsize_max",
	"fs.pipe-max-size",
	"fs.inotify.max_user_instances",
	"fs.inotify.max_user_watches",
	"fs.epoll.max_user_watches",
	"kernel.hostname",
	"kernel.domainname",
	"kernel.threads-max",
	"kernel.shmmax",
	"kernel.shmall",
	"kernel.shmmni",
	"kernel.sem",
	"kernel.msgmax",
	"kernel.msgmnb",
	"kernel.msgmni",
	"vm.max_map_count",
	"vm.overcommit_memory",
	"vm.overcommit_ratio",
	"vm.overcommit_kbytes",
	"vm.nr_hugepages",
	"vm.nr_overcommit_hugepages",
	"net.core.somaxconn",
	"net.core.rmem_max",
	"net.core.wmem_max",
	"net.core.optmem_max",
	"net.ipv4.ip_nonlocal_bind",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.ping_group_range",
	"net.ipv4.igmp_max_memberships",
	"net.ipv4.igmp_max_msf",
	"net.ipv4.tcp_timestamps",
	"net.ipv4.tcp_sack",
	"net.ipv4.tcp_window_scaling",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_wmem",
	"net.ipv4.tcp_mem",
	"net.ipv4.tcp_congestion_control",
	"net.ipv6.bindv6only",
	"net.ipv6.ip_nonlocal_bind",
	"net.unix.max_dgram_qlen",
};

static char *sysctl_path(const char *name)
{
	char *path = str_fmt("/proc/sys/%s", name);

	for (char *s = path ? path + strlen("/proc/sys/") : NULL; s && *s; s++)
		if (*s == '.')
			*s = '/';
	return path;
}

int sysctls_read(struct manifest *m)
{
	struct strv l = { 0 };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++) {
		_cleanup_free_ char *path = sysctl_path(names[i]), *text = NULL;

		if (!path)
			r = -ENOMEM;
		/* Not every kernel has every one. */
		if (r < 0 || read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0)
			continue;
		text[strcspn(text, "\n")] = '\0';
		if (!*text)
			continue;
		for (char *s = text; *s; s++)
			if (*s == '\t')
				*s = ' ';
		/* Either of the two is 0 when the other one counts; 0 must not be written. */
		if (!strcmp(text, "0") && str_starts(names[i], "vm.overcommit_") &&
		    strcmp(names[i], "vm.overcommit_memory"))
			continue;
		r = strv_add_take(&l, str_fmt("%s=%s", names[i], text));
	}
	if (r < 0) {
		strv_done(&l);
		return log_err(r, "cannot read the sysctl settings");
	}
	m->sysctls = l.v;
	m->n_sysctls = l.n;
	return 0;
}
