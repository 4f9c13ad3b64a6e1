/*
 * Writes an initramfs: our own (the early program is /init), or what is appended to another
 * initrd. One uncompressed newc cpio, streamed: nothing is held in memory.
 */
#ifndef INITRAMFS_BUILD_H
#define INITRAMFS_BUILD_H

#include "util/macro.h"

struct initramfs_spec {
	/* Path of the early program, becomes /init; NULL when base_fd is given. */
	const char *early_path;
	/* Module files (.ko, .ko.gz, .ko.xz, .ko.zst): /crkexec/modules/NAME under their names,
	 * but unpacked; load order is the manifest's. Two of the same name are refused. */
	const char *const *modules;
	size_t n_modules;
	/* Absolute paths of files that lie at the same place in it; links are followed. */
	const char *const *firmware;
	size_t n_firmware;
	/* Text of manifest_to_text(): /crkexec/manifest.json. NULL: none. */
	const char *manifest;
	size_t manifest_bytes;
	/* A directory whose contents come to lie below /crkexec; -1: none. Borrowed. */
	int images_fd;
	/* An initrd that is copied in front; -1: none. Borrowed, read from 0. */
	int base_fd;
};

/*
 * Writes at out_fd's position; the file is complete when 0 is returned. Regular files,
 * directories and symbolic links are carried, with mode; all else in images_fd is refused
 * by name, as is a file of 4 GiB and more (-EFBIG: newc has 32-bit sizes).
 */
int initramfs_build(const struct initramfs_spec *spec, int out_fd) _must_check_;

#endif
