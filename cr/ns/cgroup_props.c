/*
 * The settings of a control group: files of cgroup v2 and of the v1 controllers (cgroup-v2.rst, cgroup-v1/
 * in the kernel's documentation) that are worth keeping, by name in the image as they are in the group.
 *
 * What has its default already is not written: it may be one that nobody can set.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "ns/cgroup_state.h"

#define VALUE_MAX	65536u

/* How a file is written again. */
enum how {
	ONE_LINE,
	EACH_LINE,	/* by itself: one for each device, interface */
	DEVICES,	/* by devices.deny and devices.allow */
	OOM,		/* memory.oom_control tells more than it takes */
	AT_THE_END,	/* cgroup_freeze(): nobody could be moved, or stopped */
	OWNER_ONLY,	/* what it says is not ours to say; mode and owner are delegation */
};

/* In the order of writing. What fails is tried again when all others are written (memory and swap). */
static const struct {
	const char *name;
	enum how how;
} properties[] = {
	{ "cgroup.clone_children", ONE_LINE }, { "notify_on_release", ONE_LINE },
	{ "cgroup.max.depth", ONE_LINE }, { "cgroup.max.descendants", ONE_LINE },

	{ "cpuset.cpus", ONE_LINE }, { "cpuset.mems", ONE_LINE },
	{ "cpuset.cpu_exclusive", ONE_LINE }, { "cpuset.mem_exclusive", ONE_LINE },
	{ "cpuset.mem_hardwall", ONE_LINE }, { "cpuset.memory_migrate", ONE_LINE },
	{ "cpuset.memory_spread_page", ONE_LINE }, { "cpuset.memory_spread_slab", ONE_LINE },
	{ "cpuset.sched_load_balance", ONE_LINE },
	{ "cpuset.sched_relax_domain_level", ONE_LINE },

	{ "memory.min", ONE_LINE }, { "memory.low", ONE_LINE }, { "memory.high", ONE_LINE },
	{ "memory.max", ONE_LINE }, { "memory.swap.high", ONE_LINE },
	{ "memory.swap.max", ONE_LINE }, { "memory.zswap.max", ONE_LINE },
	{ "memory.oom.group", ONE_LINE },
	{ "memory.use_hierarchy", ONE_LINE }, { "memory.limit_in_bytes", ONE_LINE },
	{ "memory.memsw.limit_in_bytes", ONE_LINE },
	{ "memory.soft_limit_in_bytes", ONE_LINE }, { "memory.kmem.limit_in_bytes", ONE_LINE },
	{ "memory.kmem.tcp.limit_in_bytes", ONE_LINE }, { "memory.swappiness", ONE_LINE },
	{ "memory.move_charge_at_immigrate", ONE_LINE }, { "memory.oom_control", OOM },

	{ "cpu.weight", ONE_LINE }, { "cpu.max", ONE_LINE }, { "cpu.max.burst", ONE_LINE },
	{ "cpu.shares", ONE_LINE }, { "cpu.cfs_period_us", ONE_LINE },
	{ "cpu.cfs_quota_us", ONE_LINE }, { "cpu.cfs_burst_us", ONE_LINE },
	{ "cpu.rt_period_us", ONE_LINE }, { "cpu.rt_runtime_us", ONE_LINE },
	/* Behind the weights: an idle group takes none. */
	{ "cpu.idle", ONE_LINE },
	{ "cpu.uclamp.min", ONE_LINE }, { "cpu.uclamp.max", ONE_LINE },

	{ "io.weight", EACH_LINE }, { "io.max", EACH_LINE }, { "io.latency", EACH_LINE },
	{ "blkio.weight", ONE_LINE }, { "blkio.weight_device", EACH_LINE },
	{ "blkio.bfq.weight", ONE_LINE }, { "blkio.bfq.weight_device", EACH_LINE },
	{ "blkio.throttle.read_bps_device", EACH_LINE },
	{ "blkio.throttle.write_bps_device", EACH_LINE },
	{ "blkio.throttle.read_iops_device", EACH_LINE },
	{ "blkio.throttle.write_iops_device", EACH_LINE },

	{ "pids.max", ONE_LINE },
	{ "net_cls.classid", ONE_LINE }, { "net_prio.ifpriomap", EACH_LINE },
	{ "hugetlb.2MB.max", ONE_LINE }, { "hugetlb.1GB.max", ONE_LINE },
	{ "hugetlb.2MB.rsvd.max", ONE_LINE }, { "hugetlb.1GB.rsvd.max", ONE_LINE },
	{ "hugetlb.2MB.limit_in_bytes", ONE_LINE }, { "hugetlb.1GB.limit_in_bytes", ONE_LINE },
	{ "hugetlb.2MB.rsvd.limit_in_bytes", ONE_LINE },
	{ "hugetlb.1GB.rsvd.limit_in_bytes", ONE_LINE },
	{ "devices.list", DEVICES },

	{ "cgroup.procs", OWNER_ONLY }, { "cgroup.threads", OWNER_ONLY },
	{ "cgroup.subtree_control", OWNER_ONLY }, { "tasks", OWNER_ONLY },
	{ "freezer.state", AT_THE_END },
};

