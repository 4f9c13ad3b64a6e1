/*
 * The kernel that takes over: found by version or path, checked for being one, with the
 * initrd, configuration and modules that belong to it.
 */
#ifndef CRKEXEC_KERNEL_H
#define CRKEXEC_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "crkexec/strv.h"

struct target {
	char *version;			/* as `uname -r` will say; from the image itself */
	char *image;			/* path of the bzImage */
	char *initrd;			/* the distribution's, or given; NULL: none found */
	char *config;			/* path; NULL: none found */
	char *modules_dir;		/* /usr/lib/modules/VERSION; NULL: none */
	uint32_t cmdline_max;		/* of this kernel, without the NUL */
	bool has_high_memory;		/* 57-bit addresses, where the processor has them */
	bool own_initramfs;		/* our own carrier; false: initrd with ours appended */
};

void target_done(struct target *t);

/* bzimage.c: what the header of a kernel image says. */
struct bzimage {
	char version[65];		/* first word of the version string */
	uint32_t cmdline_max;
	uint16_t protocol;
	bool has_high_memory;		/* CONFIG_X86_5LEVEL, or a kernel that always has it */
	uint64_t file_bytes;		/* the least a whole image has; signatures come behind it */
};
/*
 * data: the beginning of the file. -ENOEXEC with *ret_why (static text) when it is not a
 * 64-bit bzImage that kexec_file_load(2) takes. Documentation/arch/x86/boot.rst.
 */
int bzimage_parse(const uint8_t *data, size_t bytes, struct bzimage *ret, const char **ret_why)
	_must_check_;
int bzimage_read(const char *path, struct bzimage *ret, const char **ret_why) _must_check_;

/* kernel_find.c. Where a kernel may be; roots are "" but in tests. */
struct kernel_entry {
	char *version, *image, *initrd;
};
struct kernel_list {
	struct kernel_entry *v;
	size_t n;
};
/* /boot/vmlinuz-*, /usr/lib/modules/<version>/vmlinuz, BLS entries; newest last. */
int kernel_list(const char *root, struct kernel_list *ret) _must_check_;
void kernel_list_done(struct kernel_list *l);
/* "6.12.1 < 6.12.10", "7.2~rc1 < 7.2": <0, 0, >0. */
int kernel_version_compare(const char *a, const char *b);
/* A version has digits and no slash; all else given to --kernel is a path. */
bool kernel_is_version(const char *s);
/* First of the files /boot/initrd.img-V ... that exists, else NULL. */
char *kernel_find_initrd(const char *root, const char *version);
char *kernel_find_config(const char *root, const char *version);
char *kernel_find_modules(const char *root, const char *version);

/* kconfig.c. */
struct kconfig_need {
	const char *option;		/* without CONFIG_ */
	const char *why;
};
extern const struct kconfig_need kconfig_needs[];	/* ends with NULL */
/* Options of needs that are neither y nor m in the configuration's text. */
int kconfig_missing(const char *text, const struct kconfig_need *needs, struct strv *ret)
	_must_check_;

/* initrd.c. What the file names inside an initrd tell. */
struct initrd_info {
	struct strv versions;		/* kernels that it has modules of */
	bool has_early;			/* our dracut module is inside */
	bool unreadable;		/* compressed in a way we cannot read, or damaged */
};
int initrd_scan(const char *path, struct initrd_info *ret) _must_check_;
void initrd_info_done(struct initrd_info *i);

/*
 * firmware.c: adds the paths ("/lib/firmware/...", below root) of installed files that a driver of kernel `version`
 * may ask for by `name`, which may be a pattern.
 */
int firmware_find(const char *root, const char *version, const char *name, struct strv *ret) _must_check_;

#endif
