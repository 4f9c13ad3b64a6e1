/*
 * LD_PRELOAD for tests of failures: stands between crkexec and the kernel, so that the product
 * needs no hooks of its own.
 *
 *   CRK_TEST_DAMAGE="UNIT:PID:PREFIX ..."  flips a byte in the middle of the image file whose
 *		name begins with PREFIX of that unit's tree, after everything was sealed: in the
 *		initramfs given to kexec_file_load(2), or in the bundles in memory at reboot(2);
 *		pre-dump/PREFIX: in the bundle of the tree's pre-dump
 *   CRK_TEST_HOLD=1  reboot(2) never comes: the last moment of the last phase lasts
 *   CRK_TEST_NO_FREEZE=PATH  the file system there cannot be frozen
 *   CRK_TEST_HANG=1  a dump never gets farther than its first ptrace(2)
 *
 * Says what it did on standard error. The two calls that are damaged go through libc's syscall().
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/reboot.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CPIO_HEAD	110
#define ROUND4(n)	(((n) + 3) & ~(size_t)3)
#define BUNDLE_NAME	64

struct target {
	char unit[128], prefix[32];
	int pid;
};

/* cr/image/store_bundle.h. */
struct bundle_head {
	char magic[8];
	uint32_t version, header_bytes;
	uint64_t used_bytes, toc_offset, n_files;
};
struct bundle_entry {
	char name[BUNDLE_NAME];
	uint64_t offset, bytes, hash;
};

static int for_each_target(int (*fn)(const struct target *t, void *arg), void *arg)
{
	const char *text = getenv("CRK_TEST_DAMAGE");
	int done = 0, n;
	struct target t;

	for (; text && sscanf(text, " %127[^:]:%d:%31s%n", t.unit, &t.pid, t.prefix, &n) == 3; text += n)
		done += fn(&t, arg);
	return done;
}

static void said(const struct target *t, const char *name)
{
	dprintf(2, "crk-test: damaged %s of %s\n", name, t->unit);
}

/* --- an initramfs ------------------------------------------------------------------------ */

struct archive {
	uint8_t *data;
	size_t bytes;
};

static size_t field(const uint8_t *head, int i)
{
	char text[9] = "";

	memcpy(text, head + 6 + 8 * i, 8);
	return strtoul(text, NULL, 16);
}

static int damage_member(const struct target *t, void *arg)
{
	const struct archive *a = arg;
	char want[256];
	size_t at = 0;

	snprintf(want, sizeof(want), "crkexec/%s/%s", t->unit, t->prefix);
	while (at + CPIO_HEAD < a->bytes) {
		const uint8_t *head = a->data + at;
		size_t name_bytes, bytes, data;
		const char *name;

		/* Zeros between archives, and whatever is in front of ours. */
		if (memcmp(head, "070701", 6)) {
			at += 4;
			continue;
		}
		name_bytes = field(head, 11);
		bytes = field(head, 6);
		name = (const char *)head + CPIO_HEAD;
		data = ROUND4(at + CPIO_HEAD + name_bytes);
		if (!strncmp(name, want, strlen(want)) && bytes) {
			a->data[data + bytes / 2] ^= 0x10;
			said(t, name);
			return 1;
		}
		at = ROUND4(data + bytes);
	}
	return 0;
}

/* A copy of the initramfs with the damage; the old one when there is nothing to damage. */
static int damage_initramfs(int fd)
{
	struct archive a;
	struct stat st;
	char path[40];
	int copy, ro;

	if (fd < 0 || !getenv("CRK_TEST_DAMAGE") || fstat(fd, &st) < 0)
		return fd;
	copy = memfd_create("crk-test", MFD_CLOEXEC);
	a.bytes = (size_t)st.st_size;
	if (copy < 0 || ftruncate(copy, st.st_size) < 0)
		return fd;
	a.data = mmap(NULL, a.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, copy, 0);
	if (a.data == MAP_FAILED)
		return fd;
	for (size_t at = 0; at < a.bytes;) {
		ssize_t n = pread(fd, a.data + at, a.bytes - at, (off_t)at);

		if (n <= 0)
			return fd;
		at += (size_t)n;
	}
	for_each_target(damage_member, &a);
	munmap(a.data, a.bytes);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", copy);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	close(copy);
	return ro < 0 ? fd : ro;
}