/* Without the newline at its end; heap. */
static int read_value(int dirfd, const char *name, char **ret)
{
	size_t n;
	int r = read_file_at(dirfd, name, VALUE_MAX, ret, &n);

	if (r >= 0 && n && (*ret)[n - 1] == '\n')
		(*ret)[n - 1] = '\0';
	return r;
}

CgroupPerms *cgroup_perms_of(struct arena *a, int dirfd, const char *name)
{
	CgroupPerms *p = ARENA_MSG(a, CgroupPerms, cgroup_perms);
	struct stat st;

	if (!p || fstatat(dirfd, name, &st, AT_EMPTY_PATH) < 0)
		return NULL;
	p->mode = st.st_mode;
	p->uid = st.st_uid;
	p->gid = st.st_gid;
	return p;
}

/* 1: read, 0: the group has none. */
static int read_property(struct arena *a, int dirfd, size_t i, CgroupPropEntry **ret)
{
	const char *name = properties[i].name;
	_cleanup_free_ char *text = NULL;
	CgroupPropEntry *e;

	if (properties[i].how == OWNER_ONLY ? faccessat(dirfd, name, F_OK, 0) < 0 :
					      read_value(dirfd, name, &text) < 0)
		return 0;
	if (properties[i].how == ONE_LINE && strchr(text, '\n'))
		return 0;
	e = ARENA_MSG(a, CgroupPropEntry, cgroup_prop_entry);
	if (!e)
		return -ENOMEM;
	e->name = (char *)name;
	e->value = arena_strdup(a, text ? text : "");
	e->perms = cgroup_perms_of(a, dirfd, name);
	*ret = e;
	return e->value ? 1 : -ENOMEM;
}

int cgroup_props_read(struct arena *a, int dirfd, CgroupDirEntry *dir)
{
	dir->dir_perms = cgroup_perms_of(a, dirfd, "");
	for (size_t i = 0; i < ARRAY_SIZE(properties); i++) {
		CgroupPropEntry *e, **slot;
		int r = read_property(a, dirfd, i, &e);

		if (r < 0)
			return r;
		if (!r)
			continue;
		slot = ARENA_PUSH(a, dir->properties, dir->n_properties);
		if (!slot)
			return -ENOMEM;
		*slot = e;
	}
	return 0;
}

const CgroupPropEntry *cgroup_prop_find(const CgroupDirEntry *dir, const char *name)
{
	for (size_t i = 0; i < dir->n_properties; i++)
		if (!strcmp(dir->properties[i]->name, name))
			return dir->properties[i];
	return NULL;
}

