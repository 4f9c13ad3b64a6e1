/* Unpacks what distributions compress: initrds and kernel modules (gzip, xz, zstd). */
#ifndef INITRAMFS_BUILD_UNPACK_H
#define INITRAMFS_BUILD_UNPACK_H

#include <stdint.h>
#include <sys/types.h>

#include "util/macro.h"

/* Takes the next n bytes; a negative errno ends the unpacking. */
typedef int (*unpack_fn)(void *arg, const uint8_t *data, size_t n);

/*
 * The one compressed stream that begins at data. Returns the bytes of it, what follows is the
 * caller's; -EOPNOTSUPP when it is none of these formats, -EBADMSG when damaged or cut off,
 * else fn's error. fn may have been called before an error shows.
 */
ssize_t unpack(const uint8_t *data, size_t n, unpack_fn fn, void *arg) _must_check_;

#endif
