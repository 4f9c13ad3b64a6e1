/* The file names of a newc cpio archive, fed in pieces. */
#ifndef CRKEXEC_CPIO_NAMES_H
#define CRKEXEC_CPIO_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "util/macro.h"

#define CPIO_HEADER_BYTES	110u
#define CPIO_NAME_MAX		4096u

struct cpio_names {
	void (*fn)(void *arg, const char *name);
	void *arg;
	enum { CPIO_HEADER, CPIO_NAME, CPIO_SKIP, CPIO_END } state;
	uint64_t pos, skip;		/* pos: in this archive, for the alignment */
	size_t have, name_bytes;
	uint64_t file_bytes;
	char buf[CPIO_NAME_MAX + 1];
};

/*
 * Consumes up to n bytes; stops after the trailer (state CPIO_END). Zeros before a header are
 * passed over. Returns what was consumed, or -EBADMSG.
 */
ssize_t cpio_names_feed(struct cpio_names *c, const uint8_t *data, size_t n) _must_check_;

#endif
