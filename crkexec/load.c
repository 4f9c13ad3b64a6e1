/*
 * Only kexec_file_load(2), never kexec_load(2): the latter places segments by
 * /sys/firmware/memmap, which knows nothing of memory that a store holds.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "crkexec/load.h"
#include "util/io.h"
#include "util/log.h"

#define KEXEC_FILE_UNLOAD_FLAG	1ul
#define KEXEC_FILE_DEBUG_FLAG	8ul

static int read_number(const char *path, long *ret)
{
	_cleanup_free_ char *text = NULL;
	int v, r = read_file_at(AT_FDCWD, path, 4096, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	r = parse_int(text, &v);
	*ret = v;
	return r;
}

int kexec_is_loaded(void)
{
	long v = 0;
	int r = read_number("/sys/kernel/kexec_loaded", &v);

	return r < 0 ? r : v != 0;
}

int kexec_unload(void)
{
	if (syscall(SYS_kexec_file_load, -1, -1, 0ul, NULL, KEXEC_FILE_UNLOAD_FLAG) < 0)
		return neg_errno();
	return 0;
}

int kexec_readonly(int *fd, int *ret_fd)
{
	char path[40];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	if (ro < 0)
		return neg_errno();
	close(take_fd(fd));
	*ret_fd = ro;
	return 0;
}

int load_check(struct upgrade *u)
{
	long v = 0;
	int r = kexec_is_loaded();

	if (r < 0)
		return upgrade_problem(u, -EOPNOTSUPP, NULL, "boot a kernel with CONFIG_KEXEC_FILE",
				       "the running kernel cannot kexec");
	if (r > 0)
		return upgrade_problem(u, -EBUSY, NULL, "unload it: kexec -u",
				       "a kernel has been loaded for kexec by someone else");
	if (read_number("/proc/sys/kernel/kexec_load_disabled", &v) == 0 && v)
		return upgrade_problem(u, -EPERM, NULL,
				       "it stays so until the next boot; find what sets it (sysctl.d)",
				       "kexec is disabled: kernel.kexec_load_disabled is 1");
	if (read_number("/proc/sys/kernel/kexec_load_limit_reboot", &v) == 0 && v >= 0 && v < 2)
		return upgrade_problem(u, -EPERM, NULL, "find what sets it (sysctl.d)",
				       "kernel.kexec_load_limit_reboot allows %ld more loads, "
				       "two are needed", v);
	return 0;
}

bool lockdown_is_on(void)
{
	_cleanup_free_ char *text = NULL;

	if (read_file_at(AT_FDCWD, "/sys/kernel/security/lockdown", 4096, &text, NULL) < 0)
		return false;
	return strstr(text, "[none]") == NULL;
}

static int explain(struct upgrade *u, int r)
{
	switch (r) {
	case -EPERM:
	case -EACCES:
		if (lockdown_is_on())
			return upgrade_problem(u, r, NULL, "use a signed kernel, or boot without lockdown",
					       "kernel lockdown refuses to load %s", u->target.image);
		break;
	case -ENOKEY:
	case -EKEYREJECTED:
	case -EBADMSG:
		return upgrade_problem(u, r, NULL, "use a kernel signed by a key this machine trusts",
				       "the signature of %s was refused", u->target.image);
	case -ENOEXEC:
		return upgrade_problem(u, r, NULL, NULL, "%s is not a kernel that kexec can load",
				       u->target.image);
	case -ENOMEM:
	case -EADDRNOTAVAIL:
		return upgrade_problem(u, r, NULL, "free memory, or try --store pmem",
				       "not enough memory to load kernel and initramfs");
	case -EFBIG:
		return upgrade_problem(u, r, NULL, "try --store pmem",
				       "the initramfs is too large for kexec");
	}
	return upgrade_problem(u, r, NULL, NULL, "loading %s failed: %s", u->target.image,
			       strerror(-r));
}

/* With its places printed to the kernel's log, which the pmem store reads (Linux 6.8). */
static int file_load(int kernel_fd, int initrd_fd, const char *cmdline)
{
	static const unsigned long flags[] = { KEXEC_FILE_DEBUG_FLAG, 0 };
	long r = -1;

	for (size_t i = 0; i < ARRAY_SIZE(flags) && r < 0; i++) {
		r = syscall(SYS_kexec_file_load, kernel_fd, initrd_fd, strlen(cmdline) + 1, cmdline,
			    flags[i]);
		/* An older kernel does not know the flag. */
		if (r < 0 && errno != EINVAL)
			break;
	}
	return r < 0 ? neg_errno() : 0;
}

int load_kernel(struct upgrade *u, int initrd_fd)
{
	_cleanup_close_ int kernel_fd = open(u->target.image, O_RDONLY | O_CLOEXEC);
	int r;

	if (kernel_fd < 0)
		return upgrade_problem(u, neg_errno(), NULL, NULL, "cannot open %s: %m",
				       u->target.image);
	r = undo_push(&u->undo, "unload", "kexec");
	if (r < 0)
		return r;
	r = file_load(kernel_fd, initrd_fd, u->cmdline);
	if (r < 0)
		return explain(u, r);
	log_info("loaded %s, command line: %s", u->target.image, u->cmdline);
	return 0;
}