/* --- bundles in memory ----------------------------------------------------------------------- */

static int damage_bundle(uint8_t *p, size_t room, const struct target *t)
{
	static const char pre_dump[] = "pre-dump/";
	int pre = !strncmp(t->prefix, pre_dump, strlen(pre_dump));
	const char *prefix = t->prefix + (pre ? strlen(pre_dump) : 0);
	struct bundle_head h;
	const struct bundle_entry *e;
	char core[40], pagemap[40];
	int whole = 0, mine = 0;

	memcpy(&h, p, sizeof(h));
	if (h.used_bytes > room || h.toc_offset > h.used_bytes ||
	    h.n_files > (h.used_bytes - h.toc_offset) / sizeof(*e))
		return 0;
	e = (const struct bundle_entry *)(p + h.toc_offset);
	snprintf(core, sizeof(core), "core-%d.img", t->pid);
	snprintf(pagemap, sizeof(pagemap), "pagemap-%d.img", t->pid);
	for (uint64_t i = 0; i < h.n_files; i++) {
		whole |= !strcmp(e[i].name, core);
		mine |= !strcmp(e[i].name, pagemap);
	}
	mine &= whole == !pre;
	for (uint64_t i = 0; mine && i < h.n_files; i++)
		if (!strncmp(e[i].name, prefix, strlen(prefix)) && e[i].bytes) {
			p[e[i].offset + e[i].bytes / 2] ^= 0x10;
			said(t, e[i].name);
			return 1;
		}
	return 0;
}

struct range {
	uint8_t *from, *to;
};

static int damage_range(const struct target *t, void *arg)
{
	const struct range *r = arg;

	for (uint8_t *p = r->from; p + 4096 <= r->to; p += 4096)
		if (!memcmp(p, "CRBUNDLE", 8) && damage_bundle(p, (size_t)(r->to - p), t))
			return 1;
	return 0;
}

/* Neighbouring shared, writable mappings are one range: a store is mapped in pieces. */
static void damage_memory(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	struct range r = { NULL, NULL };
	unsigned long from, to;
	char line[512], mode[8];

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || strcmp(mode, "rw-s"))
			continue;
		if (r.to != (uint8_t *)from) {
			for_each_target(damage_range, &r);
			r.from = (uint8_t *)from;
		}
		r.to = (uint8_t *)to;
	}
	for_each_target(damage_range, &r);
	if (maps)
		fclose(maps);
}

/* --- the calls ------------------------------------------------------------------------------- */

long syscall(long nr, ...)
{
	static long (*real)(long nr, ...);
	long a[6];
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "syscall");
	if (nr == SYS_kexec_file_load)
		a[1] = damage_initramfs((int)a[1]);
	if (nr == SYS_reboot && a[2] == LINUX_REBOOT_CMD_KEXEC) {
		damage_memory();
		while (getenv("CRK_TEST_HOLD"))
			pause();
	}
	return real(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int fd, unsigned long request, ...);
	const char *unwilling = getenv("CRK_TEST_NO_FREEZE");
	char link[40], path[4096] = "";
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (unwilling && request == FIFREEZE && readlink(link, path, sizeof(path) - 1) > 0 &&
	    !strcmp(path, unwilling)) {
		errno = EIO;
		return -1;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "ioctl");
	return real(fd, request, arg);
}

static int is_dump(void)
{
	char path[40], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", getppid());
	f = fopen(path, "re");
	if (f) {
		(void)!fgets(name, sizeof(name), f);
		fclose(f);
	}
	return !strcmp(name, "crkexec-worker\n");
}

long ptrace(enum __ptrace_request request, ...)
{
	static long (*real)(enum __ptrace_request request, ...);
	void *a[3];
	va_list ap;

	va_start(ap, request);
	for (int i = 0; i < 3; i++)
		a[i] = va_arg(ap, void *);
	va_end(ap);
	while (getenv("CRK_TEST_HANG") && is_dump())
		pause();
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "ptrace");
	return real(request, a[0], a[1], a[2]);
}
