/*
 * The manifest of one upgrade: everything the new kernel's side must know that is not in the
 * engine's images. Written by the orchestrator, read by the early program, the generator,
 * the adoption helper and `crkexec status`.
 *
 * JSON (json-c), unknown keys ignored, every string and number checked on load. Its own
 * integrity: see manifest_load().
 *
 * Where it lives: tmpfs store: /crkexec/manifest.json in the initramfs, images below
 * /crkexec/UNIT/. pmem store: in the store's header, images as bundles. The early program
 * leaves it, with the outcome filled in, in /run/crkexec/manifest.json.
 */
#ifndef CRKEXEC_MANIFEST_H
#define CRKEXEC_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CRKEXEC_RUN_DIR		"/run/crkexec"
/* First line of settings in /run/tmpfiles.d that hold for one boot. */
#define CRKEXEC_TMPFILES_MARK	"# Made by crkexec"
#define CRKEXEC_STATE_DIR	"/var/lib/crkexec"	/* reports, kept images of failed trees */
#define CRKEXEC_LOG_DIR		"/var/log/crkexec"
#define CRKEXEC_LIB_DIR		"/usr/lib/crkexec"	/* helpers, early program */
#define CRKEXEC_INITRAMFS_DIR	"/crkexec"
#define CRKEXEC_CMDLINE_KEY	"crkexec"		/* crkexec=ID[,store=pmem:ADDR+SIZE...] */

/* A file of the images with its checksum (XXH3-64). */
struct manifest_image {
	char *name;
	uint64_t bytes, hash;
};

/* The processes of a unit, whoever their parents are, as they were saved together. */
struct manifest_tree {
	pid_t root_pid;
	char *dir;			/* "redis-server.service": under the images directory */
	uint64_t bundle_off, bundle_bytes, bundle_hash;	/* pmem store: inside the store */
	/* The same of a pre-dump, whose pages the bundle refers to; bytes 0: none. */
	uint64_t pre_dump_off, pre_dump_bytes, pre_dump_hash;
	struct manifest_image *images;
	size_t n_images;
};

/* A path on a filesystem that does not outlive the kernel (tmpfs), carried over. */
struct manifest_carry {
	char *path;			/* absolute: "/run/redis" */
	char *archive;			/* file name in the tree's directory holding a tar of it */
	bool only_dir;			/* the directory itself, without contents */
	bool single;			/* not a directory; the tar's root holds this one name */
	bool brought;			/* in memory only: the early program has put something there */
};

/* A descriptor that leads to journald: replaced by a file now, by a stream at adoption. */
struct manifest_stream {
	uint64_t socket_ino;		/* in the old kernel: key "socket:[INO]" for the engine */
};

enum unit_outcome { OUTCOME_PENDING, OUTCOME_RESTORED, OUTCOME_COLD, OUTCOME_ADOPTED };
const char *unit_outcome_name(enum unit_outcome o);

struct manifest_unit {
	char *name;			/* "redis-server.service" */
	char *cgroup;			/* "/system.slice/redis-server.service" */
	char *type;			/* the unit's Type= */
	char *identifier;		/* SYSLOG_IDENTIFIER of its journal lines; may be NULL */
	pid_t main_pid, control_pid;
	struct manifest_tree *trees;	/* one, or none while nothing of it is saved */
	size_t n_trees;
	struct manifest_carry *carries;
	size_t n_carries;
	struct manifest_stream *streams;
	size_t n_streams;
	char **profiles;		/* of AppArmor; the binary of each is in the tree's directory */
	size_t n_profiles;
	char **filesystems;		/* the host's mount points, without "/", that its files are below */
	size_t n_filesystems;
	uint32_t n_connections, n_unaccepted, n_tasks;
	uint64_t image_bytes, dump_usec;	/* without a pre-dump */
	enum unit_outcome outcome;
	char *reason;			/* why cold; names file, object */
	uint64_t frozen_at_usec, restored_at_usec;	/* CLOCK_REALTIME as both kernels agree */
};

struct manifest_mount {			/* host filesystems the trees need */
	char *source;			/* "UUID=…" or a device path or "tmpfs"; MS_BIND: a path */
	char *target, *fstype;
	char *options;			/* of the filesystem, as mount(2)'s data; "" if none */
	uint64_t flags;			/* MS_* */
};

struct manifest_address {
	char *address;			/* "10.77.0.2/24" */
	int family;
	uint32_t flags, scope;
};

