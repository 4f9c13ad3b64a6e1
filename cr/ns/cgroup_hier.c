/* /proc/PID/cgroup (cgroups(7)) and the mounts of its hierarchies. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>

#include "ns/cgroup_state.h"
#include "ns/state.h"

const char *const cgroup_properties[] = {
	/* v2 */
	"memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.high",
	"memory.swap.max", "memory.zswap.max", "memory.oom.group", "pids.max", "cpu.weight",
	"cpu.max", "cpu.max.burst", "io.weight", "cpuset.cpus", "cpuset.mems",
	/* v1 */
	"memory.limit_in_bytes", "memory.soft_limit_in_bytes", "cpu.shares", "cpu.cfs_period_us",
	"cpu.cfs_quota_us", "blkio.weight",
	/* for their owners: delegation */
	"cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks",
	NULL
};

bool cgroup_property_is_known(const char *name)
{
	for (size_t i = 0; cgroup_properties[i]; i++)
		if (!strcmp(cgroup_properties[i], name))
			return true;
	return false;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct cg_member *)a)->name, ((const struct cg_member *)b)->name);
}

int cgroup_parse(struct arena *a, const char *text, struct cg_set *ret)
{
	char *copy = arena_strdup(a, text), *save = NULL;

	if (!copy)
		return -ENOMEM;
	*ret = (struct cg_set){ 0 };
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *name = strchr(line, ':'), *path = name ? strchr(name + 1, ':') : NULL, *gone;
		struct cg_member *m;

		if (!path || path[1] != '/' || ret->n >= CG_HIERARCHIES_MAX)
			return -EBADMSG;
		*path++ = '\0';
		gone = strstr(path, " (deleted)");
		if (gone && !gone[strlen(" (deleted)")])
			*gone = '\0';
		m = ARENA_PUSH(a, ret->members, ret->n);
		if (!m)
			return -ENOMEM;
		*m = (struct cg_member){ .name = name + 1, .path = path };
	}
	if (ret->n)
		qsort(ret->members, ret->n, sizeof(*ret->members), compare);
	return 0;
}

bool cgroup_sets_equal(const struct cg_set *a, const struct cg_set *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->members[i].name, b->members[i].name) ||
		    strcmp(a->members[i].path, b->members[i].path))
			return false;
	return true;
}

const char *cgroup_path_in(const struct cg_set *set, const char *name)
{
	for (size_t i = 0; set && i < set->n; i++)
		if (!strcmp(set->members[i].name, name))
			return set->members[i].path;
	return NULL;
}

/* Is each of the comma list's words among the mount's options? */
static bool has_options(const char *options, const char *names)
{
	while (*names) {
		size_t n = strcspn(names, ",");
		bool found = false;

		for (const char *o = options; *o && !found;) {
			size_t k = strcspn(o, ",");

			found = k == n && !strncmp(o, names, n);
			o += k + (o[k] == ',');
		}
		if (!found)
			return false;
		names += n + (names[n] == ',');
	}
	return true;
}

void cgroup_find_mount(const struct mount_table *t, struct cg_hierarchy *h)
{
	const char *fstype = *h->name ? "cgroup" : "cgroup2";
	const struct mount *best = NULL;

	h->fd = -EBADF;
	for (size_t i = 0; i < t->n; i++) {
		const struct mount *m = &t->mounts[i];

		if (strcmp(m->fstype, fstype) || !has_options(m->options, h->name))
			continue;
		/* The one that shows most. */
		if (!best || strlen(m->root) < strlen(best->root))
			best = m;
	}
	if (!best)
		return;
	h->root = best->root;
	h->fd = open(best->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int cgroup_open_dir(const struct cg_hierarchy *h, const char *path)
{
	const char *rel = path_below(path, h->root);

	if (!rel)
		return -EXDEV;
	return open_on_mount(h->fd, rel, O_PATH | O_DIRECTORY);
}