static bool has_line(const char *text, const char *line)
{
	size_t n = strlen(line);

	for (const char *s = text; s; s = strchr(s, '\n')) {
		s += *s == '\n';
		if (!strncmp(s, line, n) && (!s[n] || s[n] == '\n'))
			return true;
	}
	return false;
}

/* Each line of value that is not among now's. Goes on after errors; the first of them. */
static int put_lines(int dirfd, const char *name, const char *value, const char *now)
{
	_cleanup_free_ char *copy = strdup(value);
	char *save = NULL;
	int ret = copy ? 0 : -ENOMEM;

	for (char *s = copy ? strtok_r(copy, "\n", &save) : NULL; s; s = strtok_r(NULL, "\n", &save)) {
		int r = has_line(now, s) ? 0 : write_file_at(dirfd, name, s);

		ret = ret < 0 ? ret : r;
	}
	return ret;
}

/* "a *:* rwm" alone: all are allowed. */
static int put_devices(int dirfd, const char *value)
{
	int r;

	if (*value == 'a')
		return write_file_at(dirfd, "devices.allow", "a");
	r = write_file_at(dirfd, "devices.deny", "a");
	return r < 0 ? r : put_lines(dirfd, "devices.allow", value, "");
}

/* "oom_kill_disable 1" and other lines; or that number alone. */
static int put_oom(int dirfd, const char *value, const char *now)
{
	static const char key[] = "oom_kill_disable ";
	const char *want = str_starts(value, key) ? value + strlen(key) : value;

	if (str_starts(now, key) && now[strlen(key)] == *want)
		return 0;
	return write_file_at(dirfd, "memory.oom_control", *want == '1' ? "1" : "0");
}

static int put_property(int dirfd, size_t i, const char *value)
{
	const char *name = properties[i].name;
	_cleanup_free_ char *now = NULL;
	int r;

	if (!*value || properties[i].how == OWNER_ONLY || properties[i].how == AT_THE_END)
		return 0;
	r = read_value(dirfd, name, &now);
	if (r < 0)
		return r;
	if (!strcmp(now, value))
		return 0;
	switch (properties[i].how) {
	case EACH_LINE: return put_lines(dirfd, name, value, now);
	case DEVICES: return put_devices(dirfd, value);
	case OOM: return put_oom(dirfd, value, now);
	default: return write_file_at(dirfd, name, value);
	}
}

static void put_perms(int dirfd, const char *name, const CgroupPerms *p)
{
	if (!p)
		return;
	if (fchownat(dirfd, name, p->uid, p->gid, 0) < 0 ||
	    fchmodat(dirfd, name, p->mode & 07777, 0) < 0)
		log_warn("cannot give a group's %s its owner: %s", name, strerror(errno));
}

void cgroup_props_write(int dirfd, const char *path, const CgroupDirEntry *dir)
{
	bool again[ARRAY_SIZE(properties)] = { false };
	const CgroupPropEntry *e;
	int r;

	put_perms(dirfd, ".", dir->dir_perms);
	for (size_t i = 0; i < ARRAY_SIZE(properties); i++) {
		e = cgroup_prop_find(dir, properties[i].name);
		if (!e)
			continue;
		if (faccessat(dirfd, e->name, F_OK, 0) < 0) {
			if (*e->value)
				log_warn("cgroup %s has no %s: its controller is not enabled", path,
					 e->name);
			continue;
		}
		again[i] = put_property(dirfd, i, e->value) < 0;
		put_perms(dirfd, e->name, e->perms);
	}
	for (size_t i = 0; i < ARRAY_SIZE(properties); i++) {
		if (!again[i])
			continue;
		e = cgroup_prop_find(dir, properties[i].name);
		r = put_property(dirfd, i, e->value);
		if (r < 0)
			log_warn("cgroup %s: cannot set %s to %.100s: %s", path, e->name, e->value,
				 strerror(-r));
	}
}
