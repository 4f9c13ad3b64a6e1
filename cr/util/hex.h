/* Bytes as text: two lower-case digits each. */
#ifndef CR_UTIL_HEX_H
#define CR_UTIL_HEX_H

#include <stddef.h>

#include "util/macro.h"

/* Heap; NULL: no memory. */
char *hex_text(const void *data, size_t bytes);
/* -EBADMSG: no such text, -E2BIG: more than fits. *ret_bytes: how many it was. */
int hex_bytes(const char *text, void *buf, size_t size, size_t *ret_bytes) _must_check_;

#endif
