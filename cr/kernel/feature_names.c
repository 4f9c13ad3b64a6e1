/*
 * Features that are asked for by CRIU's names and are no part of the list that cr needs: what
 * scripts ask before they use something. Where the answer is the kernel's it is tried; where cr
 * does without the kernel's help it is yes, and where cr has no use for it, no.
 */
#include <fcntl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "kernel/features.h"
#include "kernel/netlink.h"
#include "util/io.h"

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0)
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
#define SET_GROUP 0x100		/* MOVE_MOUNT_SET_GROUP */

static bool fdinfo_has(int fd, const char *word)
{
	char path[40], text[1024];
	_cleanup_close_ int info = -EBADF;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	n = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
	if (n < 0)
		return false;
	text[n] = '\0';
	return strstr(text, word);
}

static bool has_mnt_id(void)
{
	_cleanup_close_ int fd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && fdinfo_has(fd, "mnt_id:");
}

static bool has_timerfd(void)
{
	_cleanup_close_ int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	return fd >= 0 && fdinfo_has(fd, "clockid:");
}

static bool has_locks(void)
{
	_cleanup_close_ int fd = memfd_create("lock", MFD_CLOEXEC);

	return fd >= 0 && !flock(fd, LOCK_SH) && fdinfo_has(fd, "lock:");
}

static bool has_aio(void)
{
	return syscall(SYS_io_setup, -1, NULL) >= 0 || errno != ENOSYS;
}

static bool has_half_closed(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && !setsockopt(fd, SOL_TCP, TCP_REPAIR, &(int){ 1 }, sizeof(int)) &&
	       !setsockopt(fd, SOL_TCP, TCP_REPAIR, &(int){ -1 /* off, without a window probe */ },
			   sizeof(int));
}

static bool has_sk_ns(void)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int ns = fd < 0 ? -EBADF : ioctl(fd, SIOCGSKNS);

	return ns >= 0;
}

static bool has_unix_file(void)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* It has no file: ENOENT says that one was looked for. */
	return fd >= 0 && ioctl(fd, SIOCUNIXFILE) < 0 && errno == ENOENT;
}

static bool has_freebind6(void)
{
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && !setsockopt(fd, SOL_IPV6, IPV6_FREEBIND, &(int){ 1 }, sizeof(int));
}

static bool has_set_group(void)
{
	/* Flags are looked at before descriptors: EINVAL means that this one is unknown. */
	return syscall(SYS_move_mount, -1, "", -1, "", SET_GROUP) >= 0 || (errno != EINVAL && errno != ENOSYS);
}

static bool has_huge_memfd(void)
{
	_cleanup_close_ int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);

	return fd >= 0;
}

static bool has_ns_pid(void)
{
	_cleanup_free_ char *text = NULL;

	return read_file_at(AT_FDCWD, "/proc/self/status", 1u << 16, &text, NULL) >= 0 &&
	       strstr(text, "\nNSpid:");
}

static int any_table(void *arg _unused_, const struct nlmsghdr *h _unused_)
{
	return 0;
}

static bool has_nftables(void)
{
	const struct nfgenmsg head = { .version = NFNETLINK_V0 };
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	int r = netlink_open(NETLINK_NETFILTER, &nl);

	if (r >= 0)
		r = netlink_list(&nl, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, &head, sizeof(head),
				 any_table, NULL);
	return r >= 0 || r == -EAGAIN;
}

static bool always(void)
{
	return true;
}

static bool never(void)
{
	return false;
}

static const struct {
	const char *name;
	bool (*probe)(void);
} names[] = {
	{ "mnt_id",			has_mnt_id },
	{ "timerfd",			has_timerfd },
	{ "fdinfo_lock",		has_locks },
	{ "aio_remap",			has_aio },
	{ "tcp_half_closed",		has_half_closed },
	{ "sk_ns",			has_sk_ns },
	{ "sk_unix_file",		has_unix_file },
	{ "ipv6_freebind",		has_freebind6 },
	{ "move_mount_set_group",	has_set_group },
	{ "memfd_hugetlb",		has_huge_memfd },
	{ "ns_pid",			has_ns_pid },
	{ "pagemap_scan_guard_pages",	kernel_has_guard_scan },
	{ "nftables",			has_nftables },
	{ "network_lock_nftables",	has_nftables },
	/*
	 * Raw sockets are asked themselves, mapped files are found below overlays, too, and kernels
	 * that have the rest take an interface's number.
	 */
	{ "net_diag_raw",		always },
	{ "overlayfs_maps",		always },
	{ "newifindex",			always },
	{ "external_net_ns",		always },
	/* Refused by name, or without a use. */
	{ "tun",			never },
	{ "tun_ns",			never },
	{ "autofs",			never },
	{ "compat_cr",			never },
	{ "uffd-noncoop",		never },
	{ "nsid",			never },
	{ "link_nsid",			never },
	{ "has_ipt_legacy",		never },
	{ "pidfd_store",		never },
	{ "apparmor_stacking",		never },
	{ "breakpoints",		never },
};

int feature_of_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i].name, name))
			return names[i].probe();
	return -ENOENT;
}
