/* kexec_file_load(2): loading, unloading, and why it was refused. */
#ifndef CRKEXEC_LOAD_H
#define CRKEXEC_LOAD_H

#include "crkexec/upgrade.h"

/* Before anything: kexec_load_disabled, the limit, a kernel loaded by others. Says problems. */
int load_check(struct upgrade *u) _must_check_;
/* Replaces what is loaded. initrd_fd: see kexec_readonly(). Says problems. */
int load_kernel(struct upgrade *u, int initrd_fd) _must_check_;
/* 1: an image is loaded. */
int kexec_is_loaded(void);
int kexec_unload(void) _must_check_;
/* The kernel guards itself against root: unsigned kernels, /dev/mem. */
bool lockdown_is_on(void);
/*
 * The kernel refuses a file that is open for writing (ETXTBSY): gives a read-only descriptor
 * of a memfd and closes *fd.
 */
int kexec_readonly(int *fd, int *ret_fd) _must_check_;

#endif
