/*
 * Which filesystem is on a device: identifier and label from its superblock, for the few that
 * root filesystems are made of. Everything is read from a buffer whose length is checked.
 *
 *   ext2/3/4  magic 0xef53 at 0x438, uuid at 0x468, label at 0x478
 *   xfs       "XFSB" at 0, uuid at 32, label at 108
 *   btrfs     superblock at 64 KiB: fsid at +0x20, "_BHRfS_M" at +0x40, label at +0x12b
 *   f2fs      0xf2f52010 at 0x400, uuid at 0x46c
 *   vfat      0x55 0xaa at 510 and "FAT" in the boot record; a serial number of four bytes
 */
#include "initramfs/early.h"

#include <string.h>

static bool has(const uint8_t *data, size_t bytes, size_t at, const char *magic, size_t n)
{
	return at + n <= bytes && !memcmp(data + at, magic, n);
}

static void put_uuid(struct fs_id *id, const uint8_t *u)
{
	snprintf(id->uuid, sizeof(id->uuid),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11],
		 u[12], u[13], u[14], u[15]);
}

static void put_serial(struct fs_id *id, const uint8_t *s)
{
	snprintf(id->uuid, sizeof(id->uuid), "%02X%02X-%02X%02X", s[3], s[2], s[1], s[0]);
}

static void put_label(struct fs_id *id, const uint8_t *label, size_t max, char pad)
{
	size_t n = strnlen((const char *)label, MIN(max, sizeof(id->label) - 1));

	while (n && pad && label[n - 1] == (uint8_t)pad)
		n--;
	memcpy(id->label, label, n);
	id->label[n] = '\0';
}

int fs_probe(const uint8_t *data, size_t bytes, struct fs_id *ret)
{
	*ret = (struct fs_id){ 0 };
	if (has(data, bytes, 0x438, "\x53\xef", 2) && bytes >= 0x488) {
		ret->type = "ext4";
		put_uuid(ret, data + 0x468);
		put_label(ret, data + 0x478, 16, 0);
	} else if (has(data, bytes, 0, "XFSB", 4) && bytes >= 120) {
		ret->type = "xfs";
		put_uuid(ret, data + 32);
		put_label(ret, data + 108, 12, 0);
	} else if (has(data, bytes, 0x10040, "_BHRfS_M", 8) && bytes >= 0x1022b) {
		ret->type = "btrfs";
		put_uuid(ret, data + 0x10020);
		put_label(ret, data + 0x1012b, 256, 0);
	} else if (has(data, bytes, 0x400, "\x10\x20\xf5\xf2", 4) && bytes >= 0x47c) {
		ret->type = "f2fs";
		put_uuid(ret, data + 0x46c);
	} else if (has(data, bytes, 510, "\x55\xaa", 2) && has(data, bytes, 82, "FAT32", 5)) {
		ret->type = "vfat";
		put_serial(ret, data + 67);
		put_label(ret, data + 71, 11, ' ');
	} else if (has(data, bytes, 510, "\x55\xaa", 2) && has(data, bytes, 54, "FAT1", 4)) {
		ret->type = "vfat";
		put_serial(ret, data + 39);
		put_label(ret, data + 43, 11, ' ');
	} else {
		return -ENOENT;
	}
	return 0;
}
