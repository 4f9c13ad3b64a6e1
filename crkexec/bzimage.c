/*
 * The setup header of a Linux/x86 kernel image: Documentation/arch/x86/boot.rst.
 *
 * The version string lies in the setup part, which is small; the rest is not read. An image
 * with an EFI stub is a PE file as well, and so is a unified kernel image, which has no setup
 * header of its own: only "HdrS" decides.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/kernel.h"
#include "util/io.h"

#define SETUP_MAX_BYTES		(64u * 512u)	/* setup_sects is one byte, 64 in use at most */
#define HEADER_END		0x264u
#define XLF_KERNEL_64		1u
#define XLF_5LEVEL_ENABLED	0x40u
#define LOADED_HIGH		1u

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get_u32(const uint8_t *p)
{
	return get_u16(p) | (uint32_t)get_u16(p + 2) << 16;
}

static int parse_version(const uint8_t *data, size_t bytes, struct bzimage *ret,
			 const char **ret_why)
{
	size_t at = (size_t)get_u16(data + 0x20e) + 0x200, n = 0;

	if (at == 0x200 || at >= bytes) {
		*ret_why = "it carries no version";
		return -ENOEXEC;
	}
	while (at + n < bytes && n < sizeof(ret->version) - 1 && data[at + n] > ' ' &&
	       data[at + n] < 0x7f && data[at + n] != '/')
		n++;
	if (!n || at + n >= bytes) {
		*ret_why = "its version cannot be read";
		return -ENOEXEC;
	}
	memcpy(ret->version, data + at, n);
	ret->version[n] = '\0';
	return 0;
}

int bzimage_parse(const uint8_t *data, size_t bytes, struct bzimage *ret, const char **ret_why)
{
	memset(ret, 0, sizeof(*ret));
	*ret_why = "it is not a Linux kernel image";
	if (bytes < HEADER_END)
		return -ENOEXEC;
	if (get_u16(data + 0x1fe) != 0xaa55 || memcmp(data + 0x202, "HdrS", 4)) {
		if (data[0] == 'M' && data[1] == 'Z')
			*ret_why = "it is an EFI program (a unified kernel image?), not a bzImage";
		else if (data[0] == 0x7f && !memcmp(data + 1, "ELF", 3))
			*ret_why = "it is an ELF file (vmlinux?), not a bzImage";
		return -ENOEXEC;
	}
	ret->protocol = get_u16(data + 0x206);
	if (ret->protocol < 0x20c || !(data[0x211] & LOADED_HIGH) ||
	    !(get_u16(data + 0x236) & XLF_KERNEL_64)) {
		*ret_why = "it is not a 64-bit kernel that kexec can load";
		return -ENOEXEC;
	}
	ret->has_high_memory = get_u16(data + 0x236) & XLF_5LEVEL_ENABLED;
	ret->cmdline_max = get_u32(data + 0x238);
	if (ret->cmdline_max < 255 || ret->cmdline_max > 1u << 20) {
		*ret_why = "its header is damaged (length of the command line)";
		return -ENOEXEC;
	}
	/* setup_sects, 0 meaning 4, and the boot sector; syssize in paragraphs. */
	ret->file_bytes = (data[0x1f1] ? data[0x1f1] + 1u : 5u) * 512u +
			  (uint64_t)get_u32(data + 0x1f4) * 16;
	return parse_version(data, bytes, ret, ret_why);
}

int bzimage_read(const char *path, struct bzimage *ret, const char **ret_why)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	_cleanup_free_ uint8_t *data = malloc(SETUP_MAX_BYTES);
	struct stat st;
	size_t n = 0;
	int r;

	*ret_why = NULL;
	if (!data)
		return -ENOMEM;
	if (fd < 0 || fstat(fd, &st) < 0)
		return neg_errno();
	if (!S_ISREG(st.st_mode)) {
		*ret_why = "it is not a file";
		return -ENOEXEC;
	}
	while (n < SETUP_MAX_BYTES) {
		ssize_t got = pread(fd, data + n, SETUP_MAX_BYTES - n, (off_t)n);

		if (got < 0)
			return neg_errno();
		if (got == 0)
			break;
		n += (size_t)got;
	}
	r = bzimage_parse(data, n, ret, ret_why);
	if (r == 0 && (uint64_t)st.st_size < ret->file_bytes) {
		*ret_why = "the file is cut short";
		return -ENOEXEC;
	}
	return r;
}
