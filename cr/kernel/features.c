/*
 * What the running kernel can do. Every answer comes from trying, in a child where trying
 * changes something; nothing is cached, and no version number is believed.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "cr.h"
#include "kernel/features.h"
#include "util/io.h"
#include "util/log.h"

static bool file_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static bool has_syscall(long nr)
{
	/* Arguments no call accepts: any answer but ENOSYS means it is there. */
	return syscall(nr, -1, -1, -1, -1, -1, -1) >= 0 || errno != ENOSYS;
}

static bool has_map_files(void)
{
	return file_exists("/proc/self/map_files");
}

static bool has_children(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	return file_exists(path);
}

static bool has_set_tid(void)
{
	struct clone_args args = { .exit_signal = SIGCHLD };
	pid_t tid = 1;
	long r;

	/* pid 1 is taken: EEXIST says the kernel looked at set_tid and we may choose. */
	args.set_tid = (uint64_t)&tid;
	args.set_tid_size = 1;
	r = syscall(SYS_clone3, &args, sizeof(args));
	if (!r)
		_exit(0);
	if (r > 0)
		waitpid((pid_t)r, NULL, 0);
	return r > 0 || errno == EEXIST;
}

static bool has_kcmp(void)
{
	return syscall(SYS_kcmp, getpid(), getpid(), 1 /* KCMP_VM */, 0, 0) == 0;
}

static bool has_mm_map(void)
{
	unsigned int size;

	return prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) == 0;
}

static bool has_pidfd_getfd(void)
{
	return has_syscall(SYS_pidfd_getfd) && has_syscall(SYS_pidfd_open);
}

static bool has_timens(void)
{
	return file_exists("/proc/self/ns/time");
}

static bool has_userns(void)
{
	return file_exists("/proc/self/ns/user");
}

static bool has_cgroupns(void)
{
	return file_exists("/proc/self/ns/cgroup");
}

static bool has_uffd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool has_sock_diag(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 4 /* NETLINK_SOCK_DIAG */);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool has_tcp_repair(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = fd >= 0 && !setsockopt(fd, 6, 19 /* TCP_REPAIR */, &(int){ 1 }, sizeof(int));

	if (fd >= 0)
		close(fd);
	return ok;
}

bool kernel_has_soft_dirty(void)
{
	char *p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	_cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t bits = 0;
	bool ok;

	if (p == MAP_FAILED || fd < 0)
		return false;
	*(volatile char *)p = 1;
	ok = !pread_full(fd, &bits, 8, (off_t)((uint64_t)p / PAGE_BYTES * 8)) && bits >> 55 & 1;
	munmap(p, PAGE_BYTES);
	return ok;
}

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, any, ret;
};

static bool scans_for(uint64_t category)
{
	_cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct scan_arg arg = { .size = sizeof(arg), .any = category, .ret = category };

	return fd >= 0 && ioctl(fd, _IOWR('f', 16, struct scan_arg), &arg) >= 0;
}

static bool has_pagemap_scan(void)
{
	return scans_for(8 /* PAGE_IS_PRESENT */);
}

bool kernel_has_guard_scan(void)
{
	return scans_for(256 /* PAGE_IS_GUARD */);
}

/* Asynchronous write protection, and the way to read it. */
bool kernel_has_wp_async(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = 1u << 15 };
	_cleanup_close_ int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* USER_MODE_ONLY */);

	return fd >= 0 && ioctl(fd, UFFDIO_API, &api) >= 0 && has_pagemap_scan();
}