struct manifest_link {			/* what is on others comes after them */
	char *name, *mac;		/* name as the old kernel had it; a device is found again by mac */
	uint32_t mtu, index;
	char *kind;			/* "vlan", "bond", "bridge": to be made; NULL: a device */
	char *lower, *master;		/* names: what a VLAN is on; the bond or bridge that has it; or NULL */
	char *settings;			/* of its kind: IFLA_INFO_DATA in hex */
	struct manifest_address *addresses;
	size_t n_addresses;
};

struct manifest_metric {		/* of a route: its MTU and the like */
	uint32_t type, value;		/* RTAX_* */
};

struct manifest_route {
	char *dst;			/* "default" or prefix */
	char *via, *dev, *src;		/* may be NULL; via of another family than dst: RTA_VIA */
	int family;
	uint32_t table, metric, scope, protocol, type;
	uint32_t flags;			/* RTNH_F_* */
	struct manifest_metric *metrics;
	size_t n_metrics;
};

struct manifest_clock {
	int64_t realtime_nsec, monotonic_nsec, boottime_nsec;
	uint64_t tsc, tsc_khz;		/* tsc_khz 0: no invariant TSC, or its rate is not known */
};

enum store_kind { STORE_TMPFS, STORE_PMEM };
const char *store_kind_name(enum store_kind k);

struct manifest_range {			/* physical memory of the pmem store, in order */
	uint64_t addr, bytes;
};

struct manifest_phase {
	char *name;
	uint64_t begin_usec, end_usec;	/* CLOCK_REALTIME */
};

struct manifest {
	char *id;			/* 16 hex digits, random: ties images to this jump */
	char *kernel_from, *kernel_to;
	char *boot_id_from;		/* of the old kernel; NULL if not known */
	char *root_init;		/* what runs as PID 1 afterwards; NULL: /sbin/init */
	enum store_kind store;
	struct manifest_range *ranges;
	size_t n_ranges;
	struct manifest_clock clock;	/* read at commit, the last moment before the jump */
	struct manifest_unit *units;
	size_t n_units;
	struct manifest_mount *mounts;	/* root first, parents before children */
	size_t n_mounts;
	struct manifest_link *links;
	size_t n_links;
	struct manifest_address *lo_addresses;	/* besides those that lo always has */
	size_t n_lo_addresses;
	struct manifest_route *routes;
	size_t n_routes;
	char **policy_rules;		/* RTM_NEWRULE as the kernel listed it, in hex */
	size_t n_policy_rules;
	/* For our own initramfs: file names, and options behind a blank, in load order. Both lists have all they need. */
	char **network_modules;
	size_t n_network_modules;
	char **modules;			/* of disks, file systems and the rest */
	size_t n_modules;
	char **sysctls;			/* "net.ipv4.tcp_timestamps=1": set before the restore */
	size_t n_sysctls;
	char **packet_filter;		/* lines for nft(8): tables "crkexec_NAME", there before the first packet */
	size_t n_packet_filter;
	char **packet_filter_modules;	/* names of what it needs */
	size_t n_packet_filter_modules;
	struct manifest_phase *phases;
	size_t n_phases;
	char **warnings;
	size_t n_warnings;
};

/* All zero; freed by manifest_free(). Strings and arrays are malloc'ed and owned. */
struct manifest *manifest_new(void);
void manifest_free(struct manifest *m);
static inline void manifest_freep(struct manifest **m)
{
	if (*m)
		manifest_free(*m);
}

/*
 * Text with a trailing checksum line ("xxh3 0123456789abcdef\n") over what precedes it. Load
 * refuses a missing or wrong one (-EBADMSG) and any value out of range (-EBADMSG as well), and
 * logs the key. What the text promises after a load: paths are absolute and without ".."; dir,
 * archive, image, unit and link names lead nowhere else; pids are 1..4194304 (main_pid and
 * control_pid may be 0); strings hold no control characters; id, kernel_from, kernel_to and
 * every member not marked "may be NULL" are there.
 */
#define MANIFEST_MAX_BYTES	(64u << 20)
int manifest_to_text(const struct manifest *m, char **ret, size_t *ret_bytes);
int manifest_from_text(const char *text, size_t bytes, struct manifest **ret);
int manifest_load(int dirfd, const char *path, struct manifest **ret);
/* Written to a temporary file, synced and renamed. Mode 0600. */
int manifest_save(const struct manifest *m, int dirfd, const char *path);

/* Of the pre-dump that a unit's images refer to. */
uint64_t manifest_pre_dump_bytes(const struct manifest_unit *u);

int manifest_add_phase(struct manifest *m, const char *name, uint64_t begin_usec,
		       uint64_t end_usec);
int manifest_add_warning(struct manifest *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
