/* What the target kernel must have been built with, so far as its configuration is known. */
#include <string.h>

#include "crkexec/kernel.h"

const struct kconfig_need kconfig_needs[] = {
	{ "CHECKPOINT_RESTORE", "processes get back their memory layout and ids" },
	{ "TIME_NS", "clocks of restored processes go on" },
	{ "USER_NS", "sandboxed units have a user namespace" },
	{ "UTS_NS", "sandboxed units have a host name of their own" },
	{ "CGROUPS", "units are control groups" },
	{ "BLK_DEV_INITRD", "images and early program come in an initramfs" },
	{ "BPF_SYSCALL", "the network is locked until the processes are back" },
	{ "DEVTMPFS", "the early program finds disks there" },
	{ "TMPFS", "/run is one" },
	{ "PROC_FS", "processes are set up through /proc" },
	{ "SYSFS", "devices are found through /sys" },
	{ "EPOLL", "processes hold such descriptors" },
	{ "EVENTFD", "processes hold such descriptors" },
	{ "SIGNALFD", "processes hold such descriptors" },
	{ "TIMERFD", "processes hold such descriptors" },
	{ "SECCOMP_FILTER", "sandboxed units have filters" },
	{ "UNIX", "processes hold such sockets" },
	{ "INET", "processes hold such sockets" },
	{ NULL, NULL }
};

static bool kconfig_is_set(const char *text, const char *option)
{
	char line[80];
	size_t n = (size_t)snprintf(line, sizeof(line), "CONFIG_%s=", option);

	for (const char *s = text; (s = strstr(s, line)); s += n)
		if ((s == text || s[-1] == '\n') && (s[n] == 'y' || s[n] == 'm'))
			return true;
	return false;
}

int kconfig_missing(const char *text, const struct kconfig_need *needs, struct strv *ret)
{
	for (; needs->option; needs++) {
		int r = kconfig_is_set(text, needs->option) ? 0 : strv_add(ret, needs->option);

		if (r < 0)
			return r;
	}
	return 0;
}
