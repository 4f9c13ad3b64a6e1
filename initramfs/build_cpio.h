/* newc cpio archives, written front to back. See the kernel's "initramfs buffer format". */
#ifndef INITRAMFS_BUILD_CPIO_H
#define INITRAMFS_BUILD_CPIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/macro.h"

struct cpio {
	int fd;			/* borrowed */
	uint64_t written;	/* from the start of the whole initrd: padding counts from there */
	uint32_t last_ino;
};

/* A segment begins 4-byte aligned or the kernel does not see it. */
int cpio_begin(struct cpio *c, int fd, uint64_t already_written) _must_check_;
/* Names have no leading slash; parents must have been added before. mode: permission bits. */
int cpio_add_dir(struct cpio *c, const char *name, mode_t mode) _must_check_;
int cpio_add_symlink(struct cpio *c, const char *name, const char *target) _must_check_;
int cpio_add_data(struct cpio *c, const char *name, mode_t mode, const void *p, size_t bytes)
	_must_check_;
/* Streams the file. -EFBIG at 4 GiB, -ENODATA when it shrinks meanwhile. */
int cpio_add_fd(struct cpio *c, const char *name, mode_t mode, int fd) _must_check_;
int cpio_end(struct cpio *c) _must_check_;

/* Copies a whole file; *ret_bytes is how much. */
int copy_fd(int from, int to, uint64_t *ret_bytes) _must_check_;

#endif
