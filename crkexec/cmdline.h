/* The next kernel's command line: this one's, cleaned, with what we and the operator add. */
#ifndef CRKEXEC_CMDLINE_H
#define CRKEXEC_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>

#include "util/macro.h"

/*
 * current: /proc/cmdline. Left out of it: what a boot loader or an earlier upgrade put there
 * (BOOT_IMAGE=, initrd=, crkexec=, the memmap= of a store of ours) and with own_initramfs
 * rdinit=. Double quotes are kept together as the kernel does. ours and append may be NULL.
 * -E2BIG when longer than max.
 */
int cmdline_build(const char *current, const char *ours, const char *append, bool own_initramfs,
		  size_t max, char **ret) _must_check_;

/* The value of the last key=value, a heap string; NULL when there is none. */
char *cmdline_get(const char *cmdline, const char *key);
/* A word without value, anywhere: the decompressor knows no "--". */
bool cmdline_has(const char *cmdline, const char *word);

#endif
