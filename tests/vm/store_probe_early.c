/*
 * The new kernel's side of store_probe.c, as PID 1: reads the store by the early program's
 * own functions, compares every byte, says so in the kernel's log, and boots the machine.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <stdarg.h>

#include "initramfs/early_store.h"
#include "initramfs/early_store_pmem.h"
#include "tests/vm/store_probe.h"
#include "util/io.h"
#include "util/log.h"

static void say(const char *fmt, ...) _printf_(1, 2);

static void say(const char *fmt, ...)
{
	char text[512] = "<5>store-probe: ";
	_cleanup_close_ int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	size_t n = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - n, fmt, ap);
	va_end(ap);
	if (write(fd, text, strlen(text)) < 0)
		perror("/dev/kmsg");
}

static int compare(struct image_store *images, uint64_t tree, uint64_t *ret_mib)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	_cleanup_free_ uint8_t *want = malloc(PROBE_CHUNK);
	int r = want ? image_open(images, &image_pages, &rd, 1) : -ENOMEM;
	uint64_t bad = 0;

	if (r < 0)
		return r;
	*ret_mib = rd.bytes / PROBE_CHUNK;
	for (uint64_t i = 0; i < *ret_mib; i++) {
		probe_pattern(want, tree, i);
		bad += memcmp(rd.data + i * PROBE_CHUNK, want, PROBE_CHUNK) != 0;
	}
	return bad ? log_fail(-EBADMSG, "%" PRIu64 " MiB differ", bad) : 0;
}

static void check_tree(struct early *e, size_t i)
{
	const struct manifest_unit *u = &e->manifest->units[i];
	uint64_t begin = clock_usec(CLOCK_BOOTTIME), mib = 0;
	struct early_images images;
	int r;

	log_init(LOGLEVEL_INFO, e->log_fd);
	r = early_images_open(e, &u->trees[0], &images);
	if (r == 0) {
		uint64_t opened = clock_usec(CLOCK_BOOTTIME);

		r = compare(images.store, i, &mib);
		if (r == 0)
			say("%s: %" PRIu64 " MiB right, verified in %" PRIu64 " ms", u->name, mib,
			    (opened - begin) / 1000);
		early_images_close(&images);
	}
	if (r < 0)
		say("%s: %s", u->name, log_first_error());
}

static void keep(struct early *e, size_t i)
{
	const struct manifest_tree *t = &e->manifest->units[i].trees[0];
	_cleanup_free_ char *path = str_fmt("/root/kept-%zu", i);
	_cleanup_close_ int fd = -EBADF;
	int r;

	mkdir(path, 0700);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = early_images_keep(e, t, fd);
	say("kept %zu: %s", i, r < 0 ? strerror(-r) : "done");
}

/* As a kernel with built-in drivers does. */
static void bind(struct early *e)
{
	struct iomem m = { 0 };
	bool bound = false;

	if (early_modules(e) < 0)
		say("no modules");
	for (int i = 0; i < 100 && !bound && iomem_read(&m) == 0; i++) {
		for (size_t k = 0; k < m.n; k++)
			bound |= str_starts(m.v[k].name, "namespace");
		iomem_done(&m);
		usleep(50000);
	}
	say("nd_pmem %s", bound ? "has the memory" : "did not come");
}

/* Once only: the same memory is not taken for a store again. */
static void consume(struct early *e)
{
	struct early again = { .cmdline = e->cmdline };
	int r = early_store_consume(e);

	log_init(LOGLEVEL_INFO, e->log_fd);
	if (r == 0)
		r = early_store_open(&again);
	say("second time: %s", r < 0 ? log_first_error() : "taken");
}

static void boot(struct early *e)
{
	e->manifest = NULL;	/* modules: as they come */
	if (early_modules(e) < 0 || early_mount_root(e) < 0 || early_enter_root(e) < 0)
		early_die(e, "the test cannot boot");
}

int main(int argc, char **argv)
{
	struct early e = {
		.argv = argv, .rootfs_fd = -EBADF, .images_fd = -EBADF, .uevent_fd = -EBADF,
		.log_fd = -EBADF,
	};
	_cleanup_free_ char *text = NULL;
	struct manifest *m;
	int r;

	(void)argc;
	r = early_mount_api(&e);
	if (r == 0)
		r = early_log_open(&e);
	if (r == 0)
		r = read_file_at(AT_FDCWD, "/proc/cmdline", 1u << 20, &text, NULL);
	if (r == 0)
		r = early_cmdline_parse(text, &e.cmdline);
	log_init(LOGLEVEL_INFO, e.log_fd);
	say("up, store=%s", e.cmdline.store ? e.cmdline.store : "none");
	if (text && strstr(text, "store-probe-bind"))
		bind(&e);
	r = e.cmdline.store ? early_store_open(&e) : -ENOENT;
	if (r < 0)
		say("no store: %s", log_first_error());
	for (size_t i = 0; r == 0 && i < e.manifest->n_units; i++)
		check_tree(&e, i);
	m = e.manifest;
	if (r == 0)
		consume(&e);
	boot(&e);
	e.manifest = m;
	for (size_t i = 0; r == 0 && i < m->n_units; i++)
		keep(&e, i);
	early_exec_init(&e);
	return 1;
}