bool kernel_has_high_memory(void)
{
	void *p = mmap((void *)(1ull << 47), PAGE_BYTES, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return errno == EEXIST;
	munmap(p, PAGE_BYTES);
	return true;
}

static bool has_dirty_track(void)
{
	return kernel_has_soft_dirty() || kernel_has_wp_async();
}

/* A child stopped by us; what the request says about it. */
static bool ptrace_says(int request, void *addr, void *data)
{
	pid_t child = fork();
	bool ok = false;
	int status;

	if (!child)
		for (;;)
			pause();
	if (child < 0)
		return false;
	if (ptrace(PTRACE_SEIZE, child, 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, child, 0, 0) == 0 &&
	    waitpid(child, &status, __WALL) == child)
		ok = ptrace(request, child, addr, data) >= 0;
	kill(child, SIGKILL);
	waitpid(child, &status, __WALL);
	return ok;
}

static bool has_rseq_conf(void)
{
	struct __ptrace_rseq_configuration c;

	return ptrace_says(PTRACE_GET_RSEQ_CONFIGURATION, (void *)sizeof(c), &c);
}

static bool has_peeksiginfo(void)
{
	struct __ptrace_peeksiginfo_args a = { .nr = 1 };
	siginfo_t si;

	return ptrace_says(PTRACE_PEEKSIGINFO, &a, &si);
}

static bool has_seccomp_suspend(void)
{
	return ptrace_says(PTRACE_SETOPTIONS, NULL, (void *)(1ul << 21));
}

static bool has_seccomp_filters(void)
{
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

static bool has_vdso_map(void)
{
	/* With a vDSO mapped the answer is EEXIST; EINVAL means the call is unknown. */
	return syscall(SYS_arch_prctl, 0x2003 /* ARCH_MAP_VDSO_64 */, 0) >= 0 || errno == EEXIST;
}

static bool has_openat2(void)
{
	return has_syscall(SYS_openat2);
}

static bool has_move_mount(void)
{
	return has_syscall(SYS_move_mount) && has_syscall(SYS_mount_setattr);
}

static bool has_loginuid(void)
{
	return file_exists("/proc/self/loginuid");
}

static bool has_ns_last_pid(void)
{
	return access("/proc/sys/kernel/ns_last_pid", W_OK) == 0;
}

static bool has_timer_ids(void)
{
#ifdef PR_TIMER_CREATE_RESTORE_IDS
	const int op = PR_TIMER_CREATE_RESTORE_IDS;
#else
	const int op = 77;
#endif
	return prctl(op, 2 /* GET */, 0, 0, 0) >= 0;
}

static bool has_sockopt_buf_lock(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), v;
	socklen_t len = sizeof(v);
	bool ok = fd >= 0 && !getsockopt(fd, SOL_SOCKET, 72 /* SO_BUF_LOCK */, &v, &len);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool has_freezer(void)
{
	return file_exists("/sys/fs/cgroup/cgroup.controllers") ||
	       file_exists("/sys/fs/cgroup/unified/cgroup.controllers");
}

static bool has_kcmp_epoll(void)
{
	/* Wrong descriptors: EBADF says the type is known. */
	return syscall(SYS_kcmp, getpid(), getpid(), 7 /* KCMP_EPOLL_TFD */, -1, 0) >= 0 ||
	       errno != EINVAL;
}

enum need { MANDATORY, OPTIONAL };

static const struct {
	const char *name;	/* CRIU's where it has one */
	enum need need;
	bool (*probe)(void);
	const char *config;	/* what to switch on in the kernel */
} features[] = {
	{ "map_files",			MANDATORY, has_map_files,	"CONFIG_CHECKPOINT_RESTORE" },
	{ "children",			MANDATORY, has_children,	"CONFIG_PROC_CHILDREN" },
	{ "clone3_set_tid",		MANDATORY, has_set_tid,		"CONFIG_CHECKPOINT_RESTORE, CAP_CHECKPOINT_RESTORE" },
	{ "ns_last_pid",		MANDATORY, has_ns_last_pid,	"CONFIG_CHECKPOINT_RESTORE" },
	{ "kcmp",			MANDATORY, has_kcmp,		"CONFIG_KCMP" },
	{ "mm_map",			MANDATORY, has_mm_map,		"CONFIG_CHECKPOINT_RESTORE" },
	{ "pidfd_getfd",		MANDATORY, has_pidfd_getfd,	"Linux 5.6" },
	{ "peeksiginfo",		MANDATORY, has_peeksiginfo,	"Linux 3.10" },
	{ "sock_diag",			MANDATORY, has_sock_diag,	"CONFIG_UNIX_DIAG, CONFIG_INET_DIAG" },
	{ "tcp_repair",			MANDATORY, has_tcp_repair,	"CAP_NET_ADMIN" },
	{ "can_map_vdso",		MANDATORY, has_vdso_map,	"CONFIG_CHECKPOINT_RESTORE" },
	{ "get_rseq_conf",		MANDATORY, has_rseq_conf,	"Linux 5.13" },
	{ "seccomp_suspend",		MANDATORY, has_seccomp_suspend,	"CONFIG_CHECKPOINT_RESTORE, CAP_SYS_ADMIN" },
	{ "seccomp_filters",		MANDATORY, has_seccomp_filters,	"CONFIG_SECCOMP_FILTER" },
	{ "openat2",			MANDATORY, has_openat2,		"Linux 5.6" },
	{ "move_mount",			MANDATORY, has_move_mount,	"Linux 5.12" },
	{ "timens",			OPTIONAL,  has_timens,		"CONFIG_TIME_NS" },
	{ "userns",			OPTIONAL,  has_userns,		"CONFIG_USER_NS" },
	{ "cgroupns",			OPTIONAL,  has_cgroupns,	"CONFIG_CGROUPS" },
	{ "cgroup2_freezer",		OPTIONAL,  has_freezer,		"cgroup v2 mounted" },
	{ "kcmp_epoll",			OPTIONAL,  has_kcmp_epoll,	"CONFIG_KCMP" },
	{ "kcmp_epoll_tfd",		OPTIONAL,  has_kcmp_epoll,	"CONFIG_KCMP" },
	{ "loginuid",			OPTIONAL,  has_loginuid,	"CONFIG_AUDIT" },
	{ "uffd",			OPTIONAL,  has_uffd,		"CONFIG_USERFAULTFD" },
	{ "mem_dirty_track",		OPTIONAL,  has_dirty_track,	"CONFIG_MEM_SOFT_DIRTY, or Linux 6.7 with CONFIG_USERFAULTFD" },
	{ "pagemap_scan",		OPTIONAL,  has_pagemap_scan,	"Linux 6.7" },
	{ "timer_cr_ids",		OPTIONAL,  has_timer_ids,	"Linux 6.15" },
	{ "sockopt_buf_lock",		OPTIONAL,  has_sockopt_buf_lock,"Linux 5.12" },
};

int cr_check_feature(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (!strcmp(features[i].name, name))
			return features[i].probe();
	return feature_of_name(name);
}

int cr_check_mandatory(void)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].need == MANDATORY && !features[i].probe())
			r = log_fail(-EOPNOTSUPP, "%s is missing (%s)", features[i].name,
				     features[i].config);
	return r;
}

bool cr_check_kernel(bool extra, bool all)
{
	bool good = true, complete = true;

	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		if (features[i].need == OPTIONAL && !extra && !all)
			continue;
		if (features[i].probe())
			continue;
		printf("%s: %s is missing (%s)\n", features[i].need == MANDATORY ? "Error" : "Warn",
		       features[i].name, features[i].config);
		if (features[i].need == MANDATORY)
			good = false;
		else
			complete = false;
	}
	puts(!good ? "Does not look good." :
		     complete ? "Looks good." : "Looks good but some optional features are missing.");
	return good && complete;
}
