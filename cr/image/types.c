/*
 * The table of image types: name, file name, magic. The facts are CRIU's and never change.
 */
#include <ctype.h>
#include <string.h>

#include "image/store.h"

#define COMMON(n, fmt, m)	\
	const struct image_type image_##n = { #n, fmt, m, IMAGE_COMMON };
#define SERVICE(n, fmt, m)	\
	const struct image_type image_##n = { #n, fmt, m, IMAGE_SERVICE };
#define RAW(n, fmt)		\
	const struct image_type image_##n = { #n, fmt, 0, IMAGE_RAW };

const struct image_type image_inventory = { "inventory", "inventory.img", 0x58313116,
					    IMAGE_SINGLE_MAGIC };
COMMON(pstree,		"pstree.img",			0x50273030)
COMMON(core,		"core-%lu.img",			0x55053847)
COMMON(ids,		"ids-%lu.img",			0x54432030)
COMMON(mm,		"mm-%lu.img",			0x57492820)
COMMON(pagemap,		"pagemap-%lu.img",		0x56084025)
RAW(pages,		"pages-%lu.img")
COMMON(fs,		"fs-%lu.img",			0x51403912)
COMMON(fdinfo,		"fdinfo-%lu.img",		0x56213732)
COMMON(files,		"files.img",			0x56303138)
COMMON(seccomp,		"seccomp.img",			0x64413049)
COMMON(timens,		"timens-%lu.img",		0x43114433)
SERVICE(stats_dump,	"stats-dump",			0x57093306)
SERVICE(stats_restore,	"stats-restore",		0x57093306)
COMMON(remap_fpath,	"remap-fpath.img",		0x59133954)
COMMON(ghost_file,	"ghost-file-%lx.img",		0x52583605)
COMMON(pipes_data,	"pipes-data.img",		0x56453709)
COMMON(fifo_data,	"fifo-data.img",		0x59333054)
COMMON(sk_queues,	"sk-queues.img",		0x56264026)
COMMON(tcp_stream,	"tcp-stream-%lx.img",		0x51465506)
COMMON(tty_info,	"tty-info.img",			0x59453036)
COMMON(tty_data,	"tty-data.img",			0x59413026)
COMMON(memfd,		"memfd.img",			0x48453499)
COMMON(pagemap_shmem,	"pagemap-shmem-%lu.img",	0x56084025)
COMMON(bpfmap_data,	"bpfmap-data.img",		0x64324033)
COMMON(filelocks,	"filelocks.img",		0x54323616)
COMMON(apparmor,	"apparmor.img",			0x59423047)
COMMON(cgroup,		"cgroup.img",			0x59383330)
COMMON(cpuinfo,		"cpuinfo.img",			0x61404013)
COMMON(utsns,		"utsns-%lu.img",		0x54473203)
COMMON(ipcns_var,	"ipcns-var-%lu.img",		0x53115007)
COMMON(ipcns_shm,	"ipcns-shm-%lu.img",		0x46283044)
COMMON(ipcns_msg,	"ipcns-msg-%lu.img",		0x55453737)
COMMON(ipcns_sem,	"ipcns-sem-%lu.img",		0x59573019)
COMMON(userns,		"userns-%lu.img",		0x55474906)
COMMON(mountpoints,	"mountpoints-%lu.img",		0x55563928)
RAW(tmpfs_dev,		"tmpfs-dev-%lu.tar.gz.img")
COMMON(netns,		"netns-%lu.img",		0x55933752)
COMMON(netdev,		"netdev-%lu.img",		0x57373951)
RAW(ifaddr,		"ifaddr-%lu.img")
RAW(route,		"route-%lu.img")
RAW(route6,		"route6-%lu.img")
RAW(rule,		"rule-%lu.img")
RAW(iptables,		"iptables-%lu.img")
RAW(ip6tables,		"ip6tables-%lu.img")
RAW(nftables,		"nftables-%lu.img")
RAW(netns_ct,		"netns-ct-%lu.img")
RAW(netns_exp,		"netns-exp-%lu.img")
COMMON(pidns,		"pidns-%lu.img",		0x61157326)
COMMON(autofs,		"autofs-%lu.img",		0x49353943)
COMMON(binfmt_misc,	"binfmt-misc.img",		0x67343323)
SERVICE(irmap_cache,	"irmap-cache",			0x57004059)

static const struct image_type *const types[] = {
#define TABLE(n) &image_##n,
	IMAGE_TYPES(TABLE)
};

static bool name_matches(const char *fmt, const char *name)
{
	const char *percent = strchr(fmt, '%');
	size_t n = percent ? (size_t)(percent - fmt) : 0;
	bool hex;

	if (!percent)
		return !strcmp(fmt, name);
	if (strncmp(fmt, name, n))
		return false;
	hex = percent[2] == 'x';
	name += n;
	for (n = 0; hex ? isxdigit((unsigned char)name[n]) : isdigit((unsigned char)name[n]);)
		n++;
	return n && !strcmp(name + n, percent + 3);
}

static uint32_t word_at(const uint8_t *data, size_t bytes, size_t pos)
{
	uint32_t v = 0;

	if (pos + sizeof(v) <= bytes)
		memcpy(&v, data + pos, sizeof(v));
	return v;
}

const struct image_type *image_identify(const char *name, const uint8_t *data, size_t bytes)
{
	const char *slash = strrchr(name, '/');
	uint32_t magic = word_at(data, bytes, 0);

	if (slash)
		name = slash + 1;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (name_matches(types[i]->file_fmt, name))
			return types[i];
	if (magic == IMAGE_MAGIC_COMMON || magic == IMAGE_MAGIC_SERVICE)
		magic = word_at(data, bytes, 4);
	for (size_t i = 0; magic && i < ARRAY_SIZE(types); i++)
		if (types[i]->magic == magic)
			return types[i];
	return NULL;
}
